"""One encoder for both images of a pair, as change detection needs it: their features are joined for one head."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trainables.models.encoders import Backbone
from trainables.recipe import Join, Probe

Joined = Callable[[Tensor, Tensor], Tensor]

JOINS: Mapping[Join, Joined] = {
    "difference": lambda first, second: (first - second).abs(),
    "both": lambda first, second: torch.cat([first, second, (first - second).abs()], dim=1),
}
"""From the features of both images, (n, c, h, w) each, to those that the head sees."""
WIDTH: Mapping[Join, int] = {"difference": 1, "both": 3}
"""Their channels, in multiples of c."""


class Siamese(nn.Module):
    """The features of pairs, (n, 2, b, H, W): those of both images, joined (Daudt et al. 2018, Manas et al. 2021).

    Both images pass through the encoder in one batch, so that in training they share the statistics of batch norm.
    https://arxiv.org/abs/1810.08462 calls the two joins diff and conc; https://arxiv.org/abs/2103.16607 probes with
    the difference.
    """

    def __init__(self, encoder: Backbone, join: Join) -> None:
        """Wrap the encoder, which stays the caller's, in its mode of training or evaluation."""
        super().__init__()
        self.encoder, self.join = encoder, join
        self.training = encoder.training

    @property
    def channels(self) -> int:
        """Channels of the joined features."""
        return WIDTH[self.join] * self.encoder.channels

    def forward(self, pairs: Float[Tensor, "n 2 b H W"]) -> Float[Tensor, "n c h w"]:
        """The joined features of each pair."""
        first, second = self.encoder(pairs.flatten(0, 1)).unflatten(0, (-1, 2)).unbind(1)
        return JOINS[self.join](first, second)


AnyEncoder = Backbone | Siamese


def for_target(encoder: Backbone, settings: Probe) -> AnyEncoder:
    """The encoder as the probe's target needs it: for single images, or for pairs."""
    return encoder if settings.target == "classes" else Siamese(encoder, settings.join)
