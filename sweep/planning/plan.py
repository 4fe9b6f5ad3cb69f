"""`python -m sweep.run PRESET --plan`: what the missing cells will take, by some real steps of each loss. Runs none."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from analysis.names import in_order
from analysis.text import aligned
from datasets.registry import load
from sweep import logs
from sweep.adaptive_seeds import grown, most_further
from sweep.config.grid import cheapest_last
from sweep.config.sweep import Sweep
from sweep.planning import forecast
from sweep.planning.forecast import CELL_BYTES, FOLDER_BYTES, Forecast, Prices
from sweep.prepare import check_encoder, entered, machine_for, pending, recorded_here
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
    with entered(sweep) as (folder, _):
        recorded = recorded_here(sweep)
        sweep, _ = grown(sweep.going_on(folder.check(sweep)))
        cells = sweep.cells()
        missing = pending(sweep, cells, recorded)
        print(f"{len(cells)} cells: {len(cells) - len(missing)} recorded, {len(missing)} to run", flush=True)
        if not missing:
            print("nothing is left to plan")
            return 0
        made = measured(sweep, cells, missing, began, address)
        forecast.write(made, folder.root)
        folder.send(folder.plan)
    print("\n".join(lines(made, prices)))
    if further := most_further(sweep) if sweep.until else 0:
        print(
            f"{further} more cells at most, where --until {sweep.until!r} asks for further seeds, are not in this plan"
        )
    print(f"written to {folder.name}/{folder.plan.name}; the sweep compares it with what happens")
    return 0


def measured(
    sweep: Sweep, cells: Sequence[Cell], missing: Sequence[Cell], began: float, address: str | None
) -> Forecast:
    """The forecast, after some real steps of each loss on the machine that cells go to first.

    Args:
        sweep: what was asked for.
        cells: all that are planned.
        missing: those that are to be run.
        began: when the command did, by `time.monotonic`.
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
    from sweep.autotune.choose import settle
    from sweep.cluster.session import ray_session
    from sweep.planning.profiler import rehearsers
    from sweep.tune.runner import room

    with ray_session(sweep.engine, address):
        here = machine_for(sweep, address, [path.resolve() for path in source.files])
        before = time.monotonic()
        sweep, engine = settle(sweep, missing, here)
        settling = time.monotonic() - before  # a sweep finds the choice in the cache
        print(f"engine: {engine}", flush=True)
        fit = room(sweep, here)
        with rehearsers(sweep, source, here, fit.a_machine) as together:
            start = time.monotonic() - began - settling
            parts = {}
            for cell in firsts(missing):
                print(f"timing {cell.objective}, {fit.a_machine} at a time ...", flush=True)
                parts[cell.objective] = together.rehearse(cell)
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
        total=len(cells),
        cells=tuple((cell.key, cell.objective) for cell in order),
        parts=parts,
        steps=pretrained * sweep.recipe.pretrain.steps,
        start=start,
        end=forecast.TABLES + (forecast.REPORT if sweep.report else 0.0),
        disk=FOLDER_BYTES + CELL_BYTES * len(missing),
        checkpoint_every=sweep.checkpoint_every,
    )


def firsts(cells: Sequence[Cell]) -> list[Cell]:
    """One cell of each objective, in the paper's order: what a cell takes hardly depends on rho, nu and pairing."""
    return [
        next(cell for cell in cells if cell.objective == name) for name in in_order(cell.objective for cell in cells)
    ]


def lines(made: Forecast, prices: Prices) -> Iterator[str]:
    """The plan in words."""
    yield f"\nA cell, seconds with {made.at_once} at a time, on {made.processor}"
    yield from aligned(list(_cells(made)))
    hours = made.busy / 3600
    kind = (
        f"{hours * made.gpus / made.at_once:.2g} GPU hours" if made.gpus else f"{hours * made.threads:.2g} core hours"
    )
    yield f"\n{len(made.cells)} cells, {made.steps:,} steps of pretraining, {kind} in cells"
    yield f"about {made.disk / 1e6:,.0f} MB on the disk"
    yield f"\nWall time ({made.start:.0f} s to begin and {made.end:.0f} s to end are in it)"
    yield from aligned([["cells at a time", "", "wall time"], [], *_walls(made)])
    if made.at_once > 1:
        yield (
            "fewer at a time than were timed take no longer than this, for each then has more of the machine: "
            "`--workers N --plan` measures it"
        )
    yield from _costs(made, prices)


def _cells(made: Forecast) -> Iterator[list[str]]:
    yield ["loss", "cells", "start", "a step", "pretraining", "probe", "a cell", "all"]
    yield []
    for name in in_order(made.parts):
        parts = made.parts[name]
        stage = {s: sum(part.seconds for part in parts if part.stage == s) for s in ("pretrain", "probe")}
        opening, step = (
            sum(part.each for part in parts if (part.stage, part.name) == ("pretrain", what))
            for what in ("opening", "step")
        )
        count = sum(objective == name for _, objective in made.cells)
        yield [
            name,
            str(count),
            f"{opening:.1f}",
            f"{step:.3f}" if step else "-",
            f"{stage['pretrain'] - opening:.1f}" if step else "-",
            f"{stage['probe']:.1f}",
            f"{made.cell(name):.1f}",
            f"{count * made.cell(name):.0f}",
        ]


def _walls(made: Forecast) -> Iterator[list[str]]:
    here = made.at_once
    below = list(range(1, here + 1)) if here <= MOST_ROWS // 2 else [1, here // 2, here]
    for workers in [*below, *(here * machines for machines in (2, 4, 8) if here * machines // 2 < len(made.cells))]:
        machines = workers // here
        where = "" if workers < here else "here" if machines == 1 else f"{machines} times what is here"
        yield [str(workers), where, duration(made.wall(workers))]


def _costs(made: Forecast, prices: Prices) -> Iterator[str]:
    unit = "GPU hours" if made.gpus else "machine hours"
    if prices.hour is not None:
        cost = made.hours * prices.hour
        yield f"\non demand: {made.hours:.2g} {unit} at {prices.hour:g} USD: {cost:,.2f} USD"
    if prices.spot_hour is not None and prices.spot_losses is not None:
        longer = made.spot(prices.spot_losses)
        hours = made.hours * longer
        yield (
            f"spot: {hours:.2g} {unit} at {prices.spot_hour:g} USD: {hours * prices.spot_hour:,.2f} USD; "
            f"{100 * (longer - 1):.1f} % of it is work done again, with {prices.spot_losses:g} losses an hour and a "
            f"checkpoint every {made.checkpoint_every:g} s"
        )


def duration(seconds: float) -> str:
    """Seconds as one says them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
