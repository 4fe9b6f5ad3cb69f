"""Our step of each loss against a plain step with a plain transcription of it, from its paper or its authors' code.

Both have the same networks, and take the same steps (tested): a difference in time is that of the code.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, mse_loss, normalize, relu

from benchmarks.speed.common import Table, best_engine, device, in_turn, main, ratio, vts
from benchmarks.speed.pretrain import whole_step
from datasets.vts.textures import load_textures
from sweep.presets import preset
from trainables.engine import Engine
from trainables.models.heads import map_labels
from trainables.profiling.bare_step import bare_step, resident
from trainables.recipe import Recipe
from trainables.registry import losses_for
from trainables.training import rate
from trainables.views import Views

Plain = Callable[[Any, Recipe, Views, torch.Generator], Tensor]
"""(an objective's networks, recipe, views, generator) -> the loss of a batch."""


def plain_step(name: str, recipe: Recipe, engine: Engine, device: torch.device) -> Callable[[], Tensor]:
    """A training step on resident views, as in a tutorial: loss, backward, SGD. As `bare_step` starts, so does this."""
    networks, views, draws = resident(name, recipe, engine, device)
    weights = [weight for weight in networks.parameters() if weight.requires_grad]
    settings = recipe.pretrain
    optimiser = torch.optim.SGD(weights, networks.lr, momentum=0.9, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda done: rate(done, settings))

    def step() -> Tensor:
        loss = PLAIN[name](networks, recipe, views, draws)
        optimiser.zero_grad()
        loss.backward()
        if networks.clip:
            torch.nn.utils.clip_grad_norm_(weights, networks.clip)
        optimiser.step()
        schedule.step()
        return loss.detach()

    return step


def moco(o: Any, recipe: Recipe, views: Views, draws: torch.Generator) -> Tensor:
    """https://github.com/facebookresearch/moco/blob/main/moco/builder.py, without shuffled batch norm."""
    query, key = queries_and_keys(o, recipe, views)
    loss = queue_loss(query, key, o.queue, recipe)
    enqueue(o, key)
    return loss


def rince(o: Any, recipe: Recipe, views: Views, draws: torch.Generator) -> Tensor:
    """https://github.com/chingyaoc/RINCE, divided by e^(q / T)."""
    query, key = queries_and_keys(o, recipe, views)
    t, q, lam = recipe.moco.temperature, recipe.rince.q, recipe.rince.lam
    positive = torch.exp((query * key).sum(dim=1) / t)
    negatives = torch.exp(query @ o.queue.clone().T / t).sum(dim=1)
    loss = (-(positive**q) / q + (lam * (positive + negatives)) ** q / q).mean() / math.exp(q / t)
    enqueue(o, key)
    return loss


def densecl(o: Any, recipe: Recipe, views: Views, draws: torch.Generator) -> Tensor:
    """https://github.com/WXinlong/DenseCL/blob/main/openselfsup/models/densecl.py."""
    maps = o.encoder(views.first)
    query = normalize(o.head(maps.mean(dim=(2, 3))), dim=1)
    positions = normalize(o.dense_head(maps), dim=1).flatten(2)
    with torch.no_grad():
        networks = ((o.key_encoder, o.encoder), (o.key_head, o.head), (o.key_dense_head, o.dense_head))
        follow(networks, recipe.moco.momentum)
        key_maps = o.key_encoder(views.second)
        key = normalize(o.key_head(key_maps.mean(dim=(2, 3))), dim=1)
        projected = o.key_dense_head(key_maps)
        pooled = normalize(projected.mean(dim=(2, 3)), dim=1)
        similar = normalize(maps.flatten(2), dim=1).transpose(1, 2) @ normalize(key_maps.flatten(2), dim=1)
        best = similar.argmax(dim=2)[:, None].expand(-1, projected.shape[1], -1)
        matched = normalize(projected, dim=1).flatten(2).gather(2, best)
    images = queue_loss(query, key, o.queue, recipe)
    flat, theirs = (one.transpose(1, 2).flatten(0, 1) for one in (positions, matched))
    dense = queue_loss(flat, theirs, o.dense_queue, recipe)
    first = int(o.oldest)
    o.dense_queue[first : first + len(pooled)] = pooled
    enqueue(o, key)
    return images * (1 - recipe.densecl.lam) + dense * recipe.densecl.lam


def queries_and_keys(o: Any, recipe: Recipe, views: Views) -> tuple[Tensor, Tensor]:
    """MoCo's queries, and its keys after the momentum update."""
    query = normalize(o.head(o.encoder(views.first).mean(dim=(2, 3))), dim=1)
    with torch.no_grad():
        follow(((o.key_encoder, o.encoder), (o.key_head, o.head)), recipe.moco.momentum)
        key = normalize(o.key_head(o.key_encoder(views.second).mean(dim=(2, 3))), dim=1)
    return query, key


def queue_loss(query: Tensor, key: Tensor, queue: Tensor, recipe: Recipe) -> Tensor:
    """InfoNCE with a queue of negatives."""
    positive = torch.einsum("nc,nc->n", query, key)[:, None]
    negative = torch.einsum("nc,kc->nk", query, queue.clone().detach())
    logits = torch.cat([positive, negative], dim=1) / recipe.moco.temperature
    return cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def enqueue(o: Any, key: Tensor) -> None:
    """Replace the oldest keys. Batches must fill the queue exactly, as in the code of MoCo."""
    first = int(o.oldest)
    o.queue[first : first + len(key)] = key
    o.oldest.fill_((first + len(key)) % len(o.queue))


@torch.no_grad()
def follow(networks: Iterable[tuple[torch.nn.Module, torch.nn.Module]], momentum: float) -> None:
    """Move the weights of target networks towards others, one by one."""
    for target, network in networks:
        for mine, theirs in zip(target.parameters(), network.parameters(), strict=True):
            mine.data = mine.data * momentum + theirs.data * (1 - momentum)


def within_image(o: Any, recipe: Recipe, views: Views, draws: torch.Generator) -> Tensor:
    """https://github.com/google-research/google-research/tree/master/supervised_pixel_contrastive_loss."""
    (first, classes), (second, others) = positions_of(o, views)
    similar = torch.exp(first @ second.transpose(1, 2) / recipe.dense.temperature)
    same = (classes[:, :, None] == others[:, None, :]).float()
    negatives = (similar * (1 - same)).sum(dim=2, keepdim=True)
    pairs = -torch.log(similar / (similar + negatives))
    return mean_over_anchors((pairs * same).sum(dim=2), same.sum(dim=2), same.sum(dim=2))


def cross_image(o: Any, recipe: Recipe, views: Views, draws: torch.Generator) -> Tensor:
    """As `within_image`, with the positives of another image J."""
    (first, classes), (second, others) = positions_of(o, views)
    j = o.draw(len(first), draws)
    partner = torch.exp(first @ second.transpose(1, 2) / recipe.dense.temperature)
    other = torch.exp(first @ first[j].transpose(1, 2) / recipe.dense.temperature)
    same = (classes[:, :, None] == others[:, None, :]).float()
    same_there = (classes[:, :, None] == classes[j][:, None, :]).float()
    negatives = (partner * (1 - same)).sum(dim=2, keepdim=True)
    here = (-torch.log(partner / (partner + negatives)) * same).sum(dim=2)
    there = (-torch.log(other / (other + negatives)) * same_there).sum(dim=2)
    return mean_over_anchors(here + there, same.sum(dim=2) + same_there.sum(dim=2), same.sum(dim=2))


def rince_within(o: Any, recipe: Recipe, views: Views, draws: torch.Generator) -> Tensor:
    """RINCE of the pairs of `within_image`."""
    (first, classes), (second, others) = positions_of(o, views)
    t, q, lam = recipe.dense.temperature, recipe.rince.q, recipe.rince.lam
    similar = torch.exp(first @ second.transpose(1, 2) / t)
    same = (classes[:, :, None] == others[:, None, :]).float()
    negatives = (similar * (1 - same)).sum(dim=2, keepdim=True)
    pairs = (-(similar**q) / q + (lam * (similar + negatives)) ** q / q) / math.exp(q / t)
    return mean_over_anchors((pairs * same).sum(dim=2), same.sum(dim=2), same.sum(dim=2))


def positions_of(o: Any, views: Views) -> list[tuple[Tensor, Tensor]]:
    """Unit features and classes of the positions of both images, (n, p, d) and (n, p)."""
    projected = normalize(o.head(o.encoder(torch.cat([views.first, views.second]))), dim=1)
    features = projected.flatten(2).transpose(1, 2).chunk(2)
    labels = [views.first_labels, views.second_labels]
    classes = [map_labels(one, *projected.shape[2:]) for one in labels if one is not None]
    return list(zip(features, classes, strict=True))


def mean_over_anchors(sums: Tensor, positives: Tensor, in_partner: Tensor) -> Tensor:
    """The mean over positives, over the anchors whose class the partner shows, and over images."""
    anchors = (in_partner > 0).float()
    means = anchors * sums / positives.clamp(min=1)
    return (means.sum(dim=1) / anchors.sum(dim=1).clamp(min=1)).mean()


def simclr(o: Any, recipe: Recipe, views: Views, draws: torch.Generator) -> Tensor:
    """https://github.com/google-research/simclr/blob/master/objective.py."""
    both = torch.cat([views.first, views.second])
    first, second = normalize(o.head(o.encoder(both).mean(dim=(2, 3))), dim=1).chunk(2)
    n, t = len(first), recipe.simclr.temperature
    itself = torch.eye(n, device=first.device) * 1e9
    aa, bb = first @ first.T / t - itself, second @ second.T / t - itself
    ab, ba = first @ second.T / t, second @ first.T / t
    labels = torch.arange(n, device=first.device)
    there, back = cross_entropy(torch.cat([ab, aa], 1), labels), cross_entropy(torch.cat([ba, bb], 1), labels)
    return (there + back) / 2


def byol(o: Any, recipe: Recipe, views: Views, draws: torch.Generator) -> Tensor:
    """https://github.com/google-deepmind/deepmind-research/tree/master/byol."""
    follow(((o.target_encoder, o.encoder), (o.target_head, o.head)), recipe.byol.momentum)

    def loss(one: Tensor, other: Tensor) -> Tensor:
        predicted = normalize(o.predictor(o.head(o.encoder(one).mean(dim=(2, 3)))), dim=1)
        with torch.no_grad():
            target = normalize(o.target_head(o.target_encoder(other).mean(dim=(2, 3))), dim=1)
        return (predicted - target).square().sum(dim=1).mean()

    return loss(views.first, views.second) + loss(views.second, views.first)


def simsiam(o: Any, recipe: Recipe, views: Views, draws: torch.Generator) -> Tensor:
    """https://github.com/facebookresearch/simsiam/blob/main/simsiam/builder.py."""
    z1, z2 = (o.head(o.encoder(images).mean(dim=(2, 3))) for images in (views.first, views.second))
    p1, p2 = o.predictor(z1), o.predictor(z2)
    return -(cosine_similarity(p1, z2.detach()).mean() + cosine_similarity(p2, z1.detach()).mean()) * 0.5


def vicreg(o: Any, recipe: Recipe, views: Views, draws: torch.Generator) -> Tensor:
    """https://github.com/facebookresearch/vicreg/blob/main/main_vicreg.py."""
    x, y = (o.head(o.encoder(images).mean(dim=(2, 3))) for images in (views.first, views.second))
    settings, invariance = recipe.vicreg, mse_loss(x, y)
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    missing = [relu(1 - (one.var(dim=0) + 0.0001).sqrt()).mean() / 2 for one in (x, y)]
    covariances = [one.T @ one / (len(one) - 1) for one in (x, y)]
    off = [(c.square().sum() - c.diagonal().square().sum()) / len(c) for c in covariances]
    return settings.invariance * invariance + settings.variance * sum(missing) + settings.covariance * sum(off)


def pixpro(o: Any, recipe: Recipe, views: Views, draws: torch.Generator) -> Tensor:
    """https://github.com/zdaxie/PixPro/blob/main/contrast/models/PixPro.py, half of its loss."""
    assert views.maps is not None
    settings = recipe.pixpro
    follow(((o.target_encoder, o.encoder), (o.target_head, o.head)), settings.momentum)
    predicted, targets = [], []
    for images in (views.first, views.second):
        projected = o.head(o.encoder(images))
        unit = normalize(projected, dim=1).flatten(2)
        values = normalize(o.transform(projected), dim=1).flatten(2)
        similar = torch.clamp(unit.transpose(1, 2) @ unit, min=1e-6) ** settings.sharpness
        predicted.append(normalize(values @ similar.transpose(1, 2), dim=1))
        with torch.no_grad():
            targets.append(normalize(o.target_head(o.target_encoder(images)), dim=1).flatten(2))
    near = nearby(views.maps, projected.shape[2:], settings.distance)

    def loss(one: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        cosine = one.transpose(1, 2) @ other
        return -((cosine * mask).sum(dim=(1, 2)) / (mask.sum(dim=(1, 2)) + 1e-6)).mean()

    return loss(predicted[0], targets[1], near) + loss(predicted[1], targets[0], near.transpose(1, 2))


def nearby(maps: Tensor, shape: torch.Size, distance: float) -> Tensor:
    """PixPro's mask: positions of two views whose centres in the image are less than so many diagonals apart."""
    height, width = shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centres = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1, torch.ones_like(x)]).flatten(1)
    first, second = maps @ centres.to(maps)
    apart = (first[:, :, :, None] - second[:, :, None, :]).square().sum(dim=1).sqrt()
    sides = torch.tensor([2 / width, 2 / height]).to(maps)
    diagonals = (maps[..., :2] * sides).square().sum(dim=(2, 3)).sqrt()
    return (apart / diagonals.max(dim=0).values[:, None, None] < distance).float()


PLAIN: dict[str, Plain] = {
    "moco": moco,
    "within_image": within_image,
    "cross_image": cross_image,
    "rince": rince,
    "rince_within": rince_within,
    "simclr": simclr,
    "byol": byol,
    "simsiam": simsiam,
    "vicreg": vicreg,
    "densecl": densecl,
    "pixpro": pixpro,
}
"""The losses of images with masks. The dense ones have the denominator `public`, and need a class of every pixel."""


def run(rounds: int = 20) -> list[Table]:
    """All losses of images with masks: a plain step, ours on the same views, and ours with data, in turn."""
    quick = preset("vts-quick").recipe
    table = Table(
        "A step of vts-quick, images/s, median ± half the spread: (a) plain, (b) ours on the same, (c) ours with data",
        ("loss", "(a) plain", "(b) ours", "(c) with data", "(b)/(a)", "(c)/(a)"),
    )
    bank, engine, count = load_textures(vts(quick), None), best_engine(), quick.pretrain.batch
    for loss in losses_for("segmentation"):
        steps = [
            plain_step(loss, quick, engine, device()),
            bare_step(loss, quick, engine, device()),
            whole_step(loss, quick, engine, bank),
        ]
        plain, ours, whole = in_turn(steps, device(), rounds=rounds)
        table.add(loss, *(one.rate(count) for one in (plain, ours, whole)), ratio(plain, ours), ratio(plain, whole))
    table.show()
    return [table]


if __name__ == "__main__":
    main("benchmarks.speed.plain", run)
