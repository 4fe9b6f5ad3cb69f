"""The report as an HTML page, and its tables as Markdown or LaTeX."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.figures import Drawn, as_svg
from analysis.findings.verdicts import judge
from analysis.names import MARGIN
from analysis.plots.inputs import Inputs
from analysis.records.coverage import coverage
from analysis.records.merge import MergedRecords
from analysis.records.plan import read_plan
from analysis.records.studies import Study, studies, with_interactions
from analysis.report import section, tables
from analysis.report.answers import Answer, answers
from analysis.report.explorer import explorer_json
from analysis.report.section import Facts
from analysis.report.table import Table, latex, markdown
from analysis.text import first_few

Format = Literal["html", "md", "latex"]
ENDINGS: dict[Format, str] = {"html": ".html", "md": ".md", "latex": ".tex"}


class Picture(NamedTuple):
    """A figure of the page."""

    title: str
    caption: str
    data: str
    """The SVG in base64."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """A study in the report, or all levels of the settings that a sweep varies."""

    anchor: str
    title: str
    answers: Sequence[Answer]
    """First of all: whether noisy pairs hurt."""
    warnings: Sequence[str]
    facts: Facts
    first: Sequence[Table]
    """Before the figures."""
    tables: Sequence[Table]
    """After the figures."""
    figures: Sequence[Picture]
    undrawn: Sequence[tuple[str, str]]
    provenance: Facts
    settings: Sequence[tuple[str, Facts]]


def html_page(merged: MergedRecords, drawn: Sequence[Drawn], *, margin: float = MARGIN) -> str:
    """The report as one HTML page; `drawn` are all figures from `analysis.figures.draw_all`.

    Raises `RecordsError` as `analysis.stats.differences.comparable`.
    """
    sections = list(_sections(merged, margin, drawn))
    page = Environment(
        loader=PackageLoader("analysis", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report.html.jinja")
    return page.render(
        margin=f"{100 * margin:g}",
        title="noisy-pairs: " + first_few(dict.fromkeys(one.title for one in sections), 2, " and "),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=_version(),
        folders=[str(folder) for folder in merged.folders],
        notes=[*(f"Conflict: {line}" for line in merged.conflicts), *merged.notes],
        sections=sections,
        explorer=explorer_json(with_interactions(merged.records, level=merged.level)),
    )


def plain_text(merged: MergedRecords, form: Literal["md", "latex"], *, margin: float = MARGIN) -> str:
    """The tables of the report in Markdown or LaTeX, with warnings, facts and provenance."""
    mark = "" if form == "md" else "% "
    blocks = [f"{mark}{line}" for line in (*merged.conflicts, *merged.notes)]
    for one in _sections(merged, margin, ()):
        lines = [
            *(f"{answer.text}." for answer in one.answers),
            *one.warnings,
            *(f"{name}: {value}" for name, value in (*one.facts, *one.provenance)),
        ]
        if form == "md":
            blocks += [f"## {one.title}", "\n".join(f"- {line}" for line in lines)]
        else:
            blocks += ["\n".join(f"% {line}" for line in (one.title, *lines))]
        blocks += [(markdown if form == "md" else latex)(table) for table in (*one.first, *one.tables)]
    return "\n\n".join(blocks) + "\n"


def _sections(merged: MergedRecords, margin: float, drawn: Sequence[Drawn]) -> Iterator[Section]:
    inputs = Inputs(folders=merged.folders)
    for number, study in enumerate(with_interactions(merged.records, level=merged.level), start=1):
        own = [one for one in drawn if one.study == study.title]
        plans = {str(folder): read_plan(folder) for folder in inputs.folders_of(study)}
        make = _levels_section if study.varied else _section
        yield make(study, f"study-{number}", margin, own, plans)


def _levels_section(
    study: Study, anchor: str, margin: float, drawn: Sequence[Drawn], plans: dict[str, dict]
) -> Section:
    levels = studies(study.records)
    cells = [(level, coverage(level.records, list(plans.values()))) for level in levels]
    return Section(
        anchor=anchor,
        title=study.title,
        answers=[],
        warnings=section.missing_levels(levels, list(plans.values())),
        facts=section.varied_facts(study),
        first=[*tables.interaction_tables(study, anchor), tables.level_table(cells, anchor)],
        tables=[],
        **_pictures(drawn),
        provenance=[],
        settings=[],
    )


def _section(study: Study, anchor: str, margin: float, drawn: Sequence[Drawn], plans: dict[str, dict]) -> Section:
    cells = coverage(study.records, list(plans.values()))
    judgements = judge(study.records, margin=margin, level=study.level)
    effects = tables.effects(study, margin)
    return Section(
        anchor=anchor,
        title=study.title,
        answers=answers(effects, margin),
        warnings=section.warnings(study, list(plans.values()), own_data=any(j.own_data for j in judgements)),
        facts=section.facts(study, cells, list(plans.values())),
        first=[
            tables.effect_table(effects, study, anchor),
            tables.verdict_table(judgements, anchor, margin),
        ],
        tables=list(tables.detail_tables(study, cells, anchor)),
        **_pictures(drawn),
        provenance=section.provenance(study),
        settings=section.settings(plans),
    )


def _pictures(drawn: Sequence[Drawn]) -> dict[str, Any]:
    return {
        "figures": [
            Picture(one.title, one.caption, base64.b64encode(as_svg(one.figure)).decode())
            for one in drawn
            if one.figure is not None
        ],
        "undrawn": [(one.title, one.reason) for one in drawn if one.figure is None],
    }


def _version() -> str:
    try:
        return version("noisy-pairs")
    except PackageNotFoundError:
        return "(not installed)"
