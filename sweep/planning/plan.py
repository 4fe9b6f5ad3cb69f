"""`python -m sweep.run PRESET --plan`: time some real steps of each loss, and print what missing cells will take."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from analysis.names import in_order
from analysis.text import aligned, duration
from datasets.registry import load
from sweep import logs
from sweep.adaptive_seeds import add_seeds, max_added_cells
from sweep.config.grid import cheapest_last
from sweep.config.sweep import Sweep
from sweep.planning.forecast import CELL_BYTES, FOLDER_BYTES, REPORT, TABLES, Forecast, write_plan
from sweep.planning.prices import Prices
from sweep.prepare import check_encoder, exclusive_run_dir, machine_for, missing_cells, previous_sweep, recorded_status
from trainables.cell import Cell

MOST_ROWS = 8
"""Numbers of workers that a plan shows."""


def plan(sweep: Sweep, prices: Prices, *, address: str | None = None) -> int:
    """Measure, print the plan and write `plan.json` into the sweep's folder; no cell is run and nothing else written.

    Args:
        sweep: what was asked for.
        prices: what its hours cost.
        address: of the Ray cluster that would run it, one of whose machines measures; None: Ray is started here.

    Returns:
        0.

    Raises:
        InputError: the data, the folder or the cluster do not fit, or a sweep runs there.
        RecordsError, StoreError: what lies at the sweep's address cannot be read, or the plan not be written there.
    """
    began = time.monotonic()
    with exclusive_run_dir(sweep) as (run_dir, _):
        recorded = recorded_status(run_dir)
        sweep, _ = add_seeds(sweep.continuing(previous_sweep(run_dir, sweep)))
        total, missing = len(sweep.cells()), missing_cells(sweep, recorded)
        print(f"{total} cells: {total - len(missing)} recorded, {len(missing)} to run", flush=True)
        if not missing:
            print("nothing is left to plan")
            return 0
        forecast = make_forecast(sweep, missing, began, address)
        write_plan(forecast, run_dir.root)
        run_dir.send(run_dir.plan)
    print("\n".join(describe(forecast, prices)))
    if further := max_added_cells(sweep) if sweep.until else 0:
        print(
            f"{further} more cells at most, where --until {sweep.until!r} asks for further seeds, are not in this plan"
        )
    print(f"written to {run_dir.name_of(run_dir.plan)}; the sweep compares it with what happens")
    return 0


def make_forecast(sweep: Sweep, missing: Sequence[Cell], began: float, address: str | None) -> Forecast:
    """Time some real steps of each loss on the machine that cells go to first.

    Args:
        sweep: what was asked for.
        missing: those that are to be run.
        began: when the command began, by `time.monotonic`.
        address: of a cluster.

    Raises:
        InputError: the data or the cluster do not fit, or the cells cannot run there.
    """
    check_encoder(sweep.recipe)
    if address is not None:
        from sweep.cluster.join import resolve_address

        address = resolve_address(address)
    logs.nowhere()
    source = load(sweep.recipe.data, sweep.place, sweep.demands)
    from sweep.autotune.choose import choose_engine
    from sweep.cluster.session import ray_session
    from sweep.planning.profiler import profilers
    from sweep.tune.resources import resources_for

    with ray_session(sweep.engine, address, packages=sweep.outside_packages):
        here = machine_for(sweep, address, [path.resolve() for path in source.files])
        before = time.monotonic()
        sweep, engine = choose_engine(sweep, missing, here)
        choosing = time.monotonic() - before  # a sweep finds the choice in the cache
        print(f"engine: {engine}", flush=True)
        fit = resources_for(sweep, here)
        with profilers(sweep, source, here, fit.a_machine) as workers:
            start = time.monotonic() - began - choosing
            parts = {}
            for cell in one_per_objective(missing):
                print(f"timing {cell.objective}, {fit.a_machine} at a time ...", flush=True)
                parts[cell.objective] = workers.profile(cell)
    order = cheapest_last(missing, 2 * fit.at_once)
    pretrained = sum(
        any(part.name == "step" and part.stage == "pretrain" for part in parts[c.objective]) for c in order
    )
    return Forecast(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=sweep.recipe.fingerprint,
        data=source.fingerprint,
        engine=sweep.engine,
        processor=here.hardware,
        threads=sweep.engine.threads,
        at_once=fit.at_once,
        gpus=fit.gpus,
        total=len(sweep.cells()),
        cells=tuple((cell.key, cell.objective) for cell in order),
        parts=parts,
        steps=pretrained * sweep.recipe.pretrain.steps,
        start=start,
        end=TABLES + (REPORT if sweep.report else 0.0),
        disk=FOLDER_BYTES + CELL_BYTES * len(missing),
        checkpoint_every=sweep.checkpoint_every,
    )


def one_per_objective(cells: Sequence[Cell]) -> list[Cell]:
    """One cell of each objective, in the paper's order: the time of a cell hardly depends on rho, nu and pairing."""
    return [
        next(cell for cell in cells if cell.objective == name) for name in in_order(cell.objective for cell in cells)
    ]


def describe(forecast: Forecast, prices: Prices) -> Iterator[str]:
    """The plan as lines of text."""
    yield f"\nA cell, seconds with {forecast.at_once} at a time, on {forecast.processor}"
    yield from aligned(list(_cells(forecast)))
    hours = forecast.all_cells_seconds / 3600
    gpu_hours, core_hours = hours * forecast.gpus / forecast.at_once, hours * forecast.threads
    kind = f"{gpu_hours:.2g} GPU hours" if forecast.gpus else f"{core_hours:.2g} core hours"
    yield f"\n{len(forecast.cells)} cells, {forecast.steps:,} steps of pretraining, {kind} in cells"
    yield f"about {forecast.disk / 1e6:,.0f} MB on the disk"
    yield f"\nWall time ({forecast.start:.0f} s to begin and {forecast.end:.0f} s to end are in it)"
    yield from aligned([["cells at a time", "", "wall time"], [], *_walls(forecast)])
    if forecast.at_once > 1:
        yield (
            "fewer at a time than were timed take no longer than this, for each then has more of the machine: "
            "`--workers N --plan` measures it"
        )
    yield from _costs(forecast, prices)


def _cells(forecast: Forecast) -> Iterator[list[str]]:
    yield ["loss", "cells", "start", "a step", "pretraining", "probe", "a cell", "all"]
    yield []
    for name in in_order(forecast.parts):
        parts = forecast.parts[name]
        stage = {s: sum(part.seconds for part in parts if part.stage == s) for s in ("pretrain", "probe")}
        opening, step = (
            sum(part.each for part in parts if (part.stage, part.name) == ("pretrain", what))
            for what in ("opening", "step")
        )
        count = sum(objective == name for _, objective in forecast.cells)
        yield [
            name,
            str(count),
            f"{opening:.1f}",
            f"{step:.3f}" if step else "-",
            f"{stage['pretrain'] - opening:.1f}" if step else "-",
            f"{stage['probe']:.1f}",
            f"{forecast.cell_seconds(name):.1f}",
            f"{count * forecast.cell_seconds(name):.0f}",
        ]


def _walls(forecast: Forecast) -> Iterator[list[str]]:
    here = forecast.at_once
    below = list(range(1, here + 1)) if here <= MOST_ROWS // 2 else [1, here // 2, here]
    for workers in [*below, *(here * machines for machines in (2, 4, 8) if here * machines // 2 < len(forecast.cells))]:
        machines = workers // here
        where = "" if workers < here else "here" if machines == 1 else f"{machines} times what is here"
        yield [str(workers), where, duration(forecast.wall_seconds(workers), decimals=1)]


def _costs(forecast: Forecast, prices: Prices) -> Iterator[str]:
    unit = "GPU hours" if forecast.gpus else "machine hours"
    if prices.gpu is not None:
        cost = prices.cost(gpu_hours=forecast.billed_hours)
        yield f"\non demand: {forecast.billed_hours:.2g} {unit} at {prices.gpu:g} USD: {cost:,.2f} USD"
    if prices.spot is not None and prices.spot_losses is not None:
        slowdown = forecast.spot_slowdown(prices.spot_losses)
        hours = forecast.billed_hours * slowdown
        yield (
            f"spot: {hours:.2g} {unit} at {prices.spot:g} USD: {hours * prices.spot:,.2f} USD; "
            f"{100 * (slowdown - 1):.1f} % of it is work done again, with {prices.spot_losses:g} losses an hour and a "
            f"checkpoint every {forecast.checkpoint_every:g} s"
        )
