"""The length of a grid as a formula, distinct cells, and the searcher that suggests them."""

import pytest

from datasets.errors import InputError
from sweep.config.grid import Axes, cheapest_last, expand
from sweep.config.sweep import Sweep
from sweep.presets import PRESETS, preset
from trainables.cell import Cell
from trainables.recipe import Recipe
from trainables.registry import BASELINES


def size(axes, *, has_nu=True):
    """Per loss and seed: one clean cell if rho = 0 or nu = 0 is on an axis, and all noisy combinations."""
    noisy = len({r for r in axes.rho if r}) * len(set(axes.pairings))
    noisy *= len({n for n in axes.nu if n}) if has_nu else 1
    losses = set(axes.objectives) - set(BASELINES)
    baselines = set(axes.objectives) & set(BASELINES)
    clean = 0 in axes.rho or (has_nu and 0 in axes.nu)
    return len(set(axes.seeds)) * (len(losses) * (noisy + clean) + len(baselines))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_as_many_cells_as_the_formula_says(name):
    sweep = preset(name)
    cells = sweep.cells()
    assert len(cells) == len(set(cells)) == len({cell.key for cell in cells})
    assert len(cells) == size(sweep.axes, has_nu=sweep.recipe.data.has_nu)


@pytest.mark.parametrize(
    ("name", "recipe", "first", "last"),
    [
        ("vts-smoke", "514f1155744fcff4", "03f2032a848b575b d3cac5eb5948002d 8c63cd0888a9a71a", "e62d21b5f36e4835"),
        ("vts-quick", "1427119a8e8890fb", "62a20e319aea5cce 748be12c1858090d 6cccefd71a9e3435", "91ee5a50d2572aa5"),
        ("vts-standard", "8c1a2ba5b13939f9", "87c492e846c90a6e 3910ddf87a239b7e 5544bb1c025ddea9", "1c6e4ca6a005e06d"),
        ("vts-losses", "581eeee3373dd966", "a130933e8b471674 d3a575363f4df4a6 700bc6a1ca74a641", "4998578d3142b56e"),
        ("vts-gpu", "4adceecfd06ee5e1", "5f158daf9e1d51da 7143a3b36d1900eb 4e371f2e10c7e5eb", "74e8ddd3ce0b19df"),
        ("vts-paper", "77d2e6c1c71cb019", "4784ed0a985bbb00 71228ab20f32215e baaf5af121873d82", "ee1f72180475681b"),
        ("xbd-quick", "168c092c6fd8aee9", "7d76f36d45c11362 19eda6fa7f0177c8 19ff82ea1d872c2f", "97d9fbad118d33cd"),
        ("xbd-paper", "457a1e157ec9a05a", "3f82d39ca3ff1262 df7aedfaf0a26658 fd0107b003223e06", "b7eba9b899093a76"),
        ("manifest", "295fefd826234032", "a0572f77ccbee873 8f54e6d347e29fd5 bfbce73a06ab3dde", "ecde507647383c1e"),
        ("cifar-quick", "9cb08b35200805c1", "69596f0a59272899 c9724dd648f534e3 e7aad0f3fa72bae1", "341312c14735834e"),
        ("cifar-paper", "23abb74c1a22102c", "7d741e59d2733f98 b5ea92a490f053ba cd26b807d187d6f0", "42ece34f5973257d"),
    ],
)
def test_keys_are_those_of_the_records_that_there_are(name, recipe, first, last):
    """A change of a key orphans all users' records. To update, print `preset(name).cells()`; done on 2026-11-30."""
    cells = preset(name).cells()
    assert preset(name).recipe.fingerprint == recipe
    assert [cell.key for cell in cells[:3]] == first.split()
    assert cells[-1].key == last


def test_the_default_recipe_has_the_fingerprint_of_the_records_that_there_are():
    assert Recipe().fingerprint == "887f126154ddee6c"


def test_the_papers_grid_has_99_cells_a_seed():
    cells = preset("vts-paper").cells()
    assert len(cells) == 3 * 99
    assert [sum(cell.seed == seed for cell in cells) for seed in (0, 1, 2)] == [99, 99, 99]
    assert len(preset("vts-gpu").cells()) == 99
    assert len(preset("vts-quick").cells()) == 17
    assert len(preset("vts-standard").cells()) == 29


@pytest.mark.parametrize(
    "axes",
    [
        Axes(("moco",), (0.0,), (0.5, 1.0), ("noisy", "exposure"), (0,)),
        Axes(("moco", "random"), (0.5, 1.0), (0.0, 0.5), ("noisy",), (0, 1)),
        Axes(("random",), (0.0, 1.0), (0.5,), ("noisy", "exposure"), (0, 1, 2)),
        Axes(("moco", "moco"), (1.0, 1.0), (0.5,), ("noisy", "noisy"), (4, 4)),
    ],
)
def test_equivalent_combinations_are_one_cell(axes):
    cells = expand(axes, dataset="vts", recipe=Recipe())
    assert len(cells) == size(axes)
    assert len(cells) <= axes.points


def test_seeds_come_one_after_the_other():
    seeds = [cell.seed for cell in Sweep(seeds=(2, 0, 1)).cells()]
    assert seeds == sorted(seeds, key=(2, 0, 1).index)


def test_growing_an_axis_keeps_the_keys_of_the_cells_there_were():
    before = {cell.key for cell in Sweep(rho=(0.0, 0.5)).cells()}
    assert before < {cell.key for cell in Sweep(rho=(0.0, 0.5, 1.0), seeds=(0, 1)).cells()}


def test_a_bad_value_is_refused():
    with pytest.raises(InputError, match="rho = 2"):
        expand(Axes(("moco",), (2.0,), (0.5,), ("noisy",), (0,)), dataset="vts", recipe=Recipe())


def test_the_searcher_hands_out_every_cell_once_then_finishes():
    from ray.tune.search import Searcher

    from sweep.tune.admission import CellQueue
    from sweep.tune.grid_searcher import GridSearcher

    cells = Sweep(objectives=("moco", "random")).cells()
    searcher = GridSearcher(CellQueue(cells))
    assert tuple(Cell(**searcher.suggest(f"trial {n}")["cell"]) for n in range(len(cells))) == cells
    assert searcher.suggest("one more") == Searcher.FINISHED
    assert searcher.suggest("another") == Searcher.FINISHED


def test_the_searcher_asks_tune_to_wait_while_others_have_all_cells_and_one_of_ours_runs():
    from ray.tune.search import Searcher

    from sweep.tune.grid_searcher import GridSearcher

    class Others:
        over = False

        def take(self):
            return None

        def is_over(self):
            return self.over

    queue, running = Others(), [1]
    searcher = GridSearcher(queue, busy=lambda: bool(running))
    assert searcher.suggest("a") is None
    queue.over = True
    assert searcher.suggest("b") is None
    running.clear()
    assert searcher.suggest("c") == Searcher.FINISHED


def test_the_cheapest_of_the_last_seed_come_last_and_none_is_lost():
    cells = Sweep(seeds=(0, 1)).cells()
    order = cheapest_last(cells, 5)
    assert sorted(order) == sorted(cells)
    assert order[: len(cells) // 2] == cells[: len(cells) // 2]  # the first seed keeps its order
    assert [cell.objective for cell in order[-5:]] == ["moco"] * 4 + ["random"]
    kept = [cell for cell in cells if cell not in order[-5:]]
    assert list(order[:-5]) == kept
    assert cheapest_last(cells[:1], 5) == cells[:1]
