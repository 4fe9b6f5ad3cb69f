"""The report is one complete file, whatever the records hold."""

import re
import shutil
from html.parser import HTMLParser

import pytest

from analysis.figures import FIGURES, draw_all
from analysis.names import MARGIN
from analysis.records.io import write_curves, write_record
from analysis.records.merge import read_sweeps
from analysis.report import __main__ as command
from analysis.report import page as pages
from analysis.report.__main__ import main
from analysis.stats.assignments import ROLES
from tests.analysis.conftest import CLASSES, grid, write_summary
from tests.helpers.varied import STEPS, TEMPERATURE, write
from tests.helpers.varied import sweep as sweep_of_levels

#: A source in another script, with characters that LaTeX and matplotlib interpret.
SOURCE = "folder a$b_{$c \u8349\u539f"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep with curves of some cells; do not change it."""
    folder = tmp_path_factory.mktemp("reports") / "sweep"
    for row in grid():
        write_record(folder, row | {"source": SOURCE}, CLASSES)
    for one in grid()[:5]:
        write_curves(folder, one["key"], [("pretrain", 10, "val_loss", 4.0), ("probe", 10, "val_f1_macro", 0.4)])
    return folder


@pytest.fixture(scope="module")
def whole(sweep):
    """The report of the sweep with all figures."""
    assert main([str(sweep)]) == 0
    return (sweep / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def folder(sweep, tmp_path):
    return shutil.copytree(sweep, tmp_path / "sweep")


@pytest.fixture
def undrawn(monkeypatch):
    """For tests of tables, because figures take most of the time of a report."""
    monkeypatch.setattr(command, "draw_all", lambda records, folders: [])


class Page(HTMLParser):
    """The URLs that a browser would fetch, the ids, and the tables as lists of rows."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.ids, self.links, self.rows, self.open = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        self.fetched += [known[name] for name in ("src", "srcset", "data") if name in known]
        self.fetched += [known["href"]] if tag == "link" else []
        self.ids += [known["id"]] if "id" in known else []
        self.links += [known["href"]] if tag == "a" else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data.strip()


def page(sweep, *words):
    assert main([str(sweep), *words]) == 0
    return Page((sweep if sweep.is_dir() else sweep.parent).joinpath("report.html").read_text(encoding="utf-8"))


def test_it_stands_alone_and_every_link_leads_somewhere(whole):
    found = Page(whole)
    assert found.open == []
    assert found.fetched
    assert all(source.startswith("data:image/svg+xml;base64,") for source in found.fetched)
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert len(set(found.ids)) == len(found.ids)
    assert not re.search(r"url\(|@import|https?://", whole)


@pytest.mark.usefixtures("undrawn")
def test_it_says_what_the_records_say(tmp_path, frame, rows):
    found = page(write_summary(tmp_path, rows))
    text = [" | ".join(row) for row in found.rows]
    # Every noisy cell is one point above its exposure in every seed, so there is no spread.
    assert sum("+1.00 | [+1.00, +1.00]" in row for row in text) >= 12
    records = frame(rows)
    mean = records[(records.objective == "moco") & (records.rho == 0)].test_f1_macro.mean()
    assert any(row.startswith(f"moco | 0 | 0 | none | {100 * mean:.1f}") for row in text)
    assert any("supported" in row and "MoCo" in row for row in text)


@pytest.mark.usefixtures("undrawn")
def test_what_is_missing_and_what_failed_is_named(tmp_path, rows, row):
    rows = [one for one in rows if not (one["objective"] == "moco" and one["rho"] == 1 and one["seed"] == 2)]
    failed = row("cross_image", 0.25, 0.25, "noisy", 0, status="failed")
    cells = {one["key"]: one for one in [*rows, failed]}
    text = [" | ".join(row) for row in page(write_summary(tmp_path, cells.values())).rows]
    assert "missing | moco | 1 | 0.25 | noisy | 2 | -" in text
    assert "failed | cross_image | 0.25 | 0.25 | noisy | 0 | ValueError: no" in text


@pytest.mark.parametrize(
    "some",
    [
        lambda rows: [row for row in rows if row["seed"] == 0],
        lambda rows: [row for row in rows if row["pairing"] != "exposure"],
        lambda rows: [row for row in rows if row["pairing"] == "exposure"],
        lambda rows: [row for row in rows if row["objective"] == "random"],
        lambda rows: [row for row in rows if row["rho"] > 0],
        lambda rows: rows[:1],
        lambda rows: rows[1:2],
        lambda rows: [row | {"status": "failed", "error": "no", **dict.fromkeys(SCORES)} for row in rows],
        lambda rows: [row | {"dataset": "xbd", "nu": 0.0} for row in rows if row["nu"] in (0.0, 0.25)],
        lambda rows: [row | {"task": "classification", "dataset": "mine"} for row in rows],
    ],
    ids=["seed", "noisy", "exposure", "random", "no-zero", "one", "one-loss", "failed", "xbd", "own"],
)
def test_no_gap_breaks_it(tmp_path, rows, some, monkeypatch):
    merged = read_sweeps([write_summary(tmp_path, some(rows))])
    drawn = draw_all(merged.records, merged.folders)
    monkeypatch.setattr(pages, "as_svg", lambda figure: b"")  # drawn, but not written
    sections = [*pages._sections(merged, MARGIN, drawn)]
    monkeypatch.setattr(pages, "_sections", lambda *arguments: sections)  # computed once for all formats
    for text in (pages.html_page(merged, drawn), *(pages.plain_text(merged, form) for form in ("md", "latex"))):
        words = re.sub(r"<script>.*", "", text, flags=re.DOTALL)
        assert not re.search(r"\bnan\b|<NA>|[>|&] ?None ?[<|&]|\binf\b", words)


def is_clean(row):
    return row["pairing"] == "none" and row["objective"] != "random"


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """A sweep of three steps x two temperatures; do not change it."""
    folder = tmp_path_factory.mktemp("varied")
    rows = [row | {"collapsed": row["seed"] == 1} if is_clean(row) else row for row in sweep_of_levels()]
    rows = [row for row in rows if (row[STEPS], row["nu"], row["pairing"]) != (32, 0.5, "exposure")]
    write(folder, rows, STEPS, TEMPERATURE)
    (folder / "sweep.yaml").write_text(
        "objectives: [random, moco, within_image]\nrho: [0.0, 1.0]\nnu: [0.5, 1.0]\npairings: [noisy, exposure]\n"
        f"seeds: [0, 1]\nvary: [[{STEPS}, '2', '8', '32', '64'], [{TEMPERATURE}, '0.07', '0.2']]\n"
    )
    return folder


@pytest.mark.usefixtures("undrawn")
def test_levels_follow_the_section_on_all_of_them(varied):
    assert main([str(varied)]) == 0
    text = (varied / "report.html").read_text(encoding="utf-8")
    found = Page(text)
    assert found.open == []
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert len(set(found.ids)) == len(found.ids)
    assert re.findall(r'<h2 id="[^"]*">vts(.*?)</h2>', text) == [
        " by pretrain.steps and dense.temperature",
        *(f", pretrain.steps {steps}, dense.temperature {heat}" for steps in (2, 8, 32) for heat in (0.07, 0.2)),
    ]
    rows = [" | ".join(row) for row in found.rows]
    assert any(row.startswith("moco | 32 | - | +2.50 | [-3.85, +8.85] | +2.00 | [+2.00, +2.00] | - |") for row in rows)
    # Planned are the cells of the axes at each level: 1 + 2 x (1 + 2 nu x 2 pairings), twice.
    assert "pretrain.steps 2, dense.temperature 0.07 | 22 | 22 | 0 | 0 | 2" in rows
    assert "pretrain.steps 32, dense.temperature 0.07 | 22 | 18 | 0 | 4 | 2" in rows
    absent = "pretrain.steps 64, dense.temperature 0.07; pretrain.steps 64, dense.temperature 0.2"
    assert f"No cell is recorded at {absent}. Run the same command again." in text


@pytest.mark.usefixtures("undrawn")
def test_assignments_of_categories_have_their_mean_and_each_says_what_it_is_about(tmp_path):
    roles = dict(zip((2.0, 8.0, 32.0), ("a,b,c", "a,c,b", "b,c,a"), strict=True))
    rows = [{**row, ROLES: roles[row[STEPS]], STEPS: None} for row in sweep_of_levels(temperatures=()) if row[STEPS]]
    rows = [{**row, "source": f"folder textures ({row[ROLES].replace(',', ', ')})", "data": row[ROLES]} for row in rows]
    write(tmp_path, rows, ROLES)
    assert main([str(tmp_path)]) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<h2 id="study-1">vts by data.categories</h2>' in text  # of no single source
    assert "Noisy minus rho 0: mean over assignments" in text
    assert "it says nothing about other textures. 3 assignments are few" in text
    # Effects of 0, 1 and 2 points, each a point higher in the second seed: variances 1/3 and 1/4; t is 12.706.
    assert any(row[:4] == ["moco", "+1.50", "[-8.20, +11.20]", "3"] for row in Page(text).rows)
    for first, second, noise in (value.split(",") for value in roles.values()):
        assert (
            f"These verdicts are about scenes of folder textures (classes {first} and {second}; noise {noise})" in text
        )


@pytest.mark.usefixtures("undrawn")
def test_collapse_stands_in_warnings_tables_and_verdicts(varied):
    text = (varied / "report.html").read_text(encoding="utf-8") if main([str(varied)]) == 0 else ""
    assert "2 of 22 cells have collapsed (moco 1, within_image 1)" in text
    rows = [" | ".join(row) for row in Page(text).rows]
    assert any(row.startswith("moco | noisy | rho 1; nu 0.5 |") and row.endswith("| 1 of 2 values") for row in rows)
    assert any("benefit" in row and row.endswith("values") for row in rows)


@pytest.mark.usefixtures("undrawn")
def test_the_first_table_compares_over_one_grid(tmp_path, rows):
    rows = [row | {"test_f1_macro": 0.9} if (row["nu"], row["pairing"]) == (1, "exposure") else row for row in rows]
    found = [" | ".join(row) for row in page(write_summary(tmp_path, rows)).rows]
    partly = next(row for row in found if row.startswith("moco | noisy | rho 0.25, 1; nu 0.25 |"))
    assert "| +1.00 | [+1.00, +1.00] |" in partly
    full = next(row for row in found if row.startswith("moco | noisy, nu = 1 | rho 0.25, 1; nu 1 |"))
    assert "| +1.00 |" not in full


SCORES = [f"test_{name}" for name in ("f1_macro", "miou", "accuracy", "f1_stratified", "f1_veined", "f1_noise")]


@pytest.mark.usefixtures("undrawn")
def test_one_seed_is_not_given_an_interval(tmp_path):
    found = page(write_summary(tmp_path, grid(1)))
    assert not any(re.search(r"\[[+-]\d", entry) for row in found.rows for entry in row)
    assert "One seed: there are no intervals" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not any(row and row[0] in ("supported", "contradicted") for row in found.rows)


@pytest.mark.parametrize(
    ("source", "preset", "said", "unsaid"),
    [
        ("procedural textures (a, b)", "vts-paper", ["procedural textures (a, b), not on DTD"], ["do not reproduce"]),
        ("dtd textures (a, b)", "vts-quick", ["do not reproduce"], ["not on DTD"]),
        ("dtd textures (a, b)", "'vts-paper, changed'", ["vts-paper, changed"], ["not on DTD"]),
        ("dtd textures (a, b)", None, ["a setting that the folder does not name"], ["not on DTD"]),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_stand_ins_and_small_settings_are_named_as_such(tmp_path, row, classes, source, preset, said, unsaid):
    write_record(tmp_path, row(source=source), classes)
    if preset:
        (tmp_path / "sweep.yaml").write_text(f"preset: {preset}\nrecipe: {{probe: {{steps: 7}}}}\n")
    assert main([str(tmp_path)]) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(words in text for words in said)
    assert not any(words in text for words in unsaid)
    assert ("<dt>recipe.probe.steps</dt><dd>7</dd>" in text) == bool(preset)


@pytest.mark.usefixtures("undrawn")
def test_several_sweeps_are_joined_and_conflicts_stand_on_top(tmp_path, row, classes, capsys):
    for name, f1 in (("a", 0.5), ("b", 0.6)):
        write_record(tmp_path / name, row(f1=f1), classes)
        write_record(tmp_path / name, row(f1=f1, recipe="beef", dataset="xbd", nu=0.0), classes)
    words = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(words) == 2
    assert "several folders: name the file for their report" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "new" / "both.html")]) == 0
    text = (tmp_path / "new" / "both.html").read_text(encoding="utf-8")
    assert text.index("Conflict:") < text.index('id="study-1"') < text.index('id="study-2"')
    assert row(f1=0.5)["key"] in text


@pytest.mark.usefixtures("undrawn")
def test_texts_from_records_cannot_become_markup(tmp_path, row, classes):
    bad = "<script>alert(1)</script> & 50 %"
    write_record(tmp_path, row(source=bad), classes)
    write_record(tmp_path, row(seed=1, status="failed", error=bad, source=bad), classes)
    for form in ("html", "md", "latex"):
        assert main([str(tmp_path), "--format", form]) == 0
    assert "<script>alert" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert r"50 \%" in (tmp_path / "report.tex").read_text(encoding="utf-8")


def test_figures_that_cannot_be_drawn_are_listed_with_the_reason(whole):
    missing = int(re.search(r"(\d+) figures? not drawn", whole).group(1))
    assert len(Page(whole).fetched) + missing == sum(not kind.levels for kind in FIGURES.values())
    assert "<li>Predictions: its folders contain no predictions" in whole


def test_curves_are_drawn_where_there_are_some(whole):
    assert "<figcaption><b>Learning curves.</b>" in whole


@pytest.mark.usefixtures("undrawn")
def test_planned_cells_that_were_never_run_are_missing(folder):
    plan = "preset: vts-quick\nobjectives: [moco]\nrho: [0.75]\nnu: [0.5]\npairings: [noisy]\nseeds: [9]\n"
    (folder / "sweep.yaml").write_text(plan)
    assert "missing | moco | 0.75 | 0.5 | noisy | 9 | -" in [" | ".join(row) for row in page(folder).rows]


def test_a_source_named_by_dollars_or_in_any_script_breaks_nothing(whole):
    assert SOURCE in whole


@pytest.mark.usefixtures("undrawn")
def test_data_that_the_paper_does_not_speak_of_are_marked_as_asked(tmp_path, rows):
    page(write_summary(tmp_path, [row | {"dataset": "mine", "nu": 0.0} for row in rows if row["nu"] in (0.0, 0.25)]))
    assert "The paper does not use these data" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_several_seeds_of_the_baseline_alone_are_no_seeds(tmp_path, rows):
    page(write_summary(tmp_path, [row for row in rows if row["seed"] == 0 or row["rho"] == 0]))
    assert "One seed: there are no intervals" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "no records in nowhere"),
        (["nowhere", "--margin", "0"], "the margin is '0', use a number above 0"),
        (["nowhere", "--format", "pdf"], "invalid choice: 'pdf'"),
        ([], "the following arguments are required: DIR"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(words, said, capsys):
    try:
        code = main(words)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_latex_and_markdown_hold_the_tables_of_the_page(whole, tmp_path, rows):
    folder = write_summary(tmp_path, rows)
    tables = Page(whole).rows
    heads = {tuple(row) for row in tables if row and row[0] in ("loss", "verdict", "status")}
    assert main([str(folder), "--format", "md"]) == 0
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert all("| " + " | ".join(head) + " |" in text for head in heads)
    assert main([str(folder), "--format", "latex"]) == 0
    text = (tmp_path / "report.tex").read_text(encoding="utf-8")
    assert text.count("\\begin{table}") == text.count("\\toprule") == len(heads)
    assert "+1.00" in text
