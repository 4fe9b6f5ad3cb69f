"""The profile of a cell: the time of each of its parts, measured on an excerpt of the data.

The time of the whole cell follows from how often it runs each part: setup, steps, evaluations, features.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from datasets.dataset import Dataset, PairBatch, PairPool
from datasets.registry import open_data
from datasets.types import Pairing
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.cell_state import CellState
from trainables.checkpoints import Checkpoints
from trainables.collapse import feature_spread
from trainables.examples import examples
from trainables.models.encoders import Backbone
from trainables.models.heads import NearestPositions
from trainables.objective_names import objective_info
from trainables.pretrain import evaluation_steps, looks, pretrain
from trainables.probe import encoded, encoded_views, evaluate, probe
from trainables.profiling.bare_step import synchronise
from trainables.profiling.parts import Part
from trainables.recipe import Recipe
from trainables.run_cell import first_encoder, noise_of
from trainables.views import labelled_images


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of a cell its profile runs."""

    steps: int
    """Steps of pretraining, at least 3; the first one is not timed."""
    probe_steps: int
    """Steps of the probe, likewise."""
    batches: int
    """Batches of images for each evaluation and for the cached features."""


SMALLEST = Size(steps=3, probe_steps=3, batches=1)
"""The size of the first run of a process, its warm-up."""


def profile_cell(cell: Cell, job: CellJob, device: torch.device, *, size: Size, folder: Path) -> tuple[Part, ...]:
    """Run a shortened cell with the code of a real one, and time each part.

    Args:
        cell: the coordinates. A baseline without training is measured as `random`.
        job: of the whole cell.
        device: of the cell.
        size: how much to run.
        folder: for the checkpoints. The caller removes it.

    Returns:
        Seconds of each part, and how often a whole cell does it.

    Raises:
        NonFiniteLossError: training diverged.
    """
    recipe, trained = job.recipe, objective_info(cell.objective).trained
    short = shortened(recipe, size)
    marks = _Marks(folder, device, {"pretrain": size.steps, "probe": size.probe_steps})
    if not trained:
        cell = replace(cell, objective="random")
    marks.record("begin")
    with closing(CellState(marks, lambda stage, step, values: None)) as state:
        data = open_data(recipe.data, job.source, cell.seed, device)
        encoder = first_encoder(cell, job).to(device)
        excerpt = Excerpt(data, size.batches * max(recipe.pretrain.batch, recipe.probe.batch))
        marks.record("opened")
        if trained:
            pretrain(encoder, excerpt, cell, short, state)
            noise_of(data, cell)
        marks.record("trained")
        feature_spread(encoder, excerpt, recipe, state.with_heartbeat)
        marks.record("spread")
        watching = [*_looks(encoder, data, excerpt, cell, recipe, marks)] if trained else []
        marks.record("probe")
        probed = probe(encoder, excerpt, cell, short, state)
        marks.record("probed")
        examples(probed, data, recipe)
    marks.record("end")
    parts = [Part(stage="pretrain", name="opening", each=marks.between("begin", "opened"), times=1)]
    if trained:
        downstream = objective_info(cell.objective).sees == "downstream"
        images, some = (one.count("val") if downstream else one.validation_pairs() for one in (data, excerpt))
        parts += [*_pretraining(marks, recipe, size, images / some), *watching]
    pairs = data.validation_pairs() / max(1, excerpt.validation_pairs())
    parts.append(Part(stage="pretrain", name="feature spread", each=marks.between("trained", "spread"), times=pairs))
    return (*parts, *_probing(marks, recipe, size, data, excerpt))


def shortened(recipe: Recipe, size: Size) -> Recipe:
    """The recipe with the steps of the profile and one evaluation."""
    pretraining = replace(
        recipe.pretrain, steps=size.steps, warmup=min(recipe.pretrain.warmup, size.steps), evaluations=1
    )
    head = "linear" if recipe.probe.head == "knn" else recipe.probe.head  # a search has no steps, and takes less time
    views = encoded_views(recipe.probe)
    probing = replace(recipe.probe, head=head, cached_views=views, steps=size.probe_steps, evaluations=1)
    return replace(recipe, pretrain=pretraining, probe=probing)


def _pretraining(marks: "_Marks", recipe: Recipe, size: Size, share: float) -> list[Part]:
    """The parts of pretraining; `share` is the size of the validation set relative to the excerpt's."""
    whole = recipe.pretrain
    evaluations = len(evaluation_steps(whole.steps, whole.evaluations))
    rest = marks.between(("pretrain", size.steps), "trained")
    return [
        Part(stage="pretrain", name="setting up", each=marks.beginning("opened", "pretrain"), times=1),
        Part(stage="pretrain", name="step", each=marks.step("pretrain"), times=whole.steps),
        Part(stage="pretrain", name="evaluation", each=marks.last("pretrain"), times=evaluations * share),
        Part(stage="pretrain", name="ending", each=rest, times=1),
    ]


def _looks(
    encoder: Backbone, data: Dataset, excerpt: "Excerpt", cell: Cell, recipe: Recipe, marks: "_Marks"
) -> Iterator[Part]:
    """Look at the encoder as `--probe.every` does: encode some images, then search as many positions as a cell does."""
    settings, whole = recipe.probe, recipe.data.task == "classification"
    if not (count := looks(recipe.pretrain.steps, settings.every)):
        return
    labelled = len(labelled_images(data, settings.labels, cell.seed))
    marks.record("look")
    maps = list(encoded(encoder.eval(), excerpt, "val", recipe))
    marks.record("encoded")
    positions = min(settings.positions, labelled * maps[0][0][0, 0].numel())
    bank, classes = torch.rand(positions, encoder.channels), torch.arange(positions) % len(data.classes)
    head = NearestPositions(bank, classes, len(data.classes), settings.neighbours, whole=whole).to(data.device)
    evaluate(head, maps, data.classes, "val")
    marks.record("searched")
    val, some = data.count("val"), excerpt.count("val")
    encoding, searching = marks.between("look", "encoded"), marks.between("encoded", "searched")
    yield Part(stage="pretrain", name="look, features", each=encoding, times=count * (labelled + val) / some)
    yield Part(stage="pretrain", name="look, neighbours", each=searching, times=count * val / some)


def _probing(marks: "_Marks", recipe: Recipe, size: Size, data: Dataset, excerpt: "Excerpt") -> list[Part]:
    whole, views = recipe.probe, encoded_views(recipe.probe)
    features = 1.0
    if views:  # all training images in each view and the validation images are encoded first
        features = _encoded(data, views) / _encoded(excerpt, views)
    evaluations = len(evaluation_steps(whole.steps, whole.evaluations))
    val, test = (data.count(split) / excerpt.count(split) for split in ("val", "test"))
    return [
        Part(stage="probe", name="features", each=marks.beginning("probe", "probe"), times=features),
        Part(stage="probe", name="step", each=marks.step("probe"), times=whole.steps),
        Part(stage="probe", name="evaluation", each=marks.last("probe"), times=evaluations * val),
        Part(stage="probe", name="test", each=marks.between(("probe", size.probe_steps), "probed"), times=test),
        Part(stage="probe", name="predictions", each=marks.between("probed", "end"), times=1),
    ]


def _encoded(data: Dataset, views: int) -> int:
    return views * data.count("train") + data.count("val")


Mark = str | tuple[str, int]
"""The name of a moment, or the end of a step of a stage."""


class _Marks(Checkpoints):
    """Checkpoints as in a real cell, which also record the end of the first step and of the last two steps of a stage.

    Only these moments wait for a GPU. After each step, it would idle while the next views are made.
    """

    def __init__(self, folder: Path, device: torch.device, steps: dict[str, int]) -> None:
        """Configure the checkpoints; `steps` is the number of steps of each stage."""
        super().__init__(folder, "rehearsal")
        self._device, self._steps = device, steps
        self._when: dict[Mark, float] = {}

    def record(self, mark: Mark) -> None:
        """Record the time of a mark."""
        synchronise(self._device)
        self._when[mark] = time.perf_counter()

    def after_step(self, stage: str, step: int, state: Callable[[], dict[str, Any]]) -> None:
        """After a step, as in `Checkpoints`."""
        super().after_step(stage, step, state)
        if step in (1, self._steps[stage] - 1, self._steps[stage]):
            self.record((stage, step))

    def between(self, first: Mark, second: Mark) -> float:
        """Seconds between two moments."""
        return self._when[second] - self._when[first]

    def step(self, stage: str) -> float:
        """Mean seconds of a step, without the first one and the last one, which is followed by an evaluation."""
        last = self._steps[stage]
        return self.between((stage, 1), (stage, last - 1)) / (last - 2)

    def beginning(self, begin: Mark, stage: str) -> float:
        """Seconds from `begin` to the first step of a stage, plus the extra time of that step."""
        return max(0.0, self.between(begin, (stage, 1)) - self.step(stage))

    def last(self, stage: str) -> float:
        """Seconds of the evaluation after the last step."""
        steps = self._steps[stage]
        return max(0.0, self.between((stage, steps - 1), (stage, steps)) - self.step(stage))


class Excerpt:
    """A data set with at most `most` images in each split for evaluation, and with all training pairs."""

    def __init__(self, data: Dataset, most: int) -> None:
        """Wrap `data`, which does not change."""
        self.data, self.most = data, most
        self.classes, self.device = data.classes, data.device

    def pool(self, rho: float, nu: float, pairing: Pairing, generator: torch.Generator) -> PairPool:
        """The whole pool."""
        return self.data.pool(rho, nu, pairing, generator)

    def validation_pairs(self) -> int:
        """Number of validation pairs, at most `most`."""
        return min(self.most, self.data.validation_pairs())

    def validation(self, index: Int[Tensor, " n"], *, labelled: bool) -> PairBatch:
        """As in the whole data set."""
        return self.data.validation(index, labelled=labelled)

    def count(self, split: str) -> int:
        """Number of images, at most `most`."""
        return min(self.most, self.data.count(split))

    def downstream(
        self, split: str, index: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n *two c h w"], UInt8[Tensor, "n h w"] | UInt8[Tensor, " n"]]:
        """As in the whole data set."""
        return self.data.downstream(split, index)

    def class_counts(self) -> Int[Tensor, " classes"]:
        """As in the whole data set."""
        return self.data.class_counts()

    def noise_pixels(self, nu: float) -> float:
        """As in the whole data set."""
        return self.data.noise_pixels(nu)
