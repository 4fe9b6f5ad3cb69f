"""The whole step of pretraining as one CUDA graph: a launch instead of some hundred, which bound steps on small images.

A graph repeats the same operations on the same memory. So all that differs from step to step comes from tensors of the
device: the block of the batch, the learning rate, and what steps themselves change, such as weights and the queue.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from datasets.transfer import Packed
from trainables.batches import Batch, Batches
from trainables.training import Training
from trainables.views import Views

PLAIN_STEPS = 2
"""Steps before the recording, in which libraries choose their algorithms and allocate their buffers."""

Step = Callable[[Batch, torch.Generator], Float[Tensor, ""]]
"""Does a step with a batch, and returns its loss on the device."""


def stepper(training: Training, batches: Batches) -> Step:
    """How steps are done: recorded if the engine asks for it, and loss, data and optimiser allow it."""
    asked = training.objective.encoder.engine.compile == "graph" and training.device.type == "cuda"
    # The other optimisers compute with the rate or the number of the step on the host.
    if asked and batches.recordable and isinstance(training.optimiser, torch.optim.SGD):
        return RecordedStep(training)
    return lambda batch, generator: training.step(batch.views(), generator)


class RecordedStep:
    """The steps of a training, which are recorded once and then repeated. The result is that of `Training.step`."""

    def __init__(self, training: Training) -> None:
        """Record nothing yet."""
        self._training, self._groups = training, training.optimiser.param_groups
        self._stream = torch.cuda.Stream()
        self._rates = [torch.empty((), device=training.device) for _ in self._groups]
        self._steps = 0
        self._repeat: Callable[[], None] | None = None

    def __call__(self, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """The next step; returns its loss, on the device."""
        self._steps += 1
        if self._steps <= PLAIN_STEPS:
            # In a stream of its own, as torch wants it before a recording.
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                loss = self._training.step(batch.views(), generator)
            torch.cuda.current_stream().wait_stream(self._stream)
            return loss
        sent = batch.packed.block
        assert sent is not None, "on a CPU nothing is recorded"
        if self._repeat is None:
            self._block = torch.empty_like(sent, device=self._training.device)
            self._repeat = record(lambda: self._update(batch.packed, generator))
        self._block.copy_(sent, non_blocking=True)
        for rate, group in zip(self._rates, self._groups, strict=True):
            rate.fill_(group["lr"])
        self._repeat()
        self._training.schedule.step()
        return self._loss.clone()

    def _update(self, packed: Packed[Views], generator: torch.Generator) -> None:
        """What is recorded: everything from the block to the new weights. Of `packed` it uses the layout alone."""
        numbers = [group["lr"] for group in self._groups]
        for rate, group in zip(self._rates, self._groups, strict=True):
            group["lr"] = rate
        self._loss = self._training.update(packed.made(self._block), generator)
        for number, group in zip(numbers, self._groups, strict=True):  # for the schedule and checkpoints
            group["lr"] = number


def record(work: Callable[[], None]) -> Callable[[], None]:
    """Record what `work` launches, without doing it; returns a function that does it."""
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the GPU meanwhile: one allocates pinned memory for the next batch.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay
