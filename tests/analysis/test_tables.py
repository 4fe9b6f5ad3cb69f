import pytest

from analysis.stats.assignments import ROLES
from analysis.tables import WIDTH, f1_table, pretraining, render
from tests.helpers.varied import STEPS, sweep


def line_of(text, *words):
    """The first line that holds all words."""
    return next(line for line in text.split("\n") if all(word in line for word in words))


def test_f1_table_averages_over_seeds(frame, rows):
    table = f1_table(frame(rows)).set_index(["objective", "rho", "nu"])
    assert len(table) == 1 + 3 * 5
    point = table.loc[("moco", 1.0, 0.25)]
    # .55 + .02 rho - .03 nu (+ .01 noisy), + 0, .01, .02 for the three seeds
    assert point["noisy"] == pytest.approx(0.55 + 0.02 - 0.0075 + 0.01 + 0.01)
    assert point["exposure"] == pytest.approx(point["noisy"] - 0.01)
    assert point["noisy_std"] == pytest.approx(0.01)
    assert (point["none_n"], point["noisy_n"], point["exposure_n"]) == (0, 3, 3)
    assert table.loc[("moco", 0.0, 0.0), "none"] == pytest.approx(0.56)


def test_f1_table_is_in_the_papers_order(frame, rows):
    assert list(dict.fromkeys(f1_table(frame(rows[::-1]))["objective"])) == [
        *("random", "moco"),
        *("within_image", "cross_image"),
    ]


def test_failed_cells_do_not_count(row, frame):
    (point,) = f1_table(frame([row(seed=0), row(seed=1, status="failed")])).to_dict("records")
    assert (point["noisy"], point["noisy_n"], point["exposure_n"]) == (0.6, 1, 0)


def test_render_shows_numbers_in_percent_and_points(frame, rows):
    text = render(frame(rows))
    assert line_of(text, "random ").split() == ["random", "-", "-", "42.0", "±", "1.0", "-"]
    assert line_of(text, "moco", "same").split() == ["moco", "0", "-", "56.0", "±", "1.0", "same"]
    assert sum("same" in line for line in text.split("\n")) == 3
    assert line_of(text, "cross_image", "+1.00").split() == ["cross_image", "+1.00", "0.00", "4", "12", "0"]
    assert line_of(text, "moco", "+14.00").split() == ["moco", "+14.00", "0.00", "3", "0"]
    assert "failed" not in text
    assert "*" not in text


def test_columns_are_aligned(frame, rows):
    for block in render(frame(rows)).split("\n\n"):
        table = [line for line in block.split("\n") if line.startswith("  ")]
        assert len({len(line) for line in table}) == 1


def test_one_seed_shows_no_spread(frame, rows):
    text = render(frame([row for row in rows if row["seed"] == 0]))
    assert "±" not in text.split("\n\n")[0]


def test_absence_is_reported(frame, rows):
    dropped = [row for row in rows if (row["objective"], row["rho"], row["pairing"]) != ("moco", 1.0, "noisy")]
    del dropped[-1]
    text = render(frame(dropped))
    assert line_of(text, "missing").split()[:3] == ["1", "0.25", "missing"]
    assert "* fewer than 3 seeds" in text
    assert line_of(text, "cross_image", "+1.00").split()[-1] == "1"


def test_failed_cells_are_counted_and_harmless_on_a_terminal(row, frame):
    error = "RuntimeError: \x1b[31mCUDA\nout of memory " + "x" * 300
    rows = [row(seed=seed, status="failed", error=error) for seed in range(7)] + [row(seed=9)]
    text = render(frame(rows))
    assert "7 of 8 cells failed" in text
    assert "and 2 more" in text
    assert all(c.isprintable() or c == "\n" for c in text)
    assert max(map(len, text.split("\n"))) <= WIDTH


def test_a_sweep_that_failed_altogether_is_rendered(row, frame):
    text = render(frame([row(status="failed"), row(pairing="exposure", status="failed")]))
    assert "missing" in text
    assert "2 of 2 cells failed" in text


def test_data_sets_and_recipes_have_sections_of_their_own(row, frame):
    text = render(frame([row(recipe="aa"), row(recipe="bb"), row(dataset="xbd", recipe="aa")]))
    titles = [line for line in text.split("\n") if "macro F1" in line]
    assert [title.split(":")[0] for title in titles] == ["vts, recipe aa", "vts, recipe bb", "xbd, recipe aa"]


def test_collapsed_cells_are_counted_and_the_range_is_told(row, frame):
    losses = {"pretrain_plateau": 4.0, "pretrain_floor": 3.0}
    clean = row("cross_image", 0.0, 0.0, "none", f1=0.5, **losses, pretrain_val_loss=3.996, collapsed=True)
    noisy = row("cross_image", f1=0.5, **losses, pretrain_val_loss=3.996, collapsed=True)
    far = row("within_image", f1=0.5, **losses, pretrain_val_loss=3.75)
    table = pretraining(frame([clean, noisy, far, row("random", 0.0, 0.0, "none")])).set_index("objective")
    assert table.collapsed.to_dict() == {"within_image": 0, "cross_image": 2}
    assert table.collapsed_clean.to_dict() == {"within_image": 0, "cross_image": 1}
    assert table.attained.to_dict() == pytest.approx({"within_image": 0.25, "cross_image": 0.004})
    text = render(frame([clean, far]))
    assert line_of(text, "within_image", "25.0").split() == ["within_image", "4.000", "3.000", "3.750", "25.0", *"100"]
    assert "has likely learnt nothing" in text
    assert "older" not in text
    assert "has likely learnt nothing" not in render(frame([noisy, far]))
    assert "plateau" not in render(frame([row("random", 0.0, 0.0, "none")]))


def test_older_records_say_what_they_can_and_are_labelled(row, frame):
    old = {"pretrain_plateau": 4.0, "pretrain_floor": None, "collapsed": None}
    stuck = row("cross_image", 0.0, 0.0, "none", f1=0.5, **old, pretrain_val_loss=3.99)
    far = row("within_image", f1=0.5, **old, pretrain_val_loss=3.0)
    text = render(frame([stuck, far]))
    assert line_of(text, "within_image", "25.0").split()[1:] == ["4.000", "-", "3.000", "-", "25.0", "1", "0", "0"]
    assert line_of(text, "cross_image", "0.2").split()[-3:] == ["1", "1", "1"]
    assert "2 of 2 records are older and hold neither floor nor spread of features" in text


def test_effects_at_each_level_come_last_and_fit_the_terminal(frame):
    text = render(frame(sweep((2.0, 4.0, 8.0), (0.07, 0.2, 0.5))))
    assert max(map(len, text.split("\n"))) <= WIDTH
    blocks = text.split("\n\n")
    assert [" minus rho 0, points" in block for block in blocks[-2:]] == [True, False]
    lines = [line.split() for line in blocks[-2].split("\n")]
    assert ["8", "-", "+2.5", *INTERVAL, "+2.0", *EXACT, "-"] in lines
    assert ["8", "0.5", "+2.5", *INTERVAL, "+2.0", *EXACT, "+0.0", "[+0.0,", "+0.0]"] in lines
    assert "mean over rho 1; nu 0.5" in " ".join(blocks[-2].split())
    assert sum("macro F1 on test" in block for block in blocks) == 9


# Seeds at 2 and 3 points: 2.5 with t of one degree of freedom.
INTERVAL, EXACT = ["[-3.9,", "+8.9]"], ["[+2.0,", "+2.0]"]


def test_changes_that_would_not_fit_have_tables_of_their_own(frame):
    third = "pretrain.weight_decay"
    both = [
        row | {third: decay, "recipe": f"{row['recipe']}{decay}"} for row in sweep((2.0, 8.0)) for decay in (0, 0.1)
    ]
    *_, by_steps, by_temperature, by_decay = [block.split("\n") for block in render(frame(both)).split("\n\n")]
    heads = ["loss", STEPS, "dense.temperature", third]
    assert by_steps[0].split() == [*heads, "change", "by", "steps"]
    assert by_steps[2].split() == ["moco", "8", "-", "0", "+1.0", "[+1.0,", "+1.0]"]
    assert by_temperature[2].split() == ["within_image", "2", "0.2", "0", "+0.0", "[+0.0,", "+0.0]"]
    assert by_decay[2].split() == ["moco", "2", "-", "0.1", "+0.0", "[+0.0,", "+0.0]"]


def test_settings_of_one_short_name_have_a_change_each(frame):
    rows = sweep((2.0, 8.0), (0.07, 0.2))
    both = [row | {"moco.temperature": heat, "recipe": f"{row['recipe']}{heat}"} for row in rows for heat in (0.1, 0.2)]
    text = render(frame(both))
    assert "change by dense.temperature" in text
    assert "change by moco.temperature" in text


def test_the_grid_of_a_mean_is_told(frame, rows):
    assert "points (mean and std over rho 0.25, 1; nu 0.25, 1)" in render(frame(rows))


def test_the_title_says_what_the_data_were_made_from(row, frame):
    text = render(frame([row(source="folder textures (wool, foil, cord)")]))
    assert text.splitlines()[0].startswith("vts on folder textures (wool, foil, cord): macro F1")


def test_other_pairings_have_columns_of_their_own_and_leave_differences_alone(row, frame, rows):
    before = render(frame(rows))
    for seed in range(3):
        rows += [row("moco", 0.25, nu, "irrelevant", seed, 0.3) for nu in (0.25, 1.0)]
        rows.append(row("moco", 0.25, 1.0, "false_positive", seed, 0.2))
    text = render(frame(rows))
    heads = [line.split() for line in text.split("\n") if line.split()[:3] == ["loss", "rho", "nu"]]
    assert heads == [["loss", "rho", "nu", "noisy", "exposure", "irrelevant", "false", "positive"]]
    lines = [line.split() for line in text.split("\n")]
    assert next(line for line in lines if line[:2] == ["0.25", "0.25"])[-4:] == ["30.0", "±", "0.0", "-"]
    assert next(line for line in lines if line[:2] == ["0.25", "1"])[-3:] == ["20.0", "±", "0.0"]
    assert before.split("\n\n")[1:3] == text.split("\n\n")[1:3]


def test_a_pairing_that_was_not_run_at_a_nu_is_not_missing_there(row, frame):
    rows = [row("moco", 1.0, 0.5, "noisy"), row("moco", 1.0, 1.0, "false_positive")]
    text = render(frame(rows))
    assert "missing" not in text
    assert line_of(text, "1 ", "0.5").split() == ["moco", "1", "0.5", "60.0", "-"]
    assert "Noisy minus exposure" not in text


def test_real_pairs_have_no_nu_and_images_are_scored_by_accuracy(row, frame):
    real = [row(dataset="xbd", rho=rho, nu=0.0, pairing=pairing) for rho, pairing in ((0.0, "none"), (0.5, "noisy"))]
    assert line_of(render(frame(real)), "0.5").split() == ["0.5", "-", "60.0"]
    images = [
        row("random", 0.0, 0.0, "none", f1=0.1, dataset="cifar10", task="classification", test_accuracy=0.3),
        row("moco", 0.0, 0.0, "none", f1=0.1, dataset="cifar10", task="classification", test_accuracy=0.5),
        row("moco", 0.5, 1.0, "false_positive", f1=0.1, dataset="cifar10", task="classification", test_accuracy=0.4),
    ]
    text = render(frame(images))
    assert "accuracy on test" in text
    assert line_of(text, "0.5 ").split() == ["0.5", "1", "40.0"]
    assert line_of(text, "moco", "+20.00").split() == ["moco", "+20.00", "-", "1", "0"]
    assert "Noisy minus exposure" not in text


def test_assignments_of_categories_are_followed_by_their_mean(frame):
    roles = ("a,b,c", "a,c,b", "b,c,a")
    rows = [{**row, ROLES: row[STEPS], STEPS: None, "data": row[STEPS]} for row in sweep(roles, ()) if row[STEPS]]
    text = render(frame(rows))
    assert max(map(len, text.split("\n"))) <= WIDTH
    # Effects of 0, 1 and 2 points, each a point higher in the second seed: variances 1/3 and 1/4; t is 12.706.
    line = line_of(text[text.index("minus rho 0, mean over assignments") :], "moco")
    assert line.split() == ["moco", "+1.5", "[-8.2,", "+11.2]", "3", "2", "1.00", "0.71", "0.00"]
    assert text.count("it says nothing about other textures") == text.count("3 assignments are few") == 2
