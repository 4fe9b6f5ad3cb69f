"""MoCo v2: contrasts images with a queue of earlier ones, where SimCLR uses the rest of a large batch.

Unlike MoCo v1, it has an MLP head, stronger augmentation (in the recipe) and a cosine schedule. Papers: He et al. 2020,
https://arxiv.org/abs/1911.05722; Chen et al. 2020, https://arxiv.org/abs/2003.04297. Reference code:
https://github.com/facebookresearch/moco/blob/main/moco/builder.py. Ours runs in one process, so it does not shuffle
batches for batch norm.
"""

from abc import abstractmethod
from collections.abc import Iterable
from copy import deepcopy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from trainables.models.encoders import Backbone
from trainables.models.heads import image_head, unit_vectors
from trainables.objectives.base import Objective, Validation, follow
from trainables.objectives.losses import info_nce
from trainables.recipe import Moco, Recipe
from trainables.views import Views


class MomentumContrast(Objective):
    """A queue of keys, and a key encoder that follows the encoder, so that the queue's features stay comparable."""

    sees = "pairs"
    recordable = True
    queue: Tensor
    oldest: Tensor
    """The queue's next slot; on the device, so that all steps ask the same of it."""

    def __init__(self, encoder: Backbone, settings: Moco, lr: float, generator: torch.Generator) -> None:
        """Wrap the encoder; the queue starts with random unit vectors drawn from `generator`."""
        super().__init__(encoder, lr=lr)
        self.settings = settings
        self.head = image_head(encoder.channels, settings.features)
        self.key_encoder = deepcopy(self.encoder).requires_grad_(False)
        self.key_head = deepcopy(self.head).requires_grad_(False)
        self.register_buffer("queue", self._random_keys(generator))
        self.register_buffer("oldest", torch.tensor(0), persistent=False)

    def get_extra_state(self) -> Tensor:
        """The queue's next slot, for the state dictionary."""
        return self.oldest

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the queue's next slot."""
        self.oldest.copy_(state)

    @abstractmethod
    def compare(
        self, query: Float[Tensor, "n d"], key: Float[Tensor, "n d"], negatives: Float[Tensor, "k d"]
    ) -> Float[Tensor, ""]:
        """The loss of queries with their keys, and with negatives that are none of these."""

    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """Query, momentum update, key without gradient, loss, enqueue, in the order of algorithm 1 of MoCo."""
        query = self._embed(self.encoder, self.head, views.first)
        self._update_key_encoder()
        with torch.no_grad():
            key = self._embed(self.key_encoder, self.key_head, views.second)
        # The loss gets a copy of the queue: its gradient needs the old features, which are overwritten below.
        loss = self.compare(query, key, self.queue.clone())
        self._enqueue(key)
        return loss

    def embed_all(self, batches: Iterable[Views]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """Queries and keys of all validation pairs.

        The keys of other pairs are the negatives there. The queue does not serve: it starts with random features, which
        are so easy that the first weights look best.
        """
        parts = [
            (
                self._embed(self.encoder, self.head, views.first),
                self._embed(self.key_encoder, self.key_head, views.second),
            )
            for views in batches
        ]
        query, key = (torch.cat(side) for side in zip(*parts, strict=True))
        return query, key

    def _random_keys(self, generator: torch.Generator) -> Float[Tensor, "k d"]:
        start = torch.randn(self.settings.queue, self.settings.features, generator=generator)
        return functional.normalize(start, dim=1)

    def _embed(self, encoder: Backbone, head: nn.Module, images: Tensor) -> Float[Tensor, "n d"]:
        return unit_vectors(head(encoder(images).mean(dim=(2, 3))))

    def _update_key_encoder(self) -> None:
        """Exponential moving average of the weights. The key encoder has its own batch-norm statistics, as in MoCo."""
        keys = [*self.key_encoder.parameters(), *self.key_head.parameters()]
        follow(keys, [*self.encoder.parameters(), *self.head.parameters()], self.settings.momentum)

    @torch.no_grad()
    def _enqueue(self, key: Float[Tensor, "n d"]) -> None:
        """Replace the oldest features."""
        self.queue[self._slots(key)] = key
        self.oldest.add_(len(key)).remainder_(len(self.queue))

    def _slots(self, key: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """The slots of the oldest features."""
        return (self.oldest + torch.arange(len(key), device=key.device)) % len(self.queue)


class MocoV2(MomentumContrast):
    """Instance discrimination (paper, III-A and Eq. 1): the two images of a pair attract, queued images repel."""

    def __init__(self, encoder: Backbone, recipe: Recipe, settings: Moco, generator: torch.Generator) -> None:
        """Wrap the encoder."""
        super().__init__(encoder, settings, settings.lr, generator)

    def compare(
        self, query: Float[Tensor, "n d"], key: Float[Tensor, "n d"], negatives: Float[Tensor, "k d"]
    ) -> Float[Tensor, ""]:
        """`losses.info_nce`."""
        return info_nce(query, key, negatives, temperature=self.settings.temperature)

    @torch.no_grad()
    def validate(self, batches: Iterable[Views], generator: torch.Generator) -> Validation:
        """InfoNCE with the keys of all other validation images as negatives. Its floor is 0."""
        query, key = self.embed_all(batches)
        loss, plateau = (all_pairs(one, key, self.settings.temperature) for one in (query, torch.zeros_like(query)))
        return Validation(loss, plateau, 0.0)


def all_pairs(query: Float[Tensor, "n d"], key: Float[Tensor, "n d"], temperature: float) -> float:
    """InfoNCE where the key of each query is its positive and all other keys are negatives."""
    total = 0.0
    for index in torch.arange(len(query), device=query.device).split(512):
        total += float(functional.cross_entropy(query[index] @ key.T / temperature, index, reduction="sum"))
    return total / len(query)
