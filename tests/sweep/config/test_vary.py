"""`--vary`: settings of the recipe as axes of the grid."""

from dataclasses import replace
from pathlib import Path

import pytest

from analysis.records.io import write_record
from analysis.records.schema import to_row
from datasets.errors import InputError
from sweep.cli import parse
from sweep.config.sweep import Sweep
from sweep.config.vary import setting_names
from sweep.config.yaml_io import from_yaml, recipe_differences, to_yaml
from sweep.lr_search.config import search_for, sweep_to_fill
from sweep.prepare import claim, load_sources, previous_sweep
from sweep.presets import preset
from sweep.tune.job import WorkerJob
from sweep.tune.retries import bare_record
from tests.helpers.command import call
from trainables.recipe import Recipe

STEPS, QUEUE = ("pretrain.steps", "2", "4"), ("moco.queue", "64", "128", "256")


def varied(*axes: tuple[str, ...], **changes: object) -> Sweep:
    return replace(preset("vts-smoke"), vary=axes, **changes)


def test_cells_are_those_of_a_sweep_at_each_level() -> None:
    """An independent way to the same keys: one sweep for each value, with the setting's own flag."""
    together = {cell.key for cell in varied(STEPS).cells()}
    apart = {
        cell.key
        for steps in (2, 4)
        for cell in parse(["vts-smoke", "--pretrain.steps", str(steps)]).sweep.cells()
        if cell.objective != "random"
    }
    random = {cell.key for cell in preset("vts-smoke").cells() if cell.objective == "random"}
    assert together == apart | random
    assert len(together) == 2 * 6 + 1


def test_a_setting_that_an_objective_does_not_use_makes_no_cells_of_it() -> None:
    cells = varied(STEPS, QUEUE).cells()
    count = {name: sum(cell.objective == name for cell in cells) for name in preset("vts-smoke").objectives}
    assert count == {"moco": 2 * 3 * 2, "within_image": 2 * 2, "cross_image": 2 * 2, "random": 1}
    assert varied(STEPS, QUEUE).points == 6 * preset("vts-smoke").points
    assert {cell.settings for cell in cells if cell.objective == "within_image"} == {
        (("pretrain.steps", 2),),
        (("pretrain.steps", 4),),
    }


def test_cells_come_seed_by_seed() -> None:
    seeds = [cell.seed for cell in varied(STEPS, seeds=(0, 1)).cells()]
    assert seeds == sorted(seeds)


def test_settings_are_no_part_of_the_key_beside_the_recipe() -> None:
    (cell,) = (c for c in varied(STEPS, objectives=("moco",), rho=(0.0,)).cells() if c.settings[0][1] == 4)
    assert cell.key == replace(cell, settings=()).key
    assert "pretrain.steps 4" in str(cell)


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        (("encoder.output_stride", "8", "16"), {8, 16}),
        (("probe.class_weights", "no", "true"), {"false", "true"}),
        (("dense.temperature", "7e-2", ".2"), {0.07, 0.2}),
        (("--dense.within-lr", "1", "2.0"), {1.0, 2.0}),
        (("encoder.name", "resnet18", "resnet34"), {"resnet18", "resnet34"}),
    ],
)
def test_values_are_those_of_the_flags(axis: tuple[str, ...], values: set[object]) -> None:
    sweep = varied(axis)
    assert {cell.settings[0][1] for cell in sweep.cells() if cell.settings} == values
    assert replace(sweep, vary=sweep.vary) == sweep  # the canonical form is its own


def test_settings_of_a_loss_that_is_not_in_the_paper_vary_and_leave_all_other_cells_as_they_are() -> None:
    base = replace(preset("vts-smoke"), objectives=("moco", "rince", "rince_within", "random"))
    cells = replace(base, vary=(("rince.q", "0.1", "0.5"), ("rince.lam", "0.01", "0.1"))).cells()
    count = {name: sum(cell.objective == name for cell in cells) for name in base.objectives}
    assert count == {"moco": 2, "rince": 2 * 4, "rince_within": 2 * 4, "random": 1}
    before = {cell.key for cell in preset("vts-smoke").cells()}
    assert {cell.key for cell in cells if cell.objective in ("moco", "random")} <= before
    assert {cell.settings for cell in cells if cell.objective == "rince"} == {
        (("rince.q", q), ("rince.lam", lam)) for q in (0.1, 0.5) for lam in (0.01, 0.1)
    }


def test_weights_may_vary_and_the_random_encoder_runs_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    axis = ("encoder.weights", "none", str(tmp_path / "a"), str(tmp_path / "b"))
    sweep = varied(axis, objectives=("moco", "random", "supervised"), rho=(0.0,))
    assert replace(sweep, vary=sweep.vary) == sweep
    assert sorted(cell.objective for cell in sweep.cells()) == ["moco"] * 3 + ["random"] + ["supervised"] * 3
    with pytest.raises(InputError, match="--losses pretrained: the baseline probes the weights"):
        replace(sweep, objectives=("pretrained",))
    with pytest.raises(InputError, match=r"\A--vary encoder.weights /[^\n]*: no such file\Z"):
        varied(("encoder.weights", "none", str(tmp_path / "c")))


def test_another_place_of_the_same_weights_is_the_same_recipe(tmp_path: Path) -> None:
    there, here = ((tmp_path / name) for name in ("a", "b"))
    for path in (there, here):
        path.write_text("weights")
    first, second = (parse(["vts-smoke", f"--encoder.weights={path}"]).sweep for path in (there, here))
    assert [cell.key for cell in first.cells()] == [cell.key for cell in second.cells()]
    assert recipe_differences(first, second) == []
    assert first.recipe.values == second.recipe.values  # what MLflow gets, which refuses another value


ROLES = ("stratified,veined,matted", "veined,matted,dotted,stratified")


@pytest.mark.parametrize(
    ("words", "values"),
    [((), ROLES), (("--textures", "folder", "--data.categories", "a", "b", "c"), ("a,b,c", "b,c,a"))],
)
def test_a_list_is_a_value_and_the_data_may_vary(words: tuple[str, ...], values: tuple[str, str]) -> None:
    base = parse(["vts-smoke", *words]).sweep
    sweep = replace(base, vary=(("data.categories", values[0].replace(",", ", "), values[1]),))
    expected = [tuple(value.split(",")) for value in values]
    assert {recipe.data.categories for recipe in sweep.recipes.values()} == set(expected)
    assert {cell.settings[0][1] for cell in sweep.cells()} == set(values)


def test_data_that_vary_reach_the_cells_that_name_them() -> None:
    sweep = varied(("data.categories", *ROLES))
    sources = load_sources(sweep)
    assert [source.categories for source in sources.values()] == [tuple(roles.split(",")) for roles in ROLES]
    job = WorkerJob.of(sweep, sources)
    for cell in sweep.cells():
        assert ",".join(job.cell_jobs[cell.recipe].source.categories) == cell.settings[0][1]


@pytest.mark.parametrize("name", setting_names(Recipe()))
def test_each_setting_has_a_flag(name: str) -> None:
    part, _, setting = name.partition(".")
    value = getattr(getattr(Recipe(), part), setting)
    assert replace(Sweep(), recipe=Recipe().with_settings({name: value})) == Sweep()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--vary", "--vary: the recipe has no such setting"),
        ("--vary moco.queu 64 128", "did you mean moco.queue"),
        ("--vary rho 0 1", "--vary rho: the recipe has no such setting"),
        ("--vary data.dataset vts xbd", "the recipe has no such setting"),
        ("--vary moco.queue", "give two values or more; for a single value use --moco.queue"),
        ("--vary moco.queue 64", "give two values or more"),
        ("--vary moco.queue 64 128 064", "the value 64 is given twice"),
        ("--vary moco.queue 64 128 --vary moco.queue 256 512", "given twice; write all its values after one --vary"),
        ("--vary moco.queue 64 many", "moco.queue many: should be a valid integer"),
        ("--vary moco.queue 64 0", "moco.queue 0: should be greater than 0"),
        ("--vary moco.queue 64 2", "--moco.queue 2: must hold a batch"),
        ("--vary encoder.output_stride 8 9", "encoder.output_stride 9: should be 4, 8, 16 or 32"),
        ("--vary moco.queue 64 128 --losses within_image random", "has no effect on within_image, random"),
        ("--vary pretrain.steps 2 4 --losses random", "has no effect on random"),
        ("--vary data.regions 20 30", "nu = 0.25 is not a multiple of 1/30"),
        ("--vary data.categories veined,matted,dotted veined,dotted,oak", "--data.categories oak: procedural textures"),
        ("--vary data.categories veined,matted veined,dotted", "give three (first class, second class, noise)"),
        ("--vary data.categories veined,matted,dotted veined,dotted,veined", "veined is given twice"),
        (
            "--vary data.categories veined,matted,dotted,stratified veined,dotted,matted --pairings irrelevant",
            "--pairings irrelevant: the noise needs a fourth texture category",
        ),
    ],
)
def test_mistakes_are_one_line(arguments: str, message: str) -> None:
    nu = ("--nu", "0.25") if "regions" in arguments else ()
    done = call("vts-smoke", *arguments.split(), *nu, "--dry-run")
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_search_for_learning_rates_varies_nothing() -> None:
    with pytest.raises(InputError, match="--vary is only for"):
        replace(search_for(varied(STEPS)), sweep=varied(STEPS, rho=(0.0,)))
    assert search_for(varied(STEPS)).sweep.vary == ()
    assert sweep_to_fill(search_for(varied(STEPS)), varied(STEPS)).vary == (STEPS,)


def test_yaml_holds_the_axes_and_the_command_line_replaces_them(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(to_yaml(varied(STEPS)))
    assert from_yaml(path) == varied(STEPS)
    path.write_text(to_yaml(varied(STEPS)).replace("'2'", "2").replace("'4'", "4"))  # as people write it
    assert from_yaml(path) == varied(STEPS)
    assert parse(["--config", str(path), "--vary", "pretrain.steps", "2", "4", "8"]).sweep.vary == (
        ("pretrain.steps", "2", "4", "8"),
    )


def test_a_folder_takes_further_values_but_no_other_settings(tmp_path: Path) -> None:
    first = varied(STEPS, out=tmp_path / "out")
    claim(first.run_dir, first, ["0" * 16])
    columns = {"commit": "c", "data": "d", "source": "s", "task": "segmentation", "base": first.recipe.fingerprint}
    failed = bare_record(first.cells()[0]).with_values({**columns, "error": "no"})
    kinds = {"pretrain.steps": float}
    write_record(tmp_path / "out", to_row(failed, ("a",), kinds), ("a",), kinds)
    more = replace(first, vary=(("pretrain.steps", "2", "4", "8"),))
    assert previous_sweep(first.run_dir, more) == first
    for other in (replace(first, vary=()), replace(first, vary=(STEPS, QUEUE))):
        with pytest.raises(InputError, match=r"varies pretrain\.steps; this one varies"):
            previous_sweep(first.run_dir, other)


def test_a_folder_holds_the_data_of_all_levels(tmp_path: Path) -> None:
    sweep = varied(STEPS, out=tmp_path / "out")
    one, two, three = ("1" * 16, "2" * 16, "3" * 16)
    claim(sweep.run_dir, sweep, [one])
    claim(sweep.run_dir, sweep, [one, two])
    claim(sweep.run_dir, sweep, [two])
    assert sweep.run_dir.data.read_text().split() == [one, two]
    with pytest.raises(InputError, match="other data"):
        claim(sweep.run_dir, sweep, [three])
    with pytest.raises(InputError, match="other data"):
        claim(sweep.run_dir, sweep, [two, three])
