"""What one command runs: the grid's axes, the recipe and the machine's share, as one typed value and as YAML."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from analysis.errors import RecordsError
from analysis.records.remote import is_remote, normalized_address
from datasets.errors import InputError, one_line
from datasets.registry import check_nu
from datasets.registry import outside_root as dataset_root
from datasets.source import Demands, Place
from sweep.config.grid import Axes, distinct, expand
from sweep.config.stopping_rule import AddedSeeds, check_rule
from sweep.storage.run_dir import RunDir
from trainables.cell import Cell
from trainables.engine import Engine
from trainables.objective_names import canonical_objective, objective_info
from trainables.objective_names import outside_root as objective_root
from trainables.recipe import Recipe
from trainables.registry import BASELINES

LOSSES = ("moco", "within_image", "cross_image")
"""The paper's contrastive losses, in its order."""
Kept = Literal["encoders"]
"""What can be kept of a recorded cell."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep: a grid of cells under one recipe, where its results go, and how the machine is shared."""

    preset: Annotated[str, tyro.conf.Suppress] = "custom"
    """The preset it began as."""
    objectives: Annotated[
        tuple[str, ...], tyro.conf.arg(aliases=("--losses",), metavar="[NAME|package.module:Class ...]")
    ] = ("moco", "within_image", "cross_image", "random")
    """Contrastive losses: `moco`, `within_image`, `cross_image`, or one of your own as package.module:Class or
    "package.module:Class(lr=0.1)"; and baselines: `random`, the untouched encoder; `imagenet`, torchvision's weights;
    `supervised`, the encoder trained on the downstream task (an upper bound)."""
    rho: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Noisy-pairs rates, shares in [0, 1]."""
    nu: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """Per-image noise of VTS, shares in [0, 1], multiples of 1/regions; empty for data sets of real pairs."""
    pairings: tuple[Literal["noisy", "exposure", "irrelevant", "false_positive"], ...] = ("noisy", "exposure")
    """How noisy pairs are formed: clean with noisy, the noisy image twice (mere exposure), clean with noise that the
    downstream task never shows, or two images that have nothing to do with each other. VTS has all four, xBD and a
    manifest the first two, CIFAR-10 the last."""
    seeds: tuple[int, ...] = (0,)
    """Seeds, one replicate of the grid each."""
    until: str = ""
    """Add seeds, loss by loss, until an interval over seeds is narrow enough, such as "halfwidth(difference) < 0.01":
    half of it below one point. `difference`: noisy minus exposure over the grid; `against_clean`: noisy minus rho 0."""
    max_seeds: int = 0
    """With --until: the most seeds of a loss, --seeds included."""
    grown: Annotated[AddedSeeds, tyro.conf.Suppress] = field(default_factory=AddedSeeds)
    """What --until has led to."""
    out: Annotated[str | Path, tyro.conf.arg(metavar="FOLDER|s3://BUCKET/NAME")] = Path("results/custom")
    """Folder of records, summary, logs and the MLflow database; or the address of one on an object store."""
    data_root: Annotated[Path | None, tyro.conf.arg(aliases=("--data", "--texture-root"))] = None
    """Where the data lie: xBD's or CIFAR-10's folder, a manifest file, or the folder of texture images."""
    store: Path | None = None
    """Folder for the arrays that real images are brought into once a machine; default: in the user's cache."""
    skip_bad: bool = False
    """Leave out image pairs that cannot be used, and say which, instead of refusing the data."""
    download: bool = False
    """Let torchvision download what is missing: DTD or CIFAR-10 into --data-root, weights for the baseline imagenet."""
    imagenet_weights: Path | None = None
    """File of weights for the baseline imagenet, instead of torchvision's own."""
    workers: int = 0
    """Cells run at the same time at most; 0: as many as the cores (and GPUs) hold."""
    gpu_share: float = 0.0
    """Share of a GPU that a cell takes, where there is one; 0: what measures fastest."""
    cell_memory: float = 0.0
    """Host memory in GB that is set aside for a cell, so that no more run at once than fit; 0: as measured."""
    engine: Engine = field(default_factory=Engine)
    """How cells are executed: rounding may depend on it, what is computed does not."""
    report: bool = True
    """Draw the figures and write report.html at the end."""
    retry_failed: bool = False
    """Run the cells again that are recorded as failed, and no others."""
    checkpoint_every: float = 60.0
    """Seconds between two checkpoints of a cell; they go when it is recorded."""
    patience: float = 1800.0
    """Seconds without a sign of life after which a cell's worker is killed, and its cell goes on in another."""
    keep: tuple[Kept, ...] = ()
    """What is kept of each cell: `encoders`, pretrained, as safetensors in encoders/ (see METHOD.md)."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")] = field(default_factory=Recipe)
    """Everything held fixed over the grid."""

    def __post_init__(self) -> None:
        """Refuse axes that make no grid, and shares that no machine has."""
        # Frozen, but a folder is a Path however it was given.
        object.__setattr__(self, "out", _address(self.out) if is_remote(self.out) else Path(self.out))
        object.__setattr__(self, "objectives", tuple(map(canonical_objective, self.objectives)))
        data = self.recipe.data
        for name in ("objectives", "rho", "pairings", "seeds", *(("nu",) if data.has_nu else ())):
            if not getattr(self, name):
                raise InputError(f"--{name} is empty: give at least one value")
        for rate in self.rho:
            if not 0 <= rate <= 1:
                raise InputError(f"--rho {rate:g}: a noisy-pairs rate is a share in [0, 1]")
        for noise in self.nu:
            if not 0 <= noise <= 1:
                raise InputError(f"--nu {noise:g}: per-image noise is a share in [0, 1]")
            check_nu(data, noise)
        for pairing in self.pairings:
            if pairing not in data.pairings:
                raise InputError(
                    f"--pairings {pairing}: {data.dataset} has no such pairs, choose from {', '.join(data.pairings)}"
                )
        for seed in self.seeds:
            if not 0 <= seed < 2**63:
                raise InputError(f"--seeds {seed}: seeds are 0, 1, 2, ... below 2^63")
        self._check_recordable()
        check_rule(self.until, self.max_seeds, self.seeds, self.rho, self.pairings, self.losses)
        if self.workers < 0:
            raise InputError(f"--workers {self.workers}: at least 1, or 0 for as many as fit")
        if not 0 <= self.gpu_share <= 1:
            raise InputError(f"--gpu-share {self.gpu_share:g}: must be in (0, 1], or 0 for what measures fastest")
        for name in ("checkpoint_every", "patience"):
            if not getattr(self, name) > 0:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name):g}: must be above 0 s")
        if not self.cell_memory >= 0:
            raise InputError(f"--cell-memory {self.cell_memory:g}: must be above 0, or 0 for what is measured")

    def _check_recordable(self) -> None:
        """Refuse names from outside that a record cannot hold, before any cell is trained."""
        for flag, column, names in (("losses", "objective", self.objectives), ("dataset", "dataset", (self.dataset,))):
            for name in names:
                if not name.isidentifier():  # ours are
                    from analysis.records.schema import is_allowed  # here: pyarrow takes a while to import

                    if not is_allowed(column, name):
                        shown = one_line(name, most=120)
                        raise InputError(
                            f"--{flag} {shown}: a record cannot hold this name: use ASCII characters, some 200 at most"
                        )

    @property
    def losses(self) -> tuple[str, ...]:
        """The objectives without the baselines."""
        return tuple(name for name in self.objectives if name not in BASELINES)

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.recipe.data.dataset

    @property
    def outside_packages(self) -> tuple[Path, ...]:
        """Folders of packages, and files of modules, outside this project that its losses and data set come from."""
        roots = {name: objective_root(name) for name in self.objectives}
        roots[self.dataset] = dataset_root(self.dataset)
        places = (root / name.partition(":")[0].partition(".")[0] for name, root in roots.items() if root)
        return tuple(dict.fromkeys(place if place.is_dir() else place.with_suffix(".py") for place in places))

    @property
    def run_dir(self) -> RunDir:
        """Where its results go."""
        return RunDir.at(self.out)

    @property
    def place(self) -> Place:
        """Where the data are."""
        return Place(root=self.data_root, store=self.store, download=self.download, skip_bad=self.skip_bad)

    @property
    def demands(self) -> Demands:
        """What the grid wants of its data."""
        contrastive = self.losses
        return Demands(
            rho=self.rho if contrastive else (),
            pairings=self.pairings if contrastive and any(self.rho) else (),
            labels=any(objective_info(name).sees == "labelled pairs" for name in contrastive),
            batch=self.recipe.pretrain.batch,
            supervised_batch=self.recipe.pretrain.batch if "supervised" in self.objectives else 0,
            probe_batch=self.recipe.probe.batch,
        )

    @property
    def axes(self) -> Axes:
        """The grid's axes."""
        return Axes(self.objectives, self.rho, self.nu or (0.0,), self.pairings, self.seeds)

    def continuing(self, before: "Sweep | None") -> "Sweep":
        """This sweep in a folder that `before` was run in: what it leaves open is taken from there.

        For the cells of a folder are compared with each other. What is given outright still wins.
        """
        if before is None:
            return self
        return replace(
            self,
            engine=self.engine.filled(before.engine),
            gpu_share=self.gpu_share or before.gpu_share,
            cell_memory=self.cell_memory or before.cell_memory,
            grown=self.grown.joined(before.grown),
        )

    def cells(self) -> tuple[Cell, ...]:
        """The distinct cells of the grid, then those of added seeds, one seed after the other."""
        added = sorted((seed, name) for name, seeds in self.grown.added.items() for seed in seeds)
        further = (cell for seed, name in added for cell in self.grid((name,), (seed,)))
        return distinct((*self.grid(self.objectives, self.seeds), *further))

    @property
    def points(self) -> int:
        """Combinations of values, equivalent ones counted each."""
        further = (self.axes._replace(objectives=(name,), seeds=seeds) for name, seeds in self.grown.added.items())
        return self.axes.points + sum(axes.points for axes in further)

    def grid(self, objectives: tuple[str, ...], seeds: tuple[int, ...]) -> tuple[Cell, ...]:
        """The distinct cells of some objectives and seeds."""
        axes = self.axes._replace(objectives=objectives, seeds=seeds)
        return expand(axes, dataset=self.dataset, recipe=self.recipe.fingerprint)


def _address(out: str | Path) -> str:
    try:
        return normalized_address(out)
    except RecordsError as error:
        raise InputError(f"--out {error}") from error
