"""Compares engines and numbers of cells at a time by measurements, in a limited time and in spite of other programs.

The plain engine is measured first, because each other one must compute the same; then the one that the processor is
known to do well; then the others while there is time. Measurements that other programs have disturbed are repeated in
turn with those of the best engine, and the less disturbed ones count.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sweep.autotune.candidates import eager, likely_best, recomputing, splits
from sweep.autotune.measurement import BenchmarkTask, Measure, Measurement, NotMeasuredError, Processes
from trainables.engine import PLAIN, Engine

log = logging.getLogger(__name__)

MARGIN = 1.05
"""A candidate must be this many times faster than the best so far. Repetitions differ by less."""
MOST_LOSS_DIFFERENCE = 0.03
"""Largest relative difference of a candidate's loss from the plain engine's, after some steps."""
MOST_SECONDS = 60.0
"""Seconds after which no further candidate is tried, apart from compiled ones."""
MOST_SHARE = 0.1
"""The same as a share of the time that the sweep will train."""
COMPILING_PAYS_FROM = 3600.0
"""Seconds of pretraining, all cells together, above which compiling is tried on a GPU. It takes a minute in each
worker. On a CPU it takes as long, and steps were never faster."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen engine and number of cells at a time, and all measurements."""

    best: Measurement
    plain: Measurement
    compiling: bool
    """Whether compiled candidates were tried."""
    tried: tuple[Measurement, ...]
    seconds: float = MOST_SECONDS
    """The time limit under which candidates were left out; the largest limit if none was."""
    doubt: str = ""
    """Why it may be wrong, so that it is not remembered; empty without a reason."""

    def __str__(self) -> str:
        if not self.best.rate:
            return f"{self.best.engine} (the measurements failed; the log says why)"
        gain = self.best.rate / self.plain.rate
        rate = f"{self.best.rate:.0f} images/s"
        return f"{self.best.engine}, {self.best.cells} at a time: {rate}, {gain:.2f} times the plain engine"


def time_limit(images: int, rate: float) -> float:
    """Seconds that measuring may take for a sweep that trains on so many source images, at this rate."""
    return min(MOST_SECONDS, MOST_SHARE * images / rate)


def compiling_pays(task: BenchmarkTask, images: int, best: Measurement) -> bool:
    """Whether pretraining takes so long that compiling saves more time than it costs."""
    return task.machine.gpus > 0 and best.rate > 0 and images / best.rate > COMPILING_PAYS_FROM


def compare_candidates(
    task: BenchmarkTask, images: int, processes: Processes, clock: Callable[[], float] = time.monotonic
) -> Choice:
    """Measure the candidates: engines, recorded steps on a GPU, compiled engines, then numbers of cells at a time.

    Args:
        task: the settings to choose, and the machine.
        images: source images that the whole sweep trains on.
        processes: where candidates are measured.
        clock: for tests.
    """
    left = splits(task)
    fallback = Measurement(engine=replace(task.engine.filled(PLAIN), threads=left[-1][1]), cells=1)
    try:
        with processes(task, max(cells for cells, _ in left)) as measure:
            comparison = Comparison(measure, fallback, images, clock)
            while left and not comparison.best.rate:  # on a small host only few cells may fit
                cells, threads = left.pop(0)
                comparison.add(replace(PLAIN, threads=threads), cells, eligible=False)
                if comparison.takes_too_long:
                    return comparison.guess(likely_best(task, threads), cells)
                for engine in eager(task, threads):
                    if not comparison.best.rate or comparison.has_time():
                        comparison.add(engine, cells)
                if task.machine.gpus and not comparison.best.rate:  # less memory for the same result
                    for engine in recomputing(task, threads):
                        comparison.add(engine, cells)
                    left = left if comparison.best.rate else []  # more cells at a time need more memory
            compiled = task.engine.compile == "auto" and not comparison.best.engine.recompute
            if compiled and task.machine.gpus and comparison.best.rate and comparison.has_time():
                comparison.add(replace(comparison.best.engine, compile="graph"), comparison.best.cells)
            best = comparison.best
            compiling = compiled and compiling_pays(task, images, best)
            if compiling:
                for mode in ("default", "reduce-overhead"):
                    comparison.add(replace(best.engine, compile=mode), best.cells)
            for cells, threads in left:
                best = comparison.best
                if cells * best.memory <= best.room and comparison.has_time():
                    comparison.add(replace(best.engine, threads=threads), cells)
    except NotMeasuredError as error:
        log.warning("nothing could be measured: %s", error)
        return Choice(best=fallback, plain=fallback, compiling=False, tried=())
    return comparison.choice(compiling)


@dataclass
class Comparison:
    """The candidates so far and the best of them."""

    measure: Measure
    best: Measurement
    """At first the result if every candidate fails. The sweep itself then reports why."""
    images: int
    """Source images that the whole sweep trains on."""
    clock: Callable[[], float]
    tried: dict[tuple[Engine, int], Measurement] = field(default_factory=dict)
    left_out: bool = False
    """Whether there was no time for a candidate."""

    def __post_init__(self) -> None:
        """The clock starts with the first measurement: until then processes start."""
        self.plain = self.best
        self._began: float | None = None
        self._longest = 0.0

    def add(self, engine: Engine, cells: int, *, eligible: bool = True) -> None:
        """Measure a candidate, and check that it computes the same as the first candidate that could be measured.

        Args:
            engine: the engine.
            cells: number of processes at the same time.
            eligible: whether it may be chosen. Otherwise it only serves as reference.
        """
        measured = self.tried.get((engine, cells)) or self._measured(engine, cells)
        if not measured.fault and not self.plain.rate:
            self.plain = measured
        if not measured.fault and abs(measured.loss - self.plain.loss) > MOST_LOSS_DIFFERENCE * self.plain.loss:
            measured = replace(
                measured, fault=f"its loss is {measured.loss:.4f}, the first engine's {self.plain.loss:.4f}"
            )
        self.tried[engine, cells] = measured
        if eligible and not measured.fault and self._beats_best(measured):
            self.best = self.tried[engine, cells]

    def has_time(self) -> bool:
        """Whether there is time for one more measurement, as long as the longest so far."""
        enough = not self.plain.rate or self._spent + self._longest <= time_limit(self.images, self.plain.rate)
        self.left_out |= not enough
        return enough

    @property
    def takes_too_long(self) -> bool:
        """Whether two measurements take longer than all may."""
        return self.plain.rate > 0 and self._spent + self._longest > MOST_SECONDS

    def guess(self, engine: Engine, cells: int) -> Choice:
        """The choice without a measurement of its own. Its rate is taken for that of the plain engine."""
        doubt = f"the first measurement took {self._spent:.0f} s, so there was no second one"
        best = replace(self.plain, engine=engine, cells=cells)
        return Choice(best=best, plain=self.plain, compiling=False, tried=(self.plain,), seconds=0.0, doubt=doubt)

    def choice(self, compiling: bool) -> Choice:
        """The choice from what was measured."""
        usable = [one for one in self.tried.values() if not one.fault]
        doubts = (one.disturbance for one in (self.best, self.plain, *usable))
        return Choice(
            best=self.best,
            plain=self.plain,
            compiling=compiling,
            tried=tuple(self.tried.values()),
            seconds=time_limit(self.images, self.plain.rate) if self.left_out else MOST_SECONDS,
            doubt=next(filter(None, doubts), ""),
        )

    @property
    def _spent(self) -> float:
        """Seconds since the first measurement began."""
        return 0.0 if self._began is None else self.clock() - self._began

    def _measured(self, engine: Engine, cells: int) -> Measurement:
        before = self.clock()
        self._began = before if self._began is None else self._began
        measured = self.measure(engine, cells)
        self._longest = max(self._longest, self.clock() - before)
        return measured

    def _beats_best(self, measured: Measurement) -> bool:
        """Whether it is faster than the best.

        Where it seems so, or other programs were busy, both are measured again, in turn.
        """
        for repeated in (self.best, measured):
            faster = measured.rate > MARGIN * self.best.rate
            unsure = (faster and repeated is self.best) or measured.disturbance or self.best.disturbance
            if self.best.rate and unsure and self.has_time():
                again = self._repeat(repeated)
                measured = again if repeated is measured else measured
        return measured.rate > MARGIN * self.best.rate

    def _repeat(self, one: Measurement) -> Measurement:
        """Measure a candidate again. The calmer measurement counts, or the faster one: nothing makes steps too fast."""
        again = self._measured(one.engine, one.cells)
        calmer = bool(one.disturbance) - bool(again.disturbance)
        if again.fault or calmer < 0 or (calmer == 0 and again.rate <= one.rate):
            return one
        self.tried[one.engine, one.cells] = again
        self.best = again if self.best is one else self.best
        self.plain = again if self.plain is one else self.plain
        return again
