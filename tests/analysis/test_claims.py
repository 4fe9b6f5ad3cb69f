import json

import numpy as np
import pandas as pd
import pytest

from analysis.claims import claims_table, judge, main, parts_table, render
from analysis.findings.paper import FINDINGS
from analysis.records.io import write_record
from tests.analysis.conftest import made_up, write_summary
from tests.helpers.fake_grid import cells, flat, noise, records


def sweep(dataset: str = "vts", seeds: int = 3, **changes) -> pd.DataFrame:
    errors = noise(len(cells(dataset)), seeds, np.random.default_rng(0), shared=0.01, own=0.003)
    return records(dataset, flat, errors=errors, seeds=seeds).assign(**changes)


@pytest.fixture(scope="module")
def judgements():
    return judge(pd.concat([sweep(), sweep("xbd")], ignore_index=True))


@pytest.fixture
def folder(tmp_path, rows):
    return write_summary(tmp_path, rows)


def test_every_finding_is_asked_of_every_study(judgements):
    assert [j.finding.key for j in judgements] == 2 * [finding.key for finding in FINDINGS]
    assert {j.study for j in judgements} == {"vts on made up", "xbd on made up"}


def test_studies_that_differ_in_their_data_alone_have_names_of_their_own():
    both = judge(pd.concat([sweep("cifar10"), sweep("cifar10", data="beef")], ignore_index=True))
    names = ["cifar10 on made up, data beef", "cifar10 on made up, data f00d"]
    assert sorted({j.study for j in both}) == names
    assert render(both).count("3 seeds, test accuracy") == 2


@pytest.mark.parametrize(
    ("task", "said"), [("change", "what changed between the two"), ("classes_from_pair", "classes")]
)
def test_claims_on_another_target_are_judged_by_its_score_and_marked(task, said):
    plain = sweep("xbd")
    other = plain.assign(task=task, test_f1_changed=plain["test_f1_macro"] / 2, test_f1_unchanged=1.0)
    found = judge(other)
    assert claims_table(found)["asked"].all()
    assert not claims_table(judge(plain.assign(task="segmentation")))["asked"].any()
    text = " ".join(render(found).split())
    assert f"The paper does not predict {said}" in text
    assert text.startswith(f"xbd on made up, {task}: 3 seeds")
    assert ("test F1 of change" in text) == (task == "change")
    robust = {j.finding.key: j.parts[0].estimate.estimate for j in found if j.finding.key == "moco_gains_real"}
    before = next(j for j in judge(plain) if j.finding.key == "moco_gains_real").parts[0].estimate.estimate
    assert robust["moco_gains_real"] == pytest.approx(before / (2 if task == "change" else 1))


def test_holm_corrects_for_the_findings_asked_of_the_study(judgements):
    for study in {j.study for j in judgements}:
        known = [(j.p, j.p_holm) for j in judgements if j.study == study and not np.isnan(j.p)]
        raw, corrected = np.array(sorted(known)).T
        # The definition of Holm's correction: the largest of (m - i) p_i so far.
        expected = [min(1, max((len(raw) - i) * raw[i] for i in range(k + 1))) for k in range(len(raw))]
        np.testing.assert_allclose(corrected, expected)


def test_p_supports_where_the_interval_does(judgements):
    for j in judgements:
        for part in j.parts:
            if np.isfinite(part.p) and part.estimate.cells == part.expected:
                assert (part.p < 0.05) == (part.verdict == "supported")


def test_table_has_a_row_a_finding_with_the_part_that_speaks_most_against_it(judgements):
    table = claims_table(judgements)
    assert len(table) == len(judgements)
    for row, j in zip(table.to_dict("records"), judgements, strict=True):
        assert (row["verdict"], row["decide"], row["parts"]) == (j.verdict, j.decide, len(j.parts))
        if j.parts:
            assert row["part"] == min(j.parts, key=lambda part: part.slack).name
            assert row["estimate"] == pytest.approx(100 * j.weakest.estimate.estimate)
            assert row["low"] <= row["estimate"] <= row["high"]


def test_tables_keep_their_types_whatever_they_hold(judgements):
    for make in (claims_table, parts_table):
        empty, full = make([]).dtypes, make(judgements).dtypes
        numbers = [name for name, kind in full.items() if kind in ("float64", "Int64")]
        assert len(numbers) >= 7
        assert (empty[numbers] == full[numbers]).all()


def test_tables_can_be_written(judgements, tmp_path):
    for make in (claims_table, parts_table):
        make(judgements).to_parquet(tmp_path / "table.parquet")
        assert len(pd.read_parquet(tmp_path / "table.parquet")) == len(make(judgements))


def test_text_stays_within_its_width_and_begins_each_claim_with_its_verdict(judgements):
    for width in (80, 120):
        text = render(judgements, width=width)
        assert max(map(len, text.splitlines())) <= width
        for j in judgements:
            if j.verdict != "not applicable":
                assert f"{j.verdict:<16}{j.finding.key} (" in text
    assert "the paper says this about CIFAR-10: false_positives_hurt, false_positives_sensitive" in " ".join(
        text.split()
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"source": "folder textures (bark, moss, sand, clay)", "pretrain_steps": 960},
            "about scenes of folder textures (classes bark and moss; noise sand; irrelevant noise clay), 3 seeds, 960 "
            "steps of pretraining. An interval over seeds says nothing about other textures.",
        ),
        ({"source": "two textures (a, b)", "pretrain_steps": None}, "about two textures (a, b), 3 seeds. An interval"),
        (
            {"dataset": "xbd", "source": "xBD (15 pairs)", "pretrain_steps": 2000},
            "about xBD (15 pairs), 3 seeds, 2,000",
        ),
        ({"dataset": "xbd", "source": None}, "about data that are not named, 3 seeds"),
    ],
)
def test_text_says_what_the_verdicts_are_about(changes, said):
    text = " ".join(render(judge(sweep(**changes))).split())
    assert f"These verdicts are {said}" in text
    assert text.count("These verdicts") == 1


def test_text_counts_the_verdicts(judgements):
    counts = pd.Series([j.verdict for j in judgements if j.study.startswith("vts")]).value_counts()
    line = render(judgements).splitlines()[1]
    assert line.startswith(f"{len(FINDINGS)} findings: {counts.get('supported', 0)} supported, ")


def test_text_shows_all_when_asked(judgements):
    assert render(judgements, everything=True).count("\nnot applicable ") > 2


def test_text_shows_no_control_characters():
    assert "\x1b" not in render(judge(sweep("cifar10", source="\x1b[31mred")))


def test_margin_and_level_out_of_range_are_refused():
    for options in ({"margin": 0.0}, {"margin": float("nan")}, {"level": 1.0}):
        with pytest.raises(ValueError, match="must be above 0 and level"):
            judge(sweep("cifar10"), **options)


def test_all_scores_equal_decides_nothing_that_is_bounded_by_zero():
    judged = judge(records("vts"))
    for j in judged:
        if any(part.region.above == 0 or part.region.below == 0 for part in j.parts):
            assert j.verdict == "undecided"


def test_nothing_but_failed_cells():
    frame = sweep().assign(status="failed", test_f1_macro=np.nan, val_f1_macro=np.nan)
    for j in judge(frame):
        assert j.verdict in ("undecided", "not applicable")
        assert j.decide
    assert "failed or not run" in render(judge(frame))


def test_a_grid_of_which_most_is_missing_is_not_judged():
    # A sweep whose second seed has just started.
    frame = sweep(seeds=2)
    begun = frame[(frame["seed"] == 0) | (frame["rho"] <= 0.25)]
    (j,) = (j for j in judge(begun) if j.finding.key == "full_noise_drops")
    assert j.verdict == "undecided"
    assert j.decide == "only 3 of 12 cells have two seeds: run the others"


def test_command_prints_text_csv_and_json(folder, capsys):
    assert main([str(folder)]) == 0
    text = capsys.readouterr().out
    assert "3 seeds, test macro F1" in text
    assert main([str(folder), "--format", "csv", "--margin", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(FINDINGS) + 1
    assert lines[0].split(",") == list(claims_table([]).columns)
    assert main([str(folder), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [claim["key"] for claim in found] == [finding.key for finding in FINDINGS]
    (full,) = (claim for claim in found if claim["key"] == "full_noise_no_gain")
    assert [part["part"] for part in full["parts"]] == ["moco", "within_image"]


def test_command_answers_a_mistake_in_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: no records in ")
    for bad in (["--margin", "0"], ["--margin", "x"], ["--level", "1"]):
        with pytest.raises(SystemExit) as caught:
            main([str(tmp_path), *bad])
        assert caught.value.code == 2
        assert "use a number above 0 and below" in capsys.readouterr().err


def test_command_names_conflicts_on_the_side(tmp_path, rows, classes, capsys):
    for row in rows[:3]:
        write_record(tmp_path / "one", row, classes)
        write_record(tmp_path / "other", row | {"test_f1_macro": 0.1}, classes)
    assert main([str(tmp_path / "one"), str(tmp_path / "other")]) == 0
    printed = capsys.readouterr()
    assert "conflict: " in printed.err
    assert "conflict: " not in printed.out


def test_a_contradicted_finding_shows_the_part_that_contradicts_it():
    # Within-image is clearly worse, MoCo undecided, and cross-image was not run. NaN must not hide within-image.
    errors = {"moco": (-0.05, 0.0, 0.04), "within_image": (-0.0502, -0.05, -0.0498)}
    rows = []
    for loss, gains in errors.items():
        for seed, gain in enumerate(gains):
            rows.append(made_up(loss, 0.0, 0.0, "none", seed, 0.6, source="made up"))
            rows.append(made_up(loss, 0.5, 0.5, "noisy", seed, 0.6 + gain, source="made up"))
    (one,) = (j for j in judge(pd.DataFrame(rows)) if j.finding.key == "benefit_partial")
    assert one.verdict == "contradicted"
    assert one.weakest.name == "within_image"
    # The interval is that of the verdict, at the corrected level.
    assert one.weakest.estimate.level == pytest.approx(1 - 0.05 / 2)
    shown = claims_table([one]).iloc[0]
    assert (shown["part"], shown["high"] < 0) == ("within_image", True)
