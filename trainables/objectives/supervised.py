"""The baseline `supervised`: unlike the contrastive losses, it trains the encoder on the downstream task."""

import torch
from jaxtyping import Float
from torch import Tensor

from datasets.dataset import Dataset
from datasets.seeding import seeded
from trainables.models.encoders import Backbone
from trainables.models.heads import downstream_head, scores, task_loss
from trainables.models.siamese import for_target
from trainables.objectives.base import Objective
from trainables.recipe import Recipe
from trainables.views import Views, class_weights


class Supervised(Objective):
    """Cross-entropy with its own head, on single images or pairs. The probe then trains another head on the encoder."""

    sees = "downstream"

    def __init__(self, encoder: Backbone, data: Dataset, recipe: Recipe) -> None:
        """`data` provides the names of the classes and, if the recipe has class weights, their frequencies."""
        super().__init__(encoder, lr=recipe.supervised.lr)
        self.settings = recipe.probe
        channels = for_target(encoder, recipe.probe).channels
        self.head = downstream_head(recipe.data.task, channels, len(data.classes))
        self.weights = class_weights(data) if recipe.probe.class_weights else None

    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of a batch of labelled images; `generator` seeds dropout."""
        assert views.first_labels is not None, "made without labels"
        single = self.settings.target == "classes"
        images = views.first if single else torch.stack([views.first, views.second], dim=1)
        features = for_target(self.encoder, self.settings)(images)
        with seeded(int(torch.randint(2**62, (), generator=generator)), "dropout"):
            predicted = scores(self.head, features, views.first_labels)
        return task_loss(predicted, views.first_labels, self.weights)
