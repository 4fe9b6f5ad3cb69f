"""The probe: its share of a `vts-quick` cell, and the time saved by cached features."""

from dataclasses import replace
from functools import partial

import torch

from benchmarks.speed.common import Table, best_engine, device, main, time_it, vts
from datasets.vts.textures import load_textures
from sweep.config.sweep import LOSSES
from sweep.presets import preset
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.run_cell import run_cell


def run() -> list[Table]:
    """The share of the probe in a `vts-quick` cell with one thread, and the time saved by cached features."""
    return [shares(), keeping()]


def shares() -> Table:
    """Seconds of pretraining and of the probe."""
    table = Table(
        "A vts-quick cell with one thread, in seconds; pretraining steps are extrapolated from a third of them",
        ("loss", "pretraining", "probe", "share of probe"),
    )
    recipe = preset("vts-quick").recipe
    third = replace(recipe, pretrain=replace(recipe.pretrain, steps=recipe.pretrain.steps // 3))
    bank = load_textures(vts(recipe), None)
    engine = replace(best_engine(), threads=1)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for loss in LOSSES:
        cell = Cell(objective=loss, rho=0.5, nu=0.5)
        found = run_cell(cell, CellJob(recipe=third, source=bank, engine=engine), device(), report=lambda *point: None)
        # Only steps are scaled, because scenes and validations take the same time with a third of the steps.
        steps = third.pretrain.steps * third.pretrain.batch / found["images_per_second"]
        pretraining = found["pretrain_seconds"] + 2 * steps
        table.add(
            loss, pretraining, found["probe_seconds"], found["probe_seconds"] / (pretraining + found["probe_seconds"])
        )
    torch.set_num_threads(before)
    table.show()
    return table


def keeping() -> Table:
    """The probe of a random encoder with cached features, and with new views encoded at every step."""
    table = Table("The probe of vts-quick by cached_views, all cores: seconds", ("cached_views", "s"))
    recipe = preset("vts-quick").recipe
    bank = load_textures(vts(recipe), None)
    for views in (0, 1, 4, 8):
        changed = replace(recipe, probe=replace(recipe.probe, cached_views=views))
        probe = partial(
            run_cell,
            Cell(objective="random"),
            CellJob(recipe=changed, source=bank, engine=best_engine()),
            device(),
            report=lambda *point: None,
        )
        table.add(views, time_it(probe, device(), warm=0, least=1, budget=0.0).median)
    table.show()
    return table


if __name__ == "__main__":
    main("benchmarks.speed.probe", run)
