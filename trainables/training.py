"""An objective in training: its optimiser, schedule and averaged networks, and one step of all."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from trainables.objectives.base import Objective
from trainables.recipe import Pretrain
from trainables.views import Views


class Training:
    """An objective with its optimiser and schedule, and the moving average of its networks if the recipe has one."""

    def __init__(self, objective: Objective, settings: Pretrain, device: torch.device) -> None:
        """Move the objective to the device, and optimise all its weights that require a gradient."""
        self.objective = objective.to(device).train()
        self.weights = [weight for weight in objective.parameters() if weight.requires_grad]
        self.device = device
        self.optimiser = optimiser(objective, objective.lr, settings, device)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda done: rate(done, settings))
        # Encoder and heads, but no momentum encoder.
        self.trained = {
            name: one for name, one in objective.named_children() if any(w.requires_grad for w in one.parameters())
        }
        networks = nn.ModuleList(self.trained.values())
        self.average = ModelEmaV3(networks, settings.average) if settings.average else None

    def step(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """One optimiser step. The loss stays on the device, because reading it would delay a GPU."""
        loss = self.update(views, generator)
        self.schedule.step()
        return loss

    def update(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """`step` without the schedule: all that a device does."""
        loss = self.objective.loss(views, generator)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.objective.clip:
            nn.utils.clip_grad_norm_(self.weights, self.objective.clip)
        self.optimiser.step()
        if self.average:
            self.average.update(nn.ModuleList(self.trained.values()))
        return loss.detach()

    @contextmanager
    def averaged(self) -> Iterator[Objective]:
        """The objective, inside the context with its averaged networks if there are any."""
        if self.average:
            for name, network in zip(self.trained, self.average.module.children(), strict=True):
                setattr(self.objective, name, network)
        try:
            yield self.objective
        finally:
            for name, network in self.trained.items():
                setattr(self.objective, name, network)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a step changes."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the value of `state_dict`."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        parts = {"objective": self.objective, "optimiser": self.optimiser, "schedule": self.schedule}
        return parts | ({"average": self.average} if self.average else {})


def optimiser(model: nn.Module, lr: float, settings: Pretrain, device: torch.device) -> torch.optim.Optimizer:
    """The optimiser of all weights that require a gradient."""
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            [weight for weight in model.parameters() if weight.requires_grad],
            lr,
            momentum=0.9,
            weight_decay=settings.weight_decay,
            fused=True if device.type == "cuda" else None,  # one kernel for all weights; no gain on a CPU
        )
    return create_optimizer_v2(model, settings.optimizer, lr, settings.weight_decay, momentum=0.9)


def rate(done: int, settings: Pretrain) -> float:
    """Factor of the learning rate after `done` steps: the linear warm-up, times the schedule."""
    rise = min(1.0, (done + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "constant":
        return rise
    return rise * (1 + math.cos(math.pi * done / settings.steps)) / 2
