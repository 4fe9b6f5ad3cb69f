"""Hooks of MkDocs: pages from where GitHub shows them, and pages made from code and notebooks, without a copy."""

import ast
import re
import sys
from collections.abc import Iterator
from inspect import cleandoc, getsource
from itertools import pairwise
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # before a `datasets` of elsewhere

from sweep.cli import Command, Flag, settings_of  # noqa: E402
from sweep.presets import PRESETS, preset  # noqa: E402

PYTHON = {
    "Run sweeps": ("sweep.api.run_sweep", "sweep.api.SweepResult", "sweep.presets.preset", "sweep.config.sweep.Sweep"),
    "Read results": (
        "analysis.records.io.read_records",
        "analysis.records.merge.read_sweeps",
        "analysis.findings.verdicts.judge",
        "analysis.claims.claims_table",
        "analysis.figures.draw_all",
        "analysis.stats.groups.group_statistics",
        "analysis.stats.differences.noisy_minus_exposure",
    ),
    "Extend": (
        "trainables.objectives.base.Objective",
        "datasets.source.Settings",
        "datasets.source.Source",
        "datasets.dataset.Dataset",
    ),
}
"""What the page about Python documents."""


def on_config(config: MkDocsConfig) -> None:
    """List the reference results, which are one folder each, and name headings as GitHub does."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    pages = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/results").rglob("README.md"))
    for item in config.nav:
        if "Results" in item:
            item["Results"] = sorted(pages, key=len)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Name every file by its place in the repository, so that all links on its pages hold as they do there."""

    def at(name: str) -> File:
        return File(name, str(ROOT), config.site_dir, config.use_directory_urls)

    moved = [file for file in files if file.src_dir == config.docs_dir]
    rest = [file for file in files if file.src_dir != config.docs_dir]
    pages = [at(path.name) for path in ROOT.glob("*.md")]
    pages += [at(f"docs/{file.src_uri}") for file in moved if not file.inclusion.is_excluded()]
    made = {"docs/presets.md": presets(), "docs/settings.md": settings(), "docs/python.md": python()}
    for path in (ROOT / "docs/notebooks").glob("*.ipynb"):
        made[path.relative_to(ROOT).with_suffix(".md").as_posix()] = notebook(path)
    return Files([*rest, *pages, *(File.generated(config, name, content=text) for name, text in made.items())])


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead to the page of a notebook; that page itself has the file."""
    return markdown if page.file.generated_by else markdown.replace(".ipynb)", ".md)")


def presets() -> str:
    """The page of the presets."""
    text = (
        "# Presets\n\n`python -m sweep.run NAME` runs one; every [setting](settings.md) is a flag that overrides it.\n"
    )
    for name, make in PRESETS.items():
        sweep = make()
        axes = {"losses": sweep.objectives, "rho": sweep.rho, "nu": sweep.nu, "pairings": sweep.pairings}
        values = "; ".join(f"{axis} {_text(value)}" for axis, value in {**axes, "seeds": sweep.seeds}.items() if value)
        text += f"\n## {name}\n\n{cleandoc(make.__doc__ or '')}\n\n{len(sweep.cells())} cells: {values}.\n"
    return text


def settings() -> str:
    """The page of the settings, by the part of a sweep that they belong to."""
    parts: dict[str, list[str]] = {}
    for name in ("vts-quick", "xbd-quick", "cifar-quick", "manifest"):  # one preset of each data set
        for flag in settings_of(Command(sweep=preset(name))):
            part, dot, _ = flag.names[0].removeprefix("--").rpartition(".")
            title = f"--{part}.*" if dot else "The sweep"
            if part == "data":
                title += f" with --dataset {preset(name).dataset}"
            meaning = " ".join(_docstring(flag).split()).replace("|", r"\|")
            shown = f"`{_text(flag.value)}`" if _text(flag.value) else ""
            changes = flag.names[-1:] if flag.value is True else flag.names[:-1] if flag.value is False else flag.names
            row = f"| {' '.join(f'`{one}`' for one in changes)} | {shown} | {meaning} |"
            if name == "vts-quick" or part == "data":
                parts.setdefault(title, []).append(row)
    text = (
        "# Settings\n\nEvery setting is a flag of `python -m sweep.run`, an entry of `sweep.yaml` and an argument of "
        "[`run_sweep`](python.md). The values are those of `vts-quick`, and of the quick preset of each data set.\n"
    )
    for title, rows in parts.items():
        heading = title if title == "The sweep" else f"`{title}`"
        text += "\n".join(["", f"## {heading}", "", "| flag | value | meaning |", "|---|---|---|", *rows, ""])
    return text


def python() -> str:
    """The page of what can be imported."""
    text = "# From Python\n\n`from sweep import run_sweep` runs sweeps; `analysis` needs neither torch nor Ray.\n"
    for title, names in PYTHON.items():
        text += f"\n## {title}\n\n" + "".join(
            f"::: {name}\n    options: {{ heading: {name.replace('.api', '')} }}\n\n" for name in names
        )
    return text


def notebook(path: Path) -> str:
    """A notebook as a page: texts, code, and what it printed and drew."""
    blocks = list(_blocks(nbformat.read(path, 4).cells))
    title, *rest = "\n\n".join(blocks).split("\n", 1)
    return f"{title}\n\n[The notebook]({path.name}){{ download }}\n" + "".join(rest)


def _blocks(cells: list[nbformat.NotebookNode]) -> Iterator[str]:
    for cell in cells:
        yield cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```"
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                yield f"![figure](data:image/png;base64,{data['image/png'].strip()})"
            elif "text/html" in data:
                yield re.sub(r"(?s)<style.*?</style>|\n\s*| border=\S+| class=\S+(?=>)", "", data["text/html"])
            else:
                yield f"```text\n{output.get('text') or data['text/plain']}\n```"


def _docstring(flag: Flag) -> str:
    """The text under a setting in its class, or in the one that it inherits the setting from."""
    for owner in flag.owner.__mro__[:-1]:
        for setting, text in pairwise(ast.parse(cleandoc(getsource(owner))).body[0].body):
            match setting, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(found))):
                    if name == flag.field:
                        return found
    return ""


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_text, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
