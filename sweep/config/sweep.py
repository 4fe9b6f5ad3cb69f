"""`Sweep`: the settings of one command, which are the axes of its grid, its recipe, and how the machine is used."""

import os
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt

from analysis.errors import RecordsError
from analysis.records.remote import is_remote, normalized_address
from datasets.errors import InputError, one_line
from datasets.misregistration import AMOUNTS
from datasets.registry import check_nu, check_pairing
from datasets.registry import outside_root as dataset_root
from datasets.settings import LocalPath, Share, local_path, settings
from datasets.source import Demands, Place, Settings
from sweep.config.grid import Axes, distinct, expand
from sweep.config.stopping_rule import AddedSeeds, check_rule
from sweep.config.vary import Axis, checked_axes, levels, variant
from sweep.storage.run_dir import RunDir
from trainables.cell import Cell
from trainables.engine import Engine
from trainables.objective_names import canonical_objective, objective_info
from trainables.objective_names import outside_root as objective_root
from trainables.recipe import Recipe
from trainables.registry import BASELINES
from trainables.weights_file import NO_WEIGHTS

LOSSES = ("moco", "within_image", "cross_image")
"""The paper's contrastive losses, in its order."""
Kept = Literal["encoders"]
"""What can be kept of each cell."""
Interval = Annotated[float, Field(gt=0, allow_inf_nan=True)]
"""Seconds; infinite: never."""


def _text(value: object) -> object:
    """A number or a truth value from YAML as text."""
    return str(value) if isinstance(value, int | float) else value


@settings()
class Sweep:
    """A grid of cells with one recipe, where its results go, and how the machine is used."""

    preset: Annotated[str, tyro.conf.Suppress] = "custom"
    """The preset that it started from."""
    objectives: Annotated[
        tuple[str, ...], tyro.conf.arg(aliases=("--losses",), metavar="[NAME|package.module:Class ...]")
    ] = ("moco", "within_image", "cross_image", "random")
    """Losses: those of the paper, `moco`, `within_image` and `cross_image`; others, `rince`, `rince_within`, `simclr`,
    `supcon` (needs a class of each image), `byol`, `simsiam`, `vicreg`, `densecl` and `pixpro`; or your own as
    package.module:Class or "package.module:Class(lr=0.1)". Baselines: `random`, the untrained encoder; `pretrained`,
    the weights of --encoder.weights; `imagenet`, torchvision's weights; `supervised`, the encoder trained on the
    downstream task (an upper bound)."""
    rho: tuple[Share, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Noisy-pairs rates, each in [0, 1]."""
    nu: tuple[Share, ...] = (0.25, 0.5, 0.75, 1.0)
    """Per-image noise of VTS, each in [0, 1] and a multiple of 1/regions; empty for data sets of real pairs."""
    pairings: tuple[Literal["noisy", "exposure", "irrelevant", "false_positive", "misregistration"], ...] = (
        *("noisy", "exposure"),
    )
    """How noisy pairs are formed: a clean and a noisy image, the noisy image twice (mere exposure), a clean image with
    noise that never occurs downstream, two unrelated images, or a clean pair of which one image is displaced, by
    --data.shift, --data.turn and --data.scale. VTS has all five; xBD and a manifest `noisy`, `exposure` and
    `misregistration`; CIFAR-10 `false_positive`."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = (0,)
    """Seeds: the whole grid runs once for each."""
    vary: Annotated[
        tuple[tuple[Annotated[str, BeforeValidator(_text)], ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="SETTING VALUE VALUE ..."),
    ] = ()
    """A setting of the recipe as an axis of the grid, such as `--vary pretrain.steps 240 960 3840`; repeatable. Cells
    of an objective that does not use the setting run once."""
    until: str = ""
    """Add seeds to each loss until its confidence interval is narrow enough. "halfwidth(difference) < 0.01": until half
    its width is below one percentage point. `difference`: noisy minus exposure; `against_clean`: noisy minus rho 0."""
    max_seeds: int = 0
    """For --until: the largest number of seeds of a loss, including --seeds."""
    grown: Annotated[AddedSeeds, tyro.conf.Suppress] = field(default_factory=AddedSeeds)
    """The seeds that --until has added."""
    encoders: Annotated[LocalPath | None, tyro.conf.Suppress] = None
    """The folder of a sweep whose kept encoders the cells probe, instead of pretraining: see `sweep.probe`."""
    out: Annotated[str | Path, tyro.conf.arg(metavar="FOLDER|s3://BUCKET/NAME")] = Path("results/custom")
    """Folder for records, summary, logs and the MLflow database; or its address on an object store."""
    data_root: Annotated[LocalPath | None, tyro.conf.arg(aliases=("--data", "--texture-root"))] = None
    """The data: the folder of xBD, CIFAR-10 or texture images, or a manifest file."""
    store: LocalPath | None = None
    """Folder for the arrays that real images are converted to, once per machine; default: in your cache folder."""
    skip_bad: bool = False
    """Leave out image pairs that cannot be used and list them, instead of stopping with an error."""
    download: bool = False
    """Let torchvision download missing data: DTD or CIFAR-10 to --data-root, weights for the baseline imagenet."""
    imagenet_weights: LocalPath | None = None
    """File with weights for the baseline imagenet, instead of torchvision's."""
    cores: NonNegativeInt = 0
    """Cores of this machine to use; 0: all that this process may use, by affinity, control groups, Slurm and
    OMP_NUM_THREADS."""
    temp_dir: LocalPath | None = None
    """Folder on this machine for Ray's sockets and logs, with a short name; default: one of your own in $TMPDIR."""
    workers: NonNegativeInt = 0
    """Largest number of cells that run at the same time; 0: as many as fit on the cores and GPUs."""
    gpu_share: Share = 0.0
    """Share of a GPU for each cell; 0: the fastest, as measured."""
    cell_memory: NonNegativeFloat = 0.0
    """Host memory in GB to reserve for each cell, which limits how many run at the same time; 0: as measured."""
    engine: Engine = field(default_factory=Engine)
    """How cells are executed. It may affect rounding, but not what is computed."""
    measure_again: bool = False
    """Measure which engine is fastest again, instead of using what is remembered. A folder keeps its precision."""
    report: bool = True
    """Draw figures and write report.html at the end."""
    retry_failed: bool = False
    """Run only the cells that are recorded as failed."""
    checkpoint_every: Interval = 60.0
    """Seconds between the checkpoints of a cell. They are deleted once it is recorded."""
    patience: Interval = 1800.0
    """Seconds after which a worker that does not report is killed. Its cell resumes in another worker. On a busy
    machine time counts less: with five programs for each core, a fifth."""
    keep: tuple[Kept, ...] = ()
    """What to keep of each cell. `encoders`: the pretrained encoder, in encoders/ as safetensors (see METHOD.md)."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")] = field(default_factory=Recipe)
    """Everything that is held fixed over the grid."""

    def __post_init__(self) -> None:
        """Refuse axes that make no grid. Bring folder, address and objectives to their canonical form."""
        object.__setattr__(self, "out", _place(self.out))
        object.__setattr__(self, "objectives", tuple(map(canonical_objective, self.objectives)))
        data = self.recipe.data
        for name in ("objectives", "rho", "pairings", "seeds", *(("nu",) if data.has_nu else ())):
            if not getattr(self, name):
                raise InputError(f"--{name} is empty: give at least one value")
        object.__setattr__(self, "vary", self._checked_axes())
        for name, *_ in self.vary:
            part, _, setting = name.partition(".")
            if part == "data" and setting in AMOUNTS and "misregistration" not in self.pairings:
                raise InputError(f"--vary {name}: has no effect without --pairings misregistration: add it")
            if name == "probe.join" and all(recipe.probe.target != "change" for recipe in self.recipes.values()):
                raise InputError(f"--vary {name}: has no effect without --probe.target change: add it")
        for recipe in self.recipes.values():
            for noise in self.nu:
                check_nu(recipe.data, noise)
            for pairing in self.pairings:
                check_pairing(recipe.data, pairing)
        for name in self.losses:
            if objective_info(name).sees == "labelled images" and data.task != "classification":
                raise InputError(
                    f"--losses {name}: needs one class of each image, but {data.dataset} has classes of pixels: leave "
                    "it out, or use --dataset cifar10"
                )
        self._check_recordable()
        self._check_weights()
        check_rule(self.until, self.max_seeds, self.seeds, self.rho, self.pairings, self.losses)

    def _checked_axes(self) -> tuple[Axis, ...]:
        """The axes of `vary`. One of a probe may have a single value, because further ones may follow in its folder."""
        return checked_axes(self.recipe, self.vary, self.objectives, fewest=1 if self.encoders else 2)

    def _check_recordable(self) -> None:
        """Refuse names of outside code that a record cannot hold, before any cell is trained."""
        for flag, column, names in (("losses", "objective", self.objectives), ("dataset", "dataset", (self.dataset,))):
            for name in names:
                if not name.isidentifier():  # ours are
                    from analysis.records.schema import is_allowed  # here: pyarrow takes a while to import

                    if not is_allowed(column, name):
                        shown = one_line(name, most=120)
                        raise InputError(
                            f"--{flag} {shown}: a record cannot hold this name: use ASCII characters, about 200 at most"
                        )

    def _check_weights(self) -> None:
        """Refuse the baseline of pretrained weights without weights."""
        if "pretrained" in self.objectives:
            recipes = (variant(self.recipe, level, "pretrained").recipe for level in levels(self.vary))
            if any(recipe.encoder.weights == NO_WEIGHTS for recipe in recipes):
                raise InputError(
                    "--losses pretrained: the baseline probes the weights of --encoder.weights; name a file there, or "
                    "leave it out"
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
        """Packages (folders) and modules (files) outside this project that define its losses and data set."""
        roots = {name: objective_root(name) for name in self.objectives}
        roots[self.dataset] = dataset_root(self.dataset)
        places = (root / name.partition(":")[0].partition(".")[0] for name, root in roots.items() if root)
        return tuple(dict.fromkeys(place if place.is_dir() else place.with_suffix(".py") for place in places))

    @property
    def run_dir(self) -> RunDir:
        """The folder of its results."""
        return RunDir.at(self.out)

    @property
    def place(self) -> Place:
        """Where the data are."""
        return Place(
            root=self.data_root, store=self.store, download=self.download, skip_bad=self.skip_bad, cores=self.cores
        )

    @property
    def recipes(self) -> Mapping[str, Recipe]:
        """Fingerprint -> recipe, for the recipes of all cells: one without --vary."""
        variants = [variant(self.recipe, level, name) for level in levels(self.vary) for name in self.objectives]
        return {one.recipe.fingerprint: one.recipe for one in variants}

    def demands(self, data: Settings) -> Demands:
        """What the cells on data with these settings need of them."""
        contrastive = self.losses
        recipes = [recipe for recipe in self.recipes.values() if recipe.data == data]
        batch = max(recipe.pretrain.batch for recipe in recipes)
        return Demands(
            rho=self.rho if contrastive else (),
            pairings=self.pairings if contrastive and any(self.rho) else (),
            labels=any(objective_info(name).sees == "labelled pairs" for name in contrastive),
            batch=batch,
            supervised_batch=batch if "supervised" in self.objectives else 0,
            probe_batch=max(recipe.probe.batch for recipe in recipes),
            ood=any(recipe.probe.split == "ood" for recipe in recipes),
            few_labels=any(recipe.probe.labels < 1 for recipe in recipes),
            targets=tuple(dict.fromkeys(recipe.probe.target for recipe in recipes)),
        )

    @property
    def axes(self) -> Axes:
        """The grid's axes."""
        return Axes(self.objectives, self.rho, self.nu or (0.0,), self.pairings, self.seeds)

    def continuing(self, before: "Sweep | None") -> "Sweep":
        """This sweep in the folder of `before`: settings that it leaves open are taken from there.

        The cells of a folder are compared with each other, so they should run alike. Explicit settings win.
        """
        if before is None:
            return self
        if self.measure_again:
            known = replace(Engine(), precision=before.engine.precision, deterministic=before.engine.deterministic)
            return replace(self, engine=self.engine.filled(known), grown=self.grown.joined(before.grown))
        return replace(
            self,
            engine=self.engine.filled(before.engine),
            gpu_share=self.gpu_share or before.gpu_share,
            cell_memory=self.cell_memory or before.cell_memory,
            grown=self.grown.joined(before.grown),
        )

    def cells(self) -> tuple[Cell, ...]:
        """The distinct cells of the grid, then those of added seeds, seed by seed."""
        added = sorted((seed, name) for name, seeds in self.grown.added.items() for seed in seeds)
        further = (cell for seed, name in added for cell in self.grid((name,), (seed,)))
        return distinct((*self.grid(self.objectives, self.seeds), *further))

    @property
    def points(self) -> int:
        """Number of combinations of values, including equivalent ones."""
        further = (self.axes._replace(objectives=(name,), seeds=seeds) for name, seeds in self.grown.added.items())
        return len(list(levels(self.vary))) * (self.axes.points + sum(axes.points for axes in further))

    def grid(self, objectives: tuple[str, ...], seeds: tuple[int, ...]) -> tuple[Cell, ...]:
        """The distinct cells of some objectives and seeds."""
        axes = self.axes._replace(objectives=objectives, seeds=seeds)
        return expand(axes, dataset=self.dataset, recipe=self.recipe, vary=self.vary)


def _place(out: str | Path) -> str | Path:
    try:
        given = os.path.expandvars(out)
        return normalized_address(given) if is_remote(given) else local_path(given)
    except (RecordsError, ValueError) as error:
        raise InputError(f"--out {error}") from error
