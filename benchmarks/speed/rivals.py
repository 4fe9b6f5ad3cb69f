"""Alternatives that users would write: MoCo v2 with a transform per image, by hand and with lightly."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18
from torchvision.transforms import v2

SECONDS_OF_DATA = 10**6
"""Nominal length of a data set, so that an epoch does not end during the measurement."""


class Photographs(Dataset):
    """PIL images in memory, and two views of each from a random transform, as in tutorials."""

    def __init__(self, images: list[np.ndarray], transform: Callable[[Image.Image], Any]) -> None:
        self.images = [Image.fromarray(image) for image in images]
        self.transform = transform

    def __len__(self) -> int:
        return SECONDS_OF_DATA

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.images[index % len(self.images)])


class Twice:
    """Two random results of a transform."""

    def __init__(self, transform: Callable[[Image.Image], Tensor]) -> None:
        self.transform = transform

    def __call__(self, image: Image.Image) -> tuple[Tensor, Tensor]:
        """Two views of an image."""
        return self.transform(image), self.transform(image)


def by_hand(images: list[np.ndarray], size: int, batch: int, workers: int, device: torch.device) -> Callable[[], None]:
    """A training step of MoCo v2 as in tutorials: torchvision's transforms (aug-plus), a DataLoader, fp32."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.2, 1.0)),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.RandomApply([v2.GaussianBlur(_odd(size / 10), (0.1, 2.0))], p=0.5),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    batches = _endless(Photographs(images, Twice(transform)), batch, workers)
    query = nn.Sequential(resnet18(), nn.ReLU(), nn.Linear(1000, 128)).to(device)
    query[0].fc = nn.Linear(512, 1000).to(device)
    key = copy.deepcopy(query).requires_grad_(False)
    queue = nn.functional.normalize(torch.randn(4096, 128, device=device), dim=1)
    optimiser = torch.optim.SGD(query.parameters(), 0.03, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        nonlocal queue
        first, second = (view.to(device) for view in next(batches))
        q = nn.functional.normalize(query(first), dim=1)
        with torch.no_grad():
            for mine, theirs in zip(key.parameters(), query.parameters(), strict=True):
                mine.mul_(0.999).add_(theirs, alpha=0.001)
            k = nn.functional.normalize(key(second), dim=1)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], dim=1) / 0.2
        loss = nn.functional.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        queue = torch.cat([k, queue])[:4096]

    return step


def with_lightly(
    images: list[np.ndarray], size: int, batch: int, workers: int, device: torch.device
) -> Callable[[], None]:
    """lightly's MoCo v2, after its own example: its transform, projection head, memory bank and loss; a step.

    Raises:
        ImportError: lightly is not installed (extra `bench`).
    """
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.transforms.moco_transform import MoCoV2Transform

    batches = _endless(Photographs(images, MoCoV2Transform(input_size=size)), batch, workers)
    backbone = nn.Sequential(*list(resnet18().children())[:-1]).to(device)
    head = MoCoProjectionHead(512, 512, 128).to(device)
    key_backbone, key_head = copy.deepcopy(backbone), copy.deepcopy(head)
    deactivate_requires_grad(key_backbone)
    deactivate_requires_grad(key_head)
    criterion = NTXentLoss(temperature=0.2, memory_bank_size=(4096, 128)).to(device)
    optimiser = torch.optim.SGD([*backbone.parameters(), *head.parameters()], 0.03, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        first, second = (view.to(device) for view in next(batches))
        update_momentum(backbone, key_backbone, 0.999)
        update_momentum(head, key_head, 0.999)
        query = head(backbone(first).flatten(start_dim=1))
        with torch.no_grad():
            key = key_head(key_backbone(second).flatten(start_dim=1))
        loss = criterion(query, key)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def _endless(data: Dataset, batch: int, workers: int) -> Iterator[Any]:
    """Endless batches from a shuffling DataLoader."""
    loader = DataLoader(
        data,
        batch,
        shuffle=False,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)


def _odd(length: float) -> int:
    return 2 * (int(length) // 2) + 1
