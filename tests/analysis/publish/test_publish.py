"""A published folder says what the sweep's folder says, tells nothing private, and loaders of data sets read it."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from analysis import claims
from analysis.publish import __main__ as publish
from analysis.publish.card import AUTHORS, PAPER, PAPER_URL, SOFTWARE, Contents, Details, card, limits, metadata
from analysis.publish.croissant import CROISSANT, described_files, sha256
from analysis.publish.private import told_places
from analysis.records.io import read_curves, read_records, write_curves
from analysis.records.studies import studies
from tests.analysis.conftest import grid, made_up, write_summary

ROOT = Path(__file__).parents[3]
SECRETS = ("ann", "secret-host", "10.1.2.3", "bucket")
ERROR = (
    "cannot read /home/ann/x.png on secret-host (error in the cell, tried 2 times; logs/sweep.log) | "
    'File "/home/ann/noisy-pairs/trainables/run_cell.py", line 7 | OSError: 10.1.2.3 is gone'
)
SETTINGS = {
    "preset": "vts-quick",
    "seeds": [0, 1, 2],
    "grown": {"added": {}, "level": 0.99},
    "out": "/home/ann/sweep",
    "data_root": "/home/ann/photos",
    "store": "/scratch/ann",
    "imagenet_weights": "/home/ann/w.pth",
    "encoders": "s3://bucket/ann/kept",
    "engine": {"compile": "no"},
    "recipe": {"encoder": {"weights": "/home/ann/my files/w.pth 0123456789abcdef"}, "data": {"categories": ["a/b"]}},
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("x") / "my sweep"
    rows = [row | {"commit": "e9d9addf" * 5, "seconds": 60.0, "device": "cpu"} for row in grid(2)]
    rows[1] |= {"weights": "/home/ann/w.pth 0123456789abcdef", "source": "procedural textures (a, b, c)"}
    rows.append(made_up("moco", 0.5, 0.25, seed=9, status="failed", f1=None) | {"error": ERROR})
    write_summary(folder, [row | {"source": "procedural textures (a, b, c)"} for row in rows])
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SETTINGS))
    for row in rows[:2]:
        write_curves(folder, row["key"], [("pretrain", 1, "loss", 2.0), ("probe", 1, "val_f1_macro", None)])
    return folder


@pytest.fixture(scope="module")
def made(sweep, tmp_path_factory):
    """With one figure, because drawing all of them takes seconds."""
    out = tmp_path_factory.mktemp("y") / "published"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "DRAWN", ("fig4",))
        assert publish.main([str(sweep), "--out", str(out)]) == 0
    return out


def contents_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_records_are_those_of_the_sweep_but_for_private_texts(sweep, made):
    own, published = read_records(sweep), read_records(made)
    assert published["weights"].dropna().unique() == ["w.pth 0123456789abcdef"]
    assert published["error"].dropna().unique() == ["error in the cell, tried 2 times"]
    private = ["weights", "error"]
    pd.testing.assert_frame_equal(own.drop(columns=private), published.drop(columns=private))
    pd.testing.assert_frame_equal(read_curves(sweep), read_curves(made))


def test_the_claims_are_those_that_the_command_prints(made, capsys):
    assert claims.main([str(made)]) == 0
    head, _, text = capsys.readouterr().out.partition("\n\n")
    assert head.startswith("99% intervals")  # of the seeds that were added
    assert (made / "claims.txt").read_text() == text
    assert f"{claims_in(made)} findings" in text


def claims_in(folder):
    return len(pd.read_csv(folder / "claims.csv"))


def test_publishing_the_folder_again_gives_the_same_files(made, tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "DRAWN", ("fig4",))
    again = tmp_path / "elsewhere" / "again"
    assert publish.main([str(made), "--out", str(again), "--name", "my-sweep"]) == 0
    assert contents_of(again) == contents_of(made)


def test_nothing_private_is_told(made):
    assert set(contents_of(made)) == {
        *("README.md", CROISSANT, "sweep.yaml", "summary.parquet", "curves/curves.parquet"),
        *("tables.txt", "claims.txt", "claims.csv", "figures/vts-fig4.svg"),
    }
    texts = {name: text.decode() for name, text in contents_of(made).items() if not name.endswith(".parquet")}
    texts["records"] = read_records(made).to_csv()
    for name, text in texts.items():
        assert not [secret for secret in SECRETS if re.search(rf"\b{re.escape(secret)}\b", text)], name
        assert not told_places(text), name
    settings = yaml.safe_load(texts["sweep.yaml"])
    assert settings["out"] == "results/my-sweep"
    assert settings["encoders"] == "kept"
    assert settings["data_root"] is settings["store"] is settings["imagenet_weights"] is None
    assert settings["recipe"]["encoder"]["weights"] == "w.pth 0123456789abcdef"
    for name in ("preset", "seeds", "grown", "engine"):
        assert settings[name] == SETTINGS[name]
    assert settings["recipe"]["data"] == SETTINGS["recipe"]["data"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of rdflib, about its own code
def test_croissants_own_library_finds_no_fault_and_reads_the_records(made):
    croissant = pytest.importorskip("mlcroissant")
    data = croissant.Dataset(made / CROISSANT)
    assert not data.metadata.ctx.issues.errors
    assert not data.metadata.ctx.issues.warnings
    assert [one.uuid for one in data.metadata.record_sets] == ["summary", "curves"]
    for name, path in {"summary": "summary.parquet", "curves": "curves/curves.parquet"}.items():
        read = [{key.split("/", 1)[1]: value for key, value in row.items()} for row in data.records(name)]
        texts = [{k: v.decode() if isinstance(v, bytes) else v for k, v in row.items()} for row in read]
        stored = pq.read_table(made / path).to_pylist()
        assert [{k: None if v != v else v for k, v in row.items()} for row in texts] == stored


def test_the_metadata_describes_every_file_with_its_digest(made):
    described = {one["@id"]: one for one in json.loads((made / CROISSANT).read_text())["distribution"]}
    assert set(described) == {*contents_of(made)} - {"README.md", CROISSANT}
    assert {one["sha256"] for one in described.values()} == {sha256(path) for path in described_files(made)}
    assert all(
        described[name]["contentSize"] == f"{len(text)} B"
        for name, text in contents_of(made).items()
        if name in described
    )


def test_the_head_of_the_card_names_the_licence_and_the_tables(made):
    _, head, text = (made / "README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(head)
    assert head["license"] == "mit"
    assert {one["config_name"]: one["data_files"] for one in head["configs"]} == {
        "summary": "summary.parquet",
        "curves": "curves/curves.parquet",
    }
    assert head["size_categories"] == ["n<1K"]
    assert all((made / link).is_file() for link in re.findall(r"\]\(([^)]+)\)", text))
    columns = set(re.findall(r"^\| `([^`]+)` ", text, re.MULTILINE))
    assert columns == {*pd.read_parquet(made / "summary.parquet"), *pd.read_parquet(made / "curves/curves.parquet")}
    assert "| 57, 1 failed, 36 more not run |" in text  # of 31 points, one of the failed cell, at 3 seeds
    assert "fewer than three seeds" in text


@pytest.mark.parametrize(
    ("dataset", "source", "said"),
    [
        ("vts", "procedural textures (a, b, c)", "procedural textures in place of DTD"),
        ("vts", "folder textures (wool, cork, linen)", "photographs from a folder in place of DTD"),
        ("vts", None, "textures that are not named in place of DTD"),
        ("vts", "dtd textures (stratified, veined, matted)", ""),
        ("cifar10", "CIFAR-10 (50000 + 10000 images)", ""),
        ("cifar10", "other images in CIFAR-10's format (10000 + 2000 images)", "no result here is one on CIFAR-10"),
        ("xbd", "12 pairs", ""),
    ],
)
def test_results_on_stand_ins_are_not_called_results_on_the_papers_data(frame, dataset, source, said):
    records = frame([made_up("random", 0.0, 0.0, "none", dataset=dataset, source=source)])
    contents = Contents(
        records=records,
        studies=studies(records),
        judgements=[],
        missing=[0],
        preset="vts-quick, changed",
        figures=[],
        tables={},
    )
    lines = limits(contents)
    assert lines[0].startswith("It is not a reproduction of the paper")
    assert "the preset `vts-quick`, a small setting for short runs, with changes" in lines[1]
    assert ("no result here is one on" in " ".join(lines)) == bool(said)
    assert said in " ".join(lines)
    details = Details(name="x", license="MIT", creator="someone", url="https://example.org/x")
    assert all(line in card(details, contents) for line in lines)
    assert all(line in metadata(details, contents)["description"] for line in lines)
    assert metadata(details, contents)["url"] == "https://example.org/x"


def test_what_the_card_cites_is_what_the_project_says_to_cite(made):
    project = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (paper,) = project["references"]
    assert (project["title"], project["authors"][0]["name"]) == (SOFTWARE, AUTHORS)
    assert (paper["title"], paper["url"]) == (PAPER, PAPER_URL)
    text = (made / "README.md").read_text()
    authors = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    for one in (authors, paper["journal"], str(paper["year"]), project["license"], "e9d9addfe9d9"):
        assert one in text
    assert json.loads((made / CROISSANT).read_text())["citeAs"] in text


def test_a_folder_with_something_in_it_is_refused_and_stays(sweep, tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    for out in (tmp_path, tmp_path / "mine"):
        assert publish.main([str(sweep), "--out", str(out)]) == 2
        assert "name a folder that is new or empty" in capsys.readouterr().err
    assert contents_of(tmp_path) == {"mine": b"mine"}


def test_a_folder_that_cannot_be_completed_does_not_appear(sweep, tmp_path, monkeypatch, capsys):
    def fails(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(publish, "judge", fails)  # when records and curves have been written
    assert publish.main([str(sweep), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "error: No space left on device\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("results/my sweep", "my-sweep"),
        ("results/vts/summary.parquet", "vts"),
        ("results/both.parquet", "both"),
        ("s3://bucket/x/vts", "vts"),
        ("s3://bucket/vts/summary.parquet", "vts"),
        ("s3://bucket/both.parquet", "both"),
    ],
)
def test_the_name_is_that_of_the_sweep(given, name):
    assert publish._name(given) == name


def test_a_damaged_sweep_yaml_is_a_line(sweep, tmp_path, capsys):
    shutil.copy(sweep / "summary.parquet", tmp_path)
    for text in ("a: [", "- 1"):
        (tmp_path / "sweep.yaml").write_text(text)
        assert publish.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
        assert "sweep.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--license", "a b"], ["--url", "x.org"], ["--name", "a/b"]])
def test_a_malformed_option_is_a_line(words, capsys):
    with pytest.raises(SystemExit) as exited:
        publish.main(["DIR", "--out", "x", *words])
    assert exited.value.code == 2
    assert f"{words[1]!r}" in capsys.readouterr().err
