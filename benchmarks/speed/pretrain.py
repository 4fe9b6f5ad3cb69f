"""Pretraining: source images per second including data, compared with the bare step and with plain implementations."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import rivals
from benchmarks.speed.common import (
    Table,
    Timing,
    best_engine,
    cores,
    device,
    in_turn,
    main,
    ratio,
    scenes,
    time_it,
    vts,
)
from datasets.augment.config import MOCO_V2
from datasets.seeding import stream
from datasets.vts.textures import TextureBank, load_textures
from sweep.presets import preset
from trainables.cell import Cell
from trainables.device import prepare_device
from trainables.engine import Engine
from trainables.models.encoders import make_encoder
from trainables.objectives.base import make_objective
from trainables.pretrain import Training
from trainables.profiling.bare_step import bare_step
from trainables.recipe import Encoder, Moco, Recipe
from trainables.registry import losses_for
from trainables.views import training_pool, training_views


def settings(size: int, batch: int) -> Recipe:
    """ResNet-18 with the augmentation of MoCo, at this size and batch."""
    recipe = preset("vts-quick").recipe
    return replace(
        recipe,
        data=replace(vts(recipe), size=size, train=max(batch, 6000 if size == 256 else 1000), val=2, test=2),
        augment=MOCO_V2,
        encoder=Encoder(),
        moco=Moco(),
        pretrain=replace(recipe.pretrain, batch=batch),
    )


def whole_step(loss: str, recipe: Recipe, engine: Engine, bank: TextureBank) -> Callable[[], object]:
    """A step as in a sweep: pairs, rendering, augmentation, and everything in `bare_step`."""
    cell = Cell(objective=loss, rho=0.5, nu=0.5)
    pool = training_pool(scenes(recipe, bank), cell)
    objective = make_objective(loss, make_encoder(recipe.encoder, engine), recipe, stream(0, "queue"))
    training = Training(objective, recipe.pretrain, device())
    number = 0

    def step() -> None:
        nonlocal number
        views, _ = training_views(pool, cell, recipe, number, labelled=objective.labelled)
        training.step(views, stream(0, "other image", number))
        number += 1

    return step


def run() -> list[Table]:
    """Rates of all losses and of plain implementations; denominators; engines; growth; memory; the parts of a step."""
    large = (256, 256) if torch.cuda.is_available() else (128, 64)
    bank = load_textures(vts(settings(*large)), None)
    return [rates(*large, bank), readings(), engines(*large), growth(), memory(), parts(*large, bank)]


def rates(size: int, batch: int, bank: TextureBank) -> Table:
    """(a) bare step, (b) ours, (c) by hand, (d) lightly."""
    table = Table(
        "Source images/s, median ± half the spread: (a) bare step on resident random tensors, (b) ours with data",
        ("what", "px", "batch", "(a) bare", "(b) ours", "(b)/(a)", "TFLOP/s", "of peak"),
    )
    peak = matrix_rate()
    quick = preset("vts-quick").recipe
    ours: list[Callable[[], object]] = []
    for recipe, name, textures in (
        (settings(size, batch), "ResNet-18", bank),
        (quick, "vts-quick", load_textures(vts(quick), None)),
    ):
        for loss in losses_for("segmentation"):
            count = recipe.pretrain.batch
            ours.append(whole_step(loss, recipe, best_engine(), textures))
            bare, whole = in_turn([bare_step(loss, recipe, best_engine(), device()), ours[-1]], device())
            done = flops(loss, recipe) / bare.median
            rates = (bare.rate(count), whole.rate(count), ratio(bare, whole))
            table.add(f"{name}, {loss}", recipe.data.size, count, *rates, done / 1e12, done / peak)
    table.notes.append(
        f"peak: a bf16 matrix product of {matrix_size(device()):,} measured at {peak / 1e12:.2f} TFLOP/s"
    )
    images = [np.ascontiguousarray(bank.image(m)[:size, :size]) for m in range(120)]
    for name, make in (("(c) by hand", rivals.by_hand), ("(d) lightly", rivals.with_lightly)):
        table.notes += versus(name, make, images, ours[0], size, batch)
    table.show()
    return table


def versus(
    name: str, make: Callable, images: list[np.ndarray], ours: Callable[[], object], size: int, batch: int
) -> list[str]:
    """One line for each number of loader workers: a plain implementation compared with (b)."""
    try:
        theirs, mine = in_turn([make(images, size, batch, 0, device()), ours], device())
        lines = [(0, theirs, ratio(theirs, mine))]
        # Loader workers continue between steps, so such a loop is timed alone, and ours right after it.
        workers = min(16, cores())
        # The mean over many batches, because the workers prepared the first ones during the warm-up.
        loop = time_it(make(images, size, batch, workers, device()), device(), warm=2, least=4 * workers)
        mean = Timing((sum(loop.seconds) / len(loop.seconds),))
        lines.append((workers, mean, mean.median / time_it(ours, device(), least=3).median))
    except ImportError:
        return [f"{name}: not installed, install the extra `bench`"]
    return [
        f"{name}, MoCo, fp32, {workers} loader workers: {timing.rate(batch)} images/s; (b) is {times:.2f} times that"
        for workers, timing, times in lines
    ]


def engines(size: int, batch: int) -> Table:
    """The effect of precision and layout on this machine."""
    table = Table("Bare MoCo step by engine, images/s", ("engine", "images/s"))
    for precision in ("fp32", "tf32", "bf16") if device().type == "cuda" else ("fp32", "bf16"):
        for layout in ("channels_last", "contiguous"):
            engine = replace(best_engine(precision), layout=layout)
            prepare_device(engine)
            timing = time_it(bare_step("moco", settings(size, batch), engine, device()), device(), least=3)
            table.add(f"{precision}, {layout}", timing.rate(batch))
    table.show()
    return table


def growth() -> Table:
    """Time against image size and batch, which should be linear."""
    table = Table("Growth of a whole step", ("loss", "px", "batch", "ms", "ns per pixel"))
    for loss in ("moco", "cross_image"):
        for size, batch in ((64, 16), (64, 32), (64, 64), (128, 16), (192, 16)):
            recipe = settings(size, batch)
            step = whole_step(
                loss,
                recipe,
                best_engine(),
                load_textures(replace(vts(recipe), size=64), None) if size == 64 else load_textures(vts(recipe), None),
            )
            seconds = time_it(step, device(), warm=2, budget=0.5).median
            table.add(loss, size, batch, 1e3 * seconds, 1e9 * seconds / (batch * size**2))
    table.show()
    return table


def memory() -> Table:
    """Memory that the dense losses keep for their gradient, without the encoder, against batch and map."""
    table = Table("Memory that a loss keeps for its gradient, MB", ("loss", "map", "batch", "MB", "KB per image"))
    for loss in ("within_image", "cross_image"):
        for side, batch in ((8, 16), (8, 64), (16, 16), (16, 64)):
            kept = kept_bytes(loss, side * side, batch)
            table.add(loss, f"{side}x{side}", batch, kept / 2**20, kept / batch / 2**10)
    table.show()
    return table


def readings() -> Table:
    """The time of a step with each denominator of the dense losses, which should be the same."""
    quick = preset("vts-quick").recipe
    table = Table(
        "Bare step of vts-quick by denominator",
        ("loss", "printed, ms", "public, ms", "public/printed"),
    )
    for loss in ("within_image", "cross_image"):
        steps = [
            bare_step(loss, replace(quick, dense=replace(quick.dense, denominator=reading)), best_engine(), device())
            for reading in ("printed", "public")
        ]
        printed, public = in_turn(steps, device(), rounds=20)
        table.add(loss, 1e3 * printed.median, 1e3 * public.median, ratio(public, printed))
    table.show()
    return table


def kept_bytes(loss: str, positions: int, batch: int) -> int:
    """The size in bytes of the distinct tensors that a dense loss saves for the backward pass."""
    from trainables.objectives.losses import Positions, cross_image, within_image

    features, partner = (
        torch.nn.functional.normalize(torch.rand(batch, positions, 256), dim=2).requires_grad_() for _ in range(2)
    )
    labels = torch.randint(2, (batch, positions))
    image, other = Positions(features, labels), Positions(partner, labels)
    j = Positions(features.roll(1, 0), labels.roll(1, 0))
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        if loss == "within_image":
            held = within_image(image, other, temperature=0.07)
        else:
            held = cross_image(image, other, j, temperature=0.07)
    assert held.requires_grad
    return sum(seen.values())


def parts(size: int, batch: int, bank: TextureBank) -> Table:
    """The time of each part of a MoCo step, measured separately."""
    from datasets.augment import transforms

    recipe, engine = settings(size, batch), best_engine()
    data, cell = scenes(recipe, bank), Cell(objective="moco", rho=0.5, nu=0.5)
    index = torch.arange(batch)
    noisy = index % 2 == 0
    loaded = data.pairs("train", index, ~noisy, noisy, 0.5, labelled=False)
    drawn = transforms.draw(recipe.augment, batch, size, stream(0))
    encoder = make_encoder(recipe.encoder, engine).to(device()).train()
    objective = make_objective("moco", encoder, recipe, stream(0)).to(device())
    views = training_views(training_pool(data, cell), cell, recipe, 0, labelled=False)[0]
    weights = [weight for weight in objective.parameters() if weight.requires_grad]
    optimiser = torch.optim.SGD(weights, 0.0, momentum=0.9)

    def forward() -> None:
        with torch.no_grad():
            encoder(views.first)

    def forward_backward() -> None:
        encoder(views.first).sum().backward()

    table = Table(f"Parts of a MoCo step, {size} px, batch {batch}", ("part", "ms"))
    for name, work in (
        ("render both images", lambda: data.pairs("train", index, ~noisy, noisy, 0.5, labelled=False)),
        ("augment both images", lambda: [transforms.apply(loaded.first, None, drawn) for _ in range(2)]),
        ("encoder forward, without gradient (keys)", forward),
        ("encoder forward and backward (queries)", forward_backward),
        ("optimiser", optimiser.step),
        ("whole step", whole_step("moco", recipe, engine, bank)),
    ):
        table.add(name, 1e3 * time_it(work, device(), least=3, budget=0.5).median)
    table.show()
    return table


def flops(loss: str, recipe: Recipe) -> float:
    """Floating-point operations of the matrix products and convolutions of a step, forward and backward."""
    few = replace(recipe, pretrain=replace(recipe.pretrain, batch=2))
    step = bare_step(loss, few, best_engine("fp32"), torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 2 * recipe.pretrain.batch


def matrix_rate(dtype: torch.dtype = torch.bfloat16, size: int = 0) -> float:
    """Operations per second of a large matrix product, as an upper bound; `size`: rows of the matrices, 0: enough."""
    size = size or matrix_size(device())
    a, b = (torch.randn(size, size, dtype=dtype, device=device()) for _ in range(2))
    return 2 * size**3 / time_it(lambda: a @ b, device(), budget=0.5).median


def matrix_size(device: torch.device) -> int:
    """Rows of the matrices: a smaller product does not fill a large GPU, a larger one takes minutes on a CPU."""
    return 8192 if device.type == "cuda" else 4096


if __name__ == "__main__":
    main("benchmarks.speed.pretrain", run)
