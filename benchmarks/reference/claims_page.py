"""docs/results/claims.md: each sentence of the paper, what the sweeps that ship say of it, how to run them again."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from analysis.claims import VERDICTS, mean_text, parts_table
from analysis.findings.base import Finding
from analysis.findings.paper import FINDINGS
from analysis.records.studies import settings_text
from benchmarks.reference.verdicts import Judged

_HEAD = """# The paper's sentences, one by one

What the [reference results](README.md) say of each sentence of [the paper](https://arxiv.org/abs/2211.13756). None of
these sweeps has the setting of the paper, so a verdict is about a sweep, its data and its budget, not about the paper.
*Supported*: the interval of each part lies where the sentence says. *Contradicted*: that of one part lies outside.
[METHOD.md](../../METHOD.md) has the rules and their error rates. Of a sentence with more than four parts, the three
with the most evidence against it are shown. A cell has *collapsed* if its pretraining has ended with equal features.
Some sweeps share cells, so the counts below are not counts of independent results.

`python -m benchmarks.reference --pages` writes this page from the records; it is not edited by hand.
"""

#: Parts of a finding that are shown at most; of more, the weakest ones.
_PARTS = 4


def claims_page(sweeps: Sequence[Judged], needs: Mapping[str, str]) -> str:
    """The page. `needs` names the option for the images of a sweep, by its folder, if it needs some."""
    spoken = [finding for finding in FINDINGS if any(_applies(one, finding) for one in sweeps)]
    lines = [_HEAD, *_contents(spoken, sweeps), "", "## What was run", "", *_sweeps(sweeps)]
    for finding in spoken:
        lines += ["", *_section(finding, [one for one in sweeps if _applies(one, finding)], needs)]
    rest = [finding for finding in FINDINGS if finding not in spoken]
    if rest:
        lines += ["", "## Sentences that none of these sweeps speaks of", "", *_unspoken(rest, sweeps)]
    return "\n".join(lines) + "\n"


def _applies(one: Judged, finding: Finding) -> bool:
    return one.findings[finding.key].verdict != "not applicable"


def _contents(findings: Iterable[Finding], sweeps: Sequence[Judged]) -> Iterator[str]:
    yield "| sentence | verdicts |"
    yield "|---|---|"
    for finding in findings:
        counts = Counter(one.findings[finding.key].verdict for one in sweeps)
        told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS[:-1] if counts[verdict])
        yield f"| [{finding.sentence}](#{finding.key}) | {told} |"


def _sweeps(sweeps: Iterable[Judged]) -> Iterator[str]:
    for one in sweeps:
        facts = one.study.about.removeprefix("These verdicts are about ").partition(". ")[0]
        yield f"- {_name(one)}: {facts}; {one.study.score}"


def _name(one: Judged) -> str:
    level = settings_text(one.study.settings)
    return f"[{one.folder.name}]({one.folder.name}/README.md){f', {level}' * bool(level)}"


def _section(finding: Finding, sweeps: Sequence[Judged], needs: Mapping[str, str]) -> Iterator[str]:
    yield f"## {finding.key}"
    yield f"\n> {finding.sentence}\n>\n> ({finding.where})\n"
    yield f"It takes {finding.needs}.\n"
    yield f"| sweep | verdict | part | mean and interval, {finding.unit} | claimed | cells, seeds |"
    yield "|---|---|---|---|---|---|"
    for one in sweeps:
        judgement = one.findings[finding.key]
        head = f"| {_name(one)} | {judgement.verdict} |"
        shown = judgement.parts if len(judgement.parts) <= _PARTS else judgement.ranked[: _PARTS - 1]
        for row in parts_table([replace(judgement, parts=tuple(shown))]).to_dict("records"):
            cells = f"{row['cells']} of {row['expected']}" if row["cells"] < row["expected"] else row["cells"]
            yield f"{head} {row['part']} | {mean_text(row)} | {row['region']} | {cells}, {row['seeds']} |"
            head = "| | |"
        if more := len(judgement.parts) - len(shown):
            yield f"| | | and {more} more | | | |"
        if judgement.collapsed:
            yield f"| | | | {judgement.collapsed} of {judgement.values} values rest on a collapsed cell | | |"
    folders = dict.fromkeys(one.folder.name for one in sweeps)
    needed = dict.fromkeys(needs[name] for name in folders if needs.get(name))
    images = "".join(f" --{option} DIR" for option in needed)
    judge = " ".join(f"docs/results/{name}" for name in folders)
    yield f'\n```\nmake reference ARGS="{" ".join(folders)}{images}"\npython -m analysis.claims {judge}\n```'


def _unspoken(findings: Iterable[Finding], sweeps: Sequence[Judged]) -> Iterator[str]:
    yield "| | sentence | where | why not |"
    yield "|---|---|---|---|"
    for finding in findings:
        reasons = list(dict.fromkeys(one.findings[finding.key].decide for one in sweeps))
        why = next((reason for reason in reasons if reason.startswith("needs")), reasons[0])
        yield f"| `{finding.key}` | {finding.sentence} | {finding.where} | {why} |"
