"""The explorer of a report shows the numbers of the tables, whatever the reader chooses."""

import html
import json
import re
import shutil
import subprocess

import pytest

from analysis.records.merge import read_sweeps
from analysis.records.studies import studies, with_interactions
from analysis.report import __main__ as command
from analysis.report import tables
from analysis.report.explorer import explorer_json
from tests.analysis.conftest import made_up, write_summary
from tests.helpers.varied import STEPS, TEMPERATURE, write
from tests.helpers.varied import sweep as sweep_of_levels

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def data_of(records):
    """The explorer's data, of a page that nothing in the records can end."""
    text = explorer_json(with_interactions(records))
    assert "<" not in text
    return json.loads(text)


def values(study, score, shown):
    """(loss, rho, nu, pairing) -> value, of a study without varied settings."""
    return {
        (line["at"]["loss"], rho, line["at"].get("nu", 0.0), line["at"].get("pairing", "none")): value
        for line in study["lines"]
        for rho, value in zip(line["rho"], line["values"][score].get(shown, ()), strict=False)
        if value
    }


def numbers(table):
    """The rows of a table of the report, as exact as they are sorted."""
    heads = [column.heading for column in table.columns]
    return [dict(zip(heads, (entry.sort for entry in row), strict=True)) for row in table.rows]


def place(row, pairing):
    return (row["loss"], float(row["rho"]), float(row["nu"]), pairing)


def test_its_numbers_are_those_of_the_tables(frame, rows):
    rows = [row for row in rows if (row["objective"], row["rho"], row["seed"]) != ("moco", 1.0, 2)]
    records = frame(rows)
    (study,) = studies(records)
    (shown,) = data_of(records)["studies"]
    scores = values(shown, study.metric, "score")
    found = {place(row, row["pairs"]): row for row in numbers(tables.score_table(study, "x"))}
    assert scores.keys() == found.keys()
    assert {key: value[0] for key, value in scores.items()} == pytest.approx(
        {key: float(row["mean"]) for key, row in found.items()}, abs=5e-7
    )
    assert {key: value[3] for key, value in scores.items()} == {
        key: int(float(row["seeds"])) for key, row in found.items()
    }
    for name, table in (("zero", tables.zero_table), ("exposure", tables.cell_table)):
        differences = values(shown, study.metric, name)
        rows = numbers(table(study, "x"))
        expected = {place(row, row.get("pairs", "noisy")): row for row in rows}
        assert len(rows) == len(differences) > 10
        for key, row in expected.items():
            value, low, _, seeds = differences[key]
            assert (value, low, seeds) == pytest.approx(
                (float(row["difference"]), float(row["95 % interval"]) / 100, float(row["seeds"])), abs=5e-7
            )


def test_every_score_with_a_value_can_be_chosen_and_times_and_coordinates_cannot(frame, rows):
    (study,) = data_of(frame([row | {"seconds": 3.5, "val_f1_macro": 0.5} for row in rows]))["studies"]
    assert {"test_f1_macro", "test_f1_veined", "test_miou", "val_f1_macro", "pretrain_val_loss"} <= set(study["scores"])
    assert not {"rho", "nu", "seconds", "test_xview2"} & set(study["scores"])
    assert study["score"] == "test_f1_macro"


def test_each_level_of_varied_settings_has_its_own_lines_and_a_loss_without_the_setting_one(tmp_path):
    rows = sweep_of_levels()
    write(tmp_path, rows, STEPS, TEMPERATURE)
    (study,) = data_of(read_sweeps([tmp_path]).records)["studies"]
    assert study["axes"] == {
        "loss": ["random", "moco", "within_image"],
        "nu": [0.5, 1.0],
        "pairing": ["noisy", "exposure"],
        STEPS: [2.0, 8.0, 32.0],
        TEMPERATURE: [0.07, 0.2],
    }
    places = [json.dumps(line["at"], sort_keys=True) for line in study["lines"]]
    assert len(places) == len(set(places)) == 1 + (3 + 6) * (1 + 2 * 2)
    for line in study["lines"]:
        at = line["at"]
        assert (TEMPERATURE in at) == (at["loss"] == "within_image")
        if at.get("pairing") == "noisy":  # a point more per step
            gain = 0.005 + 0.01 * study["axes"][STEPS].index(at[STEPS]) - 0.2 * (at["nu"] == 1)
            assert line["values"]["test_f1_macro"]["zero"][0][0] == pytest.approx(gain, abs=5e-7)


def test_absent_failed_and_diverged_cells_have_no_value(frame):
    rows = [
        made_up("moco", 0.0, 0.0, "none", pretrain_val_loss=float("inf")),
        made_up("moco", 0.5, 0.25),
        made_up("moco", 1.0, 0.25, status="failed"),
        made_up("simclr", 0.0, 0.0, "none"),
        made_up("simclr", 1.0, 0.25),
    ]
    (study,) = data_of(frame(rows))["studies"]
    found = {(line["at"]["loss"], line["at"].get("pairing")): line for line in study["lines"]}
    assert found["moco", "noisy"]["values"]["test_f1_macro"]["score"] == [[0.6, None, None, 1], None]
    assert found["simclr", "noisy"]["values"]["test_f1_macro"]["score"] == [None, [0.6, None, None, 1]]
    assert found["moco", None]["values"]["pretrain_val_loss"] == {}


def test_pairs_without_a_nu_of_their_own_have_none_to_choose(frame):
    rows = [made_up("moco", 0.0, 0.0, "none"), made_up("moco", 0.5, 1.0, "false_positive", dataset="cifar10")]
    rows = [row | {"dataset": "cifar10"} for row in rows]
    (study,) = data_of(frame([*rows, made_up("moco", 0.5, 0.0, "misregistration", dataset="cifar10")]))["studies"]
    assert "nu" not in study["axes"]
    assert study["axes"]["pairing"] == ["false_positive", "misregistration"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of made-up sweeps, one of them with varied settings; without figures."""
    folder = tmp_path_factory.mktemp("explorer")
    one = [made_up("moco", rho, 0.25 if rho else 0.0, "noisy" if rho else "none", seed, 0.6 + 0.1 * rho + 0.01 * seed)
           for rho in (0.0, 1.0) for seed in range(2)]  # fmt: skip
    first = write_summary(folder / "one", [{**row, "data": "d1", "source": "<b> & co"} for row in one])
    second = write(folder / "two", sweep_of_levels(), STEPS, TEMPERATURE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "draw_all", lambda records, folders: [])
        assert command.main([str(first), str(second), "--out", str(folder / "report.html")]) == 0
    return folder / "report.html"


def browse(page, fragment="", clicks=""):
    """What Chromium shows at a fragment after some clicks: the rows of the numbers, and the whole document."""
    text = page.read_text(encoding="utf-8")
    clicked = page.with_name("clicked.html")
    clicked.write_text(text.replace("</body>", f"<script>{clicks}</script></body>"), encoding="utf-8")
    words = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run([*words, f"{clicked.as_uri()}{fragment}"], capture_output=True, text=True, timeout=300)
    table = re.search(r'<table class="numbers">(.*?)</table>', done.stdout, re.DOTALL)[1]
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    return [[html.unescape(cell) for cell in row] for row in rows], done.stdout


in_chromium = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


class TestInChromium:
    pytestmark = in_chromium

    def test_the_address_chooses_what_is_shown(self, page):
        fragment = f"#study=1&loss=moco&nu=0.5&pairing=noisy&pairing=exposure&{STEPS}=32&shown=zero"
        (head, *rows), text = browse(page, fragment)
        titles = re.findall(r'<option value="\d">(.*?)</option>', text)
        assert len(titles) == 2
        which = next(number for number, title in enumerate(titles, start=1) if "by pretrain.steps" in title)
        (head, *rows), text = browse(page, fragment.replace("study=1", f"study={which}"))
        assert head == ["curve", "rho", "test_f1_macro, minus rho 0, points", "95 % interval", "seeds"]
        assert rows == [
            ["MoCo, noisy", "0", "+0.00", "-", "-"],
            ["MoCo, noisy", "1", "+2.50", "[-3.85, +8.85]", "2"],
            ["MoCo, exposure", "0", "+0.00", "-", "-"],
            ["MoCo, exposure", "1", "-1.50", "[-7.85, +4.85]", "2"],
        ]
        assert "2 curves." in text

    def test_clicks_choose_and_are_kept_in_the_address(self, page):
        click = """
            const pick = (name, value) => {
              const field = document.querySelector(`.controls select[name="${name}"]`);
              field.value = value;
              field.dispatchEvent(new Event("change", { bubbles: true }));
            };
            const box = (words) => [...document.querySelectorAll(".controls label")].find((one) => one.textContent === words);
            const titles = [...document.querySelectorAll('.controls select[name="study"] option')];
            pick("study", titles.findIndex((one) => one.textContent.includes("by pretrain.steps")));
            box("within-image").click();
            box("random encoder").click();
            for (const steps of ["2", "8"]) box(steps).click();
            box("exposure").click();
            pick("score", "test_miou");
            pick("shown", "zero");
            document.body.dataset.address = location.hash;
        """  # noqa: E501
        (_, *rows), text = browse(page, clicks=click)
        assert [row[0] for row in rows] == ["MoCo, noisy"] * 2 + ["MoCo, exposure"] * 2
        assert {row[2] for row in rows} == {"+0.00"}
        address = html.unescape(re.search(r'data-address="([^"]*)"', text)[1])
        assert browse(page, address)[0][1:] == rows

    def test_a_wrong_address_shows_the_beginning(self, page):
        assert browse(page, "#loss=nonsense&score=none&shown=none&study=99")[0] == browse(page)[0]

    def test_a_choice_without_cells_says_so(self, page):
        nothing = f"""
            const pick = document.querySelector('.controls select[name="study"]');
            pick.value = [...pick.options].findIndex((one) => one.textContent.includes("by {STEPS}"));
            pick.dispatchEvent(new Event("change", {{ bubbles: true }}));
            document.querySelectorAll(".controls input:checked").forEach((box) => box.click());
        """
        rows, text = browse(page, clicks=nothing)
        assert len(rows) == 1
        assert re.search(r'<p class="says[^>]*>No cell fits the choice', text)
