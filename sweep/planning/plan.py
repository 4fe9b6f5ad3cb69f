"""`python -m sweep.run PRESET --plan`: time some real steps of each loss and print how long the cells will take."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from analysis.names import in_order
from analysis.text import aligned, duration
from sweep import logs
from sweep.backend import RayBackend
from sweep.config.grid import cheapest_last
from sweep.config.sweep import Sweep
from sweep.planning.adaptive_seeds import add_seeds, max_added_cells
from sweep.planning.forecast import CELL_BYTES, FOLDER_BYTES, REPORT, TABLES, Forecast, write_plan
from sweep.prepare import (
    check_fingerprints,
    check_settings,
    cluster_address,
    exclusive_run_dir,
    find_weights,
    load_sources,
    machine_for,
    missing_cells,
    previous_sweep,
    recorded_status,
)
from trainables.cell import Cell

MOST_ROWS = 8
"""The plan shows this many numbers of workers."""


def plan(sweep: Sweep, price: float | None, *, address: str | None = None) -> int:
    """Measure, print the plan and write `plan.json` into the sweep's folder. Runs no cell and writes nothing else.

    Args:
        sweep: the sweep of the command line.
        price: US dollars per hour of one GPU, or of a machine without a GPU; None: the plan names no cost.
        address: of a Ray cluster, on one of whose machines the steps are timed; None: Ray is started on this machine.

    Returns:
        The exit code 0.

    Raises:
        InputError: the data, the folder or the cluster cannot be used, or another command runs the sweep.
        RecordsError, StoreError: the sweep's address cannot be read or written.
    """
    began = time.monotonic()
    with exclusive_run_dir(sweep) as (run_dir, _):
        recorded = recorded_status(run_dir)
        sweep, _ = add_seeds(sweep.continuing(previous_sweep(run_dir, sweep)))
        total, missing = len(sweep.cells()), missing_cells(sweep, recorded)
        print(f"{total} cells: {total - len(missing)} recorded, {len(missing)} to run", flush=True)
        if not missing:
            print("no cell is missing: there is nothing to plan")
            return 0
        check_settings(sweep, address)
        if sweep.imagenet_weights or not sweep.download:
            find_weights(sweep, missing)
        forecast = make_forecast(sweep, missing, began, address)
        write_plan(forecast, run_dir.root)
        run_dir.send(run_dir.plan)
    print("\n".join(describe(forecast, price)))
    if further := max_added_cells(sweep) if sweep.until else 0:
        print(f"--until {sweep.until!r} may add up to {further} cells, which are not in this plan")
    print(f"written to {run_dir.name_of(run_dir.plan)}; the sweep will compare it with the time that it takes")
    return 0


def make_forecast(sweep: Sweep, missing: Sequence[Cell], began: float, address: str | None) -> Forecast:
    """Time some real steps of each loss on the machine that cells go to first.

    Args:
        sweep: the sweep of the command line.
        missing: the cells to run.
        began: when the command began, by `time.monotonic`.
        address: of a cluster.

    Raises:
        InputError: the data or the cluster cannot be used, or the cells cannot run there.
    """
    address = cluster_address(address)
    logs.nowhere()
    sources = load_sources(sweep)
    check_fingerprints(sweep.run_dir, [source.fingerprint for source in sources.values()])
    from sweep.autotune.choose import choose_engine
    from sweep.autotune.microbenchmark import benchmark_processes
    from sweep.planning.profiler import profilers
    from sweep.tune.resources import resources_for

    with RayBackend(address).session(sweep):
        machine = machine_for(sweep, address, [path.resolve() for source in sources.values() for path in source.files])
        before = time.monotonic()
        sweep, engine = choose_engine(sweep, missing, machine, sources, benchmark_processes)
        choosing = time.monotonic() - before  # the sweep itself will find the choice in the cache
        print(f"engine: {engine}", flush=True)
        resources = resources_for(sweep, machine)
        with profilers(sweep, sources, machine, resources.a_machine) as workers:
            start = time.monotonic() - began - choosing
            parts = {}
            for cell in one_per_variant(missing):
                print(f"timing {cell.variant}, {resources.a_machine} at a time ...", flush=True)
                parts[cell.variant] = workers.profile(cell)
    order = cheapest_last(missing, 2 * resources.at_once)
    steps = {fingerprint: recipe.pretrain.steps for fingerprint, recipe in sweep.recipes.items()}
    trained = {name for name, own in parts.items() if any((p.stage, p.name) == ("pretrain", "step") for p in own)}
    return Forecast(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=sweep.recipe.fingerprint,
        data=" ".join(source.fingerprint for source in sources.values()),
        engine=sweep.engine,
        processor=machine.hardware,
        threads=sweep.engine.threads,
        at_once=resources.at_once,
        gpus=resources.gpus,
        total=len(sweep.cells()),
        cells=tuple((cell.key, cell.variant) for cell in order),
        parts=parts,
        steps=sum(steps[cell.recipe] for cell in order if cell.variant in trained),
        start=start,
        end=TABLES + (REPORT if sweep.report else 0.0),
        disk=FOLDER_BYTES + CELL_BYTES * len(missing),
    )


def one_per_variant(cells: Sequence[Cell]) -> list[Cell]:
    """One cell of each objective and level, in the paper's order. Its time hardly depends on rho, nu and pairing."""
    first = {cell.variant: cell for cell in reversed(cells)}
    return [
        cell
        for name in in_order(cell.objective for cell in cells)
        for cell in sorted(first.values(), key=lambda cell: cells.index(cell))
        if cell.objective == name
    ]


def describe(forecast: Forecast, price: float | None = None) -> Iterator[str]:
    """The plan as lines of text."""
    yield f"\nSeconds per cell, with {forecast.at_once} at a time, on {forecast.processor}"
    yield from aligned(list(_cells(forecast)))
    hours = forecast.all_cells_seconds / 3600
    gpu_hours, core_hours = hours * forecast.gpus / forecast.at_once, hours * forecast.threads
    kind = f"{gpu_hours:.2g} GPU hours" if forecast.gpus else f"{core_hours:.2g} core hours"
    yield f"\n{len(forecast.cells)} cells, {forecast.steps:,} steps of pretraining, {kind} in cells"
    yield f"about {forecast.disk / 1e6:,.0f} MB on the disk"
    yield f"\nWall time, with {forecast.start:.0f} s for the start and {forecast.end:.0f} s for the end"
    yield from aligned([["cells at a time", "", "wall time"], [], *_walls(forecast)])
    if forecast.at_once > 1:
        yield (
            f"Times with fewer than {forecast.at_once} at a time are upper bounds, because each cell then has more of "
            "the machine; `--workers N --plan` measures them"
        )
    if price is not None:
        unit = "GPU hours" if forecast.gpus else "machine hours"
        hours = forecast.billed_hours
        yield f"\ncost: {hours:.2g} {unit} at {price:g} USD: {hours * price:,.2f} USD"


def _cells(forecast: Forecast) -> Iterator[list[str]]:
    yield ["loss", "cells", "start", "one step", "pretraining", "probe", "one cell", "all cells"]
    yield []
    for name in forecast.parts:  # in the paper's order
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
    present = forecast.at_once
    fewer = list(range(1, present + 1)) if present <= MOST_ROWS // 2 else [1, present // 2, present]
    more = [present * times for times in (2, 4, 8) if present * times // 2 < len(forecast.cells)]
    for workers in [*fewer, *more]:
        times = workers // present
        note = "" if workers < present else "these machines" if times == 1 else f"{times} times these machines"
        yield [str(workers), note, duration(forecast.wall_seconds(workers), decimals=1)]
