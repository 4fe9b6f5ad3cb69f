"""The findings of the paper, each an object that can be judged on a study.

The regions use the weakest reading of the paper's words: "benefits" means above 0; "robust" means not below rho 0 by
`margin` or more. For "any", "always" or "no conditions" each cell is a part; otherwise a part is a mean over the grid.
The numbers are those of the paper: 2.4 points, 1 point, rho .25, nu 1. METHOD.md lists the interpretations.
"""

from analysis.findings.base import (
    NEGATIVE,
    POSITIVE,
    SLOPE,
    Finding,
    Part,
    Region,
    further_seeds_for_span,
    one_part,
    part_per_cell,
    part_per_loss,
    seed_span,
)
from analysis.findings.contrasts import Grid, chosen_over, gains, over_exposure, partial_noise, scores, trend
from analysis.findings.vts import VTS

#: The largest change over rho that the paper reports for xBD (V-B), as a fraction.
LARGEST = 0.024

#: The score "usually spans less than" this among random seeds (V-A), as a fraction.
SPAN = 0.01


def _spread(grid: Grid, margin: float) -> list[Part]:
    pairings = ("noisy", "exposure", "irrelevant", "false_positive")
    cells = {f"{p} {c}": v for p in pairings for c, v in scores(grid, grid.losses, pairing=p).items()}
    cells |= {f"{loss} rho 0": zero for loss in grid.losses if (zero := grid.zero(loss)) is not None}
    values = grid.frame(cells).dropna(subset="value")
    region = Region(below=SPAN)
    return [Part(name="all losses", region=region, values=values, estimate=seed_span, further=further_seeds_for_span)]


_REAL = (
    Finding(
        key="robust_real",
        sentence="Contrastive pretraining on a real-world dataset is robust to noisy positive pairs",
        where="contribution 1, V-B",
        about=("real",),
        needs="noisy cells and rho 0",
        parts=lambda grid, margin: part_per_loss(
            grid, grid.losses, Region(above=-margin), lambda loss: gains(grid, [loss])
        ),
    ),
    Finding(
        key="moco_gains_real",
        sentence="MoCo benefits slightly from the inclusion of noisy pairs",
        where="V-B, Fig. 1",
        about=("real",),
        needs="noisy cells and rho 0 of moco",
        parts=lambda grid, margin: one_part(grid, "moco", POSITIVE, gains(grid, ["moco"])),
    ),
    Finding(
        key="benefit_real",
        sentence="Noisy pairs are beneficial for MoCo and dense losses, although the effect is small on real data",
        where="VI",
        about=("real",),
        needs="noisy cells and rho 0",
        parts=lambda grid, margin: part_per_loss(
            grid, grid.losses, Region(above=0.0, below=LARGEST), lambda loss: gains(grid, [loss])
        ),
    ),
    Finding(
        key="not_sensitive_real",
        sentence="Downstream performance is not very sensitive to varying the amount of noisy pairs",
        where="V-B, Fig. 1",
        about=("real",),
        needs="noisy cells and rho 0",
        unit=SLOPE,
        parts=lambda grid, margin: part_per_loss(
            grid, grid.losses, Region(above=-LARGEST, below=LARGEST), lambda loss: trend(grid, loss)
        ),
    ),
    Finding(
        key="exposure_real",
        sentence="Noisy positives tend to perform better than the mere-exposure setting",
        where="V-C, Fig. 7",
        about=("real",),
        needs="noisy and exposure cells",
        parts=lambda grid, margin: one_part(grid, "all losses", POSITIVE, over_exposure(grid, grid.losses)),
    ),
    Finding(
        key="beats_imagenet",
        sentence="Our best encoder scores above ImageNet pretraining",
        where="V-B",
        about=("real",),
        needs="the baseline imagenet and a loss",
        parts=lambda grid, margin: one_part(grid, "best by validation", POSITIVE, chosen_over(grid, "imagenet")),
    ),
)

_OTHERS = (
    Finding(
        key="never_detrimental",
        sentence="No conditions under which noisy pairs are consistently detrimental, unless they are false positives",
        where="VI",
        about=("vts", "real"),
        needs="noisy cells with nu < 1 and rho 0",
        parts=lambda grid, margin: part_per_cell(
            grid, Region(above=-margin), gains(grid, grid.losses, where=partial_noise)
        ),
    ),
    Finding(
        key="exposure_helps",
        sentence="The benefit is partly caused by an increased exposure to features relevant to the downstream task",
        where="contribution 3, V-C",
        about=("vts", "real"),
        needs="exposure cells with nu < 1 and rho 0",
        parts=lambda grid, margin: one_part(
            grid, "all losses", POSITIVE, gains(grid, grid.losses, pairing="exposure", where=partial_noise)
        ),
    ),
    Finding(
        key="false_positives_hurt",
        sentence="More false positive pairs in pretraining lead to worse downstream classification",
        where="I, V-D, Fig. 1",
        about=("cifar10",),
        needs="false_positive cells and rho 0 of moco",
        unit=SLOPE,
        parts=lambda grid, margin: one_part(grid, "moco", NEGATIVE, trend(grid, "moco", "false_positive")),
    ),
    Finding(
        key="false_positives_sensitive",
        sentence="CIFAR-10 is very sensitive to false positive pairs (falls by more than xBD ever changes)",
        where="V-B, Fig. 1",
        about=("cifar10",),
        needs="false_positive cells and rho 0 of moco",
        unit=SLOPE,
        parts=lambda grid, margin: one_part(
            grid, "moco", Region(below=-LARGEST), trend(grid, "moco", "false_positive")
        ),
    ),
    Finding(
        key="seed_spread",
        sentence="Test performance among different conditions of randomness usually spans less than 1%",
        where="V-A",
        about=("vts", "real", "cifar10"),
        needs="a cell of a loss that is done",
        parts=_spread,
    ),
)

#: Findings about real data, then about VTS, then about several data sets or CIFAR-10.
FINDINGS: tuple[Finding, ...] = (*_REAL, *VTS, *_OTHERS)
