"""Whole sweeps made up for the claims: every cell of the paper's grids, with scores of known truth."""

import itertools
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

LOSSES = ("moco", "within_image", "cross_image")

#: Of a cell (loss, pairing, rho, nu): its true score.
Truth = Callable[[str, str, float, float], float]

_AXES = {
    "vts": (LOSSES, ("noisy", "exposure", "irrelevant"), (0.25, 0.5, 0.75, 1.0), (0.25, 0.5, 0.75, 1.0)),
    "xbd": (LOSSES, ("noisy", "exposure"), (0.1, 0.25, 0.5, 0.75, 1.0), (0.0,)),
    "cifar10": (("moco",), ("false_positive",), (0.25, 0.5, 0.75, 1.0), (1.0,)),
}


def cells(dataset: str) -> list[tuple[str, str, float, float]]:
    """(objective, pairing, rho, nu) of each cell of one seed, the baseline imagenet among them."""
    losses, pairings, rho, nu = _AXES.get(dataset, _AXES["xbd"])
    clean = [(loss, "none", 0.0, 0.0) for loss in (*losses, "imagenet")]
    return [*clean, *itertools.product(losses, pairings, rho, nu)]


def flat(loss: str, pairing: str, rho: float, nu: float) -> float:
    return 0.5


def noise(count: int, seeds: int, generator: np.random.Generator, *, shared: float, own: float) -> np.ndarray:
    """Errors of standard deviation `shared` that all cells of a seed have, and `own` ones, (count, seeds)."""
    return generator.normal(0, shared, seeds) + generator.normal(0, own, (count, seeds))


def records(dataset: str, truth: Truth = flat, *, errors: np.ndarray | None = None, seeds: int = 3) -> pd.DataFrame:
    """The records of a sweep; `errors` has shape (cells, seeds)."""
    points = cells(dataset)
    scores = np.array([[truth(*cell)] * seeds for cell in points]) + (0 if errors is None else errors)
    frame = pd.DataFrame(points, columns=["objective", "pairing", "rho", "nu"])
    frame = frame.loc[frame.index.repeat(seeds)].reset_index(drop=True)
    frame = frame.assign(seed=np.tile(np.arange(seeds), len(points)), dataset=dataset, status="done", recipe="00ff")
    frame = frame.assign(key=[f"{i:016x}" for i in frame.index], source="made up", data="f00d")
    kind = "classification" if dataset == "cifar10" else "segmentation"
    columns = ("test_f1_macro", "test_accuracy", "val_f1_macro")
    return frame.assign(task=kind, **dict.fromkeys(columns, scores.ravel()))


def failed(frame: pd.DataFrame, which: Iterable[bool]) -> pd.DataFrame:
    """The same sweep in which these records failed."""
    scores = ["test_f1_macro", "test_accuracy", "val_f1_macro"]
    frame = frame.copy()
    frame.loc[which, "status"] = "failed"
    frame.loc[which, scores] = np.nan
    return frame
