"""Verdicts of several sweeps side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.findings.paper import FINDINGS
from analysis.findings.verdicts import Judgement, judge
from analysis.records.merge import read_sweeps
from analysis.records.studies import Study, studies
from analysis.text import aligned


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """A study of a folder, and the judgement of each finding on it."""

    folder: Path
    study: Study
    findings: Mapping[str, Judgement]
    """By the key of the finding, in order."""

    @property
    def level(self) -> str:
        """The values of the settings that its sweep varies; empty if it varies none."""
        values = (value for _, value in self.study.settings)
        return ", ".join(f"{value:g}" if isinstance(value, float) else value for value in values)


def shipped(results: Path) -> list[Path]:
    """The folders in `results` with a sweep."""
    return sorted(path.parent for path in results.glob("*/summary.parquet"))


def judged(folders: Iterable[Path]) -> list[Judged]:
    """The studies of these folders."""
    found = []
    for folder in folders:
        joined = read_sweeps([folder / "summary.parquet"])
        judgements = judge(joined.records, level=joined.level)
        for study in studies(joined.records, level=joined.level):
            own = {one.finding.key: one for one in judgements if one.study == study.title}
            found.append(Judged(folder=folder, study=study, findings=own))
    return found


def verdicts(sweeps: Sequence[Judged]) -> str:
    """Tables of verdicts with a row for each applicable finding: one with a column for each folder, then one for each
    folder of a sweep that varies settings, with a column for each level."""
    alone: dict[str, dict[str, str]] = {}
    tables: dict[str, dict[str, dict[str, str]]] = {"": alone}
    for one in sweeps:
        own: dict[str, str] = {key: judgement.verdict for key, judgement in one.findings.items()}
        if one.level:
            tables.setdefault(f"{one.folder.name}: {', '.join(dict(one.study.settings))}", {})[one.level] = own
        else:
            alone[one.folder.name] = own
    return "\n".join(_verdict_table(heading, columns) for heading, columns in tables.items() if columns)


def _verdict_table(heading: str, columns: Mapping[str, Mapping[str, str]]) -> str:
    applicable = {key for own in columns.values() for key, verdict in own.items() if verdict != "not applicable"}
    rows = [
        [finding.key, *(own.get(finding.key, "-").replace("not applicable", "-") for own in columns.values())]
        for finding in FINDINGS
        if finding.key in applicable
    ]
    return "\n".join([*filter(None, [heading]), *aligned([["", *columns], [], *rows])]) + "\n"
