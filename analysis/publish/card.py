"""The card of a published folder: README.md, with the YAML at its head that Hugging Face's hub reads."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from analysis.claims import claims_table, count_verdicts, mean_text
from analysis.findings.verdicts import Judgement
from analysis.names import in_order
from analysis.records.schema import Column, columns_markdown
from analysis.records.studies import Study

#: The paper, and what the citation of the software needs besides its version: those of CITATION.cff, as a test holds.
AUTHORS = "The authors of noisy-pairs"
SOFTWARE = "noisy-pairs: do noisy positive pairs hurt contrastive pretraining for segmentation?"
PAPER = "Contrastive pretraining for semantic segmentation is robust to noisy positive pairs"
PAPER_URL = "https://arxiv.org/abs/2211.13756"

KEYWORDS = ("contrastive learning", "noisy pairs", "semantic segmentation", "self-supervised learning")

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True, kw_only=True)
class Details:
    """What the records do not say, but a publication does."""

    name: str
    """Of the data set, such as `vts-quick`."""
    license: str
    """An SPDX identifier."""
    creator: str
    url: str | None = None
    """The page on which it will be."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """What a published folder holds."""

    records: pd.DataFrame
    studies: Sequence[Study]
    judgements: Sequence[Judgement]
    missing: Sequence[int]
    """The number of planned cells without a record, of each study."""
    preset: str
    """The preset of the sweep, maybe followed by `, changed`; empty if there is no sweep.yaml."""
    figures: Sequence[tuple[str, str]]
    """Path and title of each figure."""
    tables: Mapping[str, Sequence[Column]]
    """The columns of each Parquet file, by its path."""


def card(details: Details, contents: Contents) -> str:
    """The whole card, as Markdown."""
    parts = [
        f"---\n{yaml.safe_dump(front_matter(details, contents), sort_keys=False, allow_unicode=True)}---",
        f"# {details.name}: records of a noisy-pairs sweep",
        description(contents),
        "## What was run",
        "\n".join(_grid(contents)),
        "## What it is not",
        "\n".join(f"- {line}" for line in limits(contents)),
        "## How it was made",
        "".join(_made(contents)),
        "## Results",
        "\n\n".join(_results(contents)),
        "## Files",
        "\n".join(_files(contents)),
        "## Columns",
        *(f"`{path}`:\n\n{columns_markdown(columns)}" for path, columns in contents.tables.items()),
        "## Licence and citation",
        f"Licence: {details.license}. Cite the paper, and the software by its version and commit:",
        f"```\n{citation(details, contents)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def front_matter(details: Details, contents: Contents) -> dict[str, Any]:
    """The YAML at the head: licence, title, tags, size, and which file is which table."""
    rows = len(contents.records)
    configs = [
        {"config_name": name, "data_files": path} | ({"default": True} if name == "summary" else {})
        for path in contents.tables
        for name in [path.rsplit("/", 1)[-1].removesuffix(".parquet")]
    ]
    return {
        "license": details.license.lower(),
        "pretty_name": f"{details.name}: records of a noisy-pairs sweep",
        "tags": [*(word.replace(" ", "-") for word in KEYWORDS), "croissant"],
        "size_categories": [next((size for most, size in _SIZES if rows < most), "n>1M")],
        "configs": configs,
    }


def description(contents: Contents) -> str:
    """What the data set is, in one paragraph."""
    return (
        "Do noisy positive pairs hurt contrastive pretraining? Each row is one cell of a sweep: an encoder is "
        "pretrained with a loss on pairs of which a share rho is noisy. It is frozen, a small head is trained on it "
        "for the downstream task, and tested once. All cells of a seed see the same images, initial weights and random "
        f'draws, so differences between them are paired. The question is that of "{PAPER}" ({PAPER_URL}).'
    )


def limits(contents: Contents) -> list[str]:
    """What the results must not be taken for."""
    lines = ["It is not a reproduction of the paper: these are results of its own settings, and of no others."]
    if preset := contents.preset.removesuffix(", changed"):
        less = ", a small setting for short runs" if re.search("quick|smoke", preset) else ""
        changed = "" if preset == contents.preset else ", with changes"
        lines.append(f"Its recipe is that of the preset `{preset}`{less}{changed}: `sweep.yaml` has all settings.")
    sources = {dataset: {s.source for s in contents.studies if s.dataset == dataset} for dataset in ("vts", "cifar10")}
    for kind in sorted({source.partition(" (")[0] for source in sources["vts"]} - {"dtd textures"}):
        shown = {"folder textures": "photographs from a folder", "": "textures that are not named"}.get(kind, kind)
        lines.append(f"Its scenes show {shown} in place of DTD, which the paper uses: no result here is one on DTD.")
    if not all(source.startswith("CIFAR-10 ") for source in sources["cifar10"]):
        lines.append("Its images are not all of the published CIFAR-10: no result here is one on CIFAR-10.")
    if any(study.seeds < 3 for study in contents.studies):
        lines.append("It has fewer than three seeds: its intervals are wide or absent, and few findings can be judged.")
    lines.append("Intervals are over seeds: they say nothing about other textures, images or settings.")
    return lines


def citation(details: Details, contents: Contents) -> str:
    """The paper and the software, as BibTeX."""
    versions = " and ".join(_values(contents.records["version"]))
    commits = " and ".join(one[:12] for one in _values(contents.records["commit"])) or "not recorded"
    return "\n".join(
        [
            "@article{gerard2022contrastive,",
            f"  title = {{{PAPER}}},",
            "  author = {Gerard, Sebastian and Sullivan, Josephine},",
            "  journal = {arXiv preprint arXiv:2211.13756},",
            "  year = {2022}",
            "}",
            "@software{noisy_pairs,",
            f"  title = {{{SOFTWARE}}},",
            f"  author = {{{{{AUTHORS}}}}},",
            f"  version = {{{versions}}},",
            f"  note = {{commit {commits}}}",
            "}",
        ]
    )


def metadata(details: Details, contents: Contents) -> dict[str, Any]:
    """The same for Croissant, in the words of schema.org. Its dates are those of the first and the last record."""
    started = sorted(str(one)[:10] for one in contents.records["started"])
    return {
        "name": details.name,
        "description": " ".join([description(contents), *limits(contents)]),
        "license": f"https://spdx.org/licenses/{details.license}.html",
        **({"url": details.url} if details.url else {}),
        "creator": {"@type": "sc:Organization", "name": details.creator},
        "keywords": list(KEYWORDS),
        "dateCreated": started[0],
        "datePublished": started[-1],
        "version": "1.0.0",
        "isLiveDataset": False,
        "citeAs": citation(details, contents),
    }


def _grid(contents: Contents) -> Iterator[str]:
    yield "| study | cells | losses and baselines | rho | nu | pairings | seeds | steps of pretraining |"
    yield "|---|---|---|---|---|---|---|---|"
    for study, missing in zip(contents.studies, contents.missing, strict=True):
        records = study.records
        others = {"failed": int((records["status"] == "failed").sum()), "more not run": missing}
        cells = ", ".join([str(len(records)), *(f"{count} {what}" for what, count in others.items() if count)])
        noisy = records[records["rho"] > 0]
        columns = [
            study.title,
            cells,
            ", ".join(in_order(records["objective"])),
            _numbers(records["rho"]),
            _numbers(noisy["nu"]) if len(noisy) else "",
            ", ".join(sorted(noisy["pairing"].unique())),
            _numbers(records["seed"]),
            _numbers(records["pretrain_steps"]),
        ]
        yield f"| {' | '.join(columns)} |"


def _made(contents: Contents) -> Iterator[str]:
    records = contents.records
    yield f"With noisy-pairs {', '.join(_values(records['version']))}"
    for word, name in {"commit": "commit", "device": "device", "arithmetic": "precision"}.items():
        yield f"; {word} {', '.join(_values(records[name])) or 'not recorded'}"
    hours = records["seconds"].sum() / 3600
    first, last = min(records["started"])[:10], max(records["started"])[:10]
    yield f"; cells begun {first if first == last else f'from {first} to {last}'}, {hours:.1f} hours of cells in all."
    if contents.preset:
        yield " To run it again, at that commit, and to see the records as they are here:\n\n"
        yield "```\npython -m sweep.run --config sweep.yaml\npython -m analysis.report .\n```"


def _results(contents: Contents) -> Iterator[str]:
    for study in contents.studies:
        own = [one for one in contents.judgements if one.study == study.title]
        applicable = [one for one in own if one.verdict != "not applicable"]
        yield f"**{study.title}**: {study.score}; sentences of the paper: {count_verdicts(own)}. {study.about}"
        if applicable:
            yield "\n".join(_verdicts(applicable, study))
    # The one with the most of the grid in it.
    for path, title in sorted(contents.figures, key=lambda figure: "-pairings" not in figure[0])[:1]:
        yield f"![{title}]({path})"


def _verdicts(judgements: Sequence[Judgement], study: Study) -> Iterator[str]:
    level = f"{100 * study.level:.4g} %"
    yield f"| the paper says | verdict | weakest part | mean and interval ({level}), points | collapsed cells |"
    yield "|---|---|---|---|---|"
    for row in claims_table(judgements).to_dict("records"):
        mean = f"{mean_text(row)}, claimed {row['region']}"
        unit = "" if row["unit"] == "points" else f" {row['unit']}"
        collapsed = f"{row['collapsed']} of {row['values']} values rest on one" if row["collapsed"] else "none"
        yield f"| {row['sentence']} ({row['where']}) | {row['verdict']} | {row['part']} | {mean}{unit} | {collapsed} |"


def _files(contents: Contents) -> Iterator[str]:
    yield "- `summary.parquet`: the records, a row for each cell. It is all that the commands of `analysis` need."
    if "curves/curves.parquet" in contents.tables:
        yield "- `curves/curves.parquet`: losses and scores during training, a row for each point."
    if contents.preset:
        yield "- `sweep.yaml`: all settings, for `python -m sweep.run --config`."
    yield "- `claims.txt`, `claims.csv`: verdicts on the paper's sentences. `tables.txt`: means and differences."
    yield "- `croissant.json`: these files and columns, for data hubs and loaders."
    yield "- No image is here, and no prediction, because it would show one."
    if contents.figures:
        yield f"- `figures/`: {', '.join(f'[{title}]({path})' for path, title in contents.figures)}."


def _values(column: pd.Series) -> list[str]:
    return sorted(map(str, column.dropna().unique()))


def _numbers(column: pd.Series) -> str:
    return ", ".join(f"{value:g}" for value in sorted(column.dropna().astype(float).unique()))
