"""The findings of the paper about VTS, its synthetic data set. See `analysis.findings.paper` for the others."""

import numpy as np

from analysis.findings.base import NEGATIVE, POSITIVE, SLOPE, Finding, Region, one_part, part_per_cell, part_per_loss
from analysis.findings.contrasts import (
    Contrast,
    Grid,
    full_minus_partial,
    full_noise,
    gain_above,
    gains,
    loss_difference,
    over_exposure,
    partial_noise,
    scores,
    slopes,
    trend,
)
from analysis.names import DENSE

#: Above this share of noisy pairs the dense losses do not gain more (V-B).
QUARTER = 0.25

#: "High enough" and "high" per-image noise (V-C, B3): the upper half of the paper's four levels.
HIGH = 0.5


def _full_noise_at_one(grid: Grid) -> Contrast:
    """The drop at nu 1 and rho 1 minus the mean drop at smaller rho, for each loss."""
    drops = full_minus_partial(scores(grid, grid.losses))
    below = {c.loss: [v for d, v in drops.items() if d.loss == c.loss and d.rho != 1] for c in drops}
    ends = {cell: values for cell, values in drops.items() if cell.rho == 1 and below[cell.loss]}
    return {cell: values - np.mean(below[cell.loss], axis=0) for cell, values in ends.items()}


#: In the order of the sections of the paper.
VTS: tuple[Finding, ...] = (
    Finding(
        key="benefit_partial",
        sentence="MoCo and dense losses benefit from noisy pairs, except for noise equivalent to false positive pairs",
        where="contribution 2, V-B",
        about=("vts",),
        needs="noisy cells with nu < 1 and rho 0",
        parts=lambda grid, margin: part_per_loss(
            grid, grid.losses, POSITIVE, lambda loss: gains(grid, [loss], where=partial_noise)
        ),
    ),
    Finding(
        key="moco_rises",
        sentence="MoCo's performance increases with rising rho",
        where="V-B, Fig. 4",
        about=("vts",),
        needs="noisy cells with nu < 1 and rho 0 of moco",
        unit=SLOPE,
        parts=lambda grid, margin: one_part(grid, "moco", POSITIVE, trend(grid, "moco")),
    ),
    Finding(
        key="dense_gain_quarter",
        sentence="Dense losses also benefit from noise, up to rho .25",
        where="V-B, Fig. 5",
        about=("vts",),
        needs="noisy cells at rho .25 with nu < 1 and rho 0 of a dense loss",
        parts=lambda grid, margin: part_per_loss(
            grid,
            DENSE,
            POSITIVE,
            lambda loss: gains(grid, [loss], where=lambda rho, nu: rho == QUARTER and nu < 1),
        ),
    ),
    Finding(
        key="dense_level",
        sentence="Increasing rho above 25% does not yield additional gains for dense losses in most experiments",
        where="V-B, Fig. 5",
        about=("vts",),
        needs="noisy cells at rho .25 and above it with nu < 1 of a dense loss",
        parts=lambda grid, margin: part_per_loss(
            grid,
            DENSE,
            Region(below=margin),
            lambda loss: gain_above(scores(grid, [loss], where=partial_noise), QUARTER),
        ),
    ),
    Finding(
        key="full_noise_no_gain",
        sentence="nu = 1, equivalent to false positives, leads to no improvement or even a degradation",
        where="V-B, Figs. 4-5",
        about=("vts",),
        needs="noisy cells with nu = 1 and rho 0 of moco or within_image",
        parts=lambda grid, margin: part_per_loss(
            grid,
            ("moco", "within_image"),
            Region(below=margin),
            lambda loss: gains(grid, [loss], where=full_noise),
        ),
    ),
    Finding(
        key="dense_drop",
        sentence="nu = 1 leads to large drops for dense losses if rho = 1",
        where="V-B, Fig. 5",
        about=("vts",),
        needs="noisy cells at rho = 1 with nu = 1 and rho 0 of a dense loss",
        parts=lambda grid, margin: part_per_loss(
            grid,
            DENSE,
            Region(below=-margin),
            lambda loss: gains(grid, [loss], where=lambda rho, nu: rho == 1 and nu == 1),
        ),
    ),
    Finding(
        key="cross_exception",
        sentence="At nu = 1 the cross-image loss improves as long as not all positive pairs are false positives",
        where="V-D, Fig. 5",
        about=("vts",),
        needs="noisy cells with nu = 1 at 0 < rho < 1 and rho 0 of cross_image",
        parts=lambda grid, margin: one_part(
            grid, "cross_image", POSITIVE, gains(grid, ["cross_image"], where=lambda rho, nu: rho < 1 and nu == 1)
        ),
    ),
    Finding(
        key="full_noise_drops",
        sentence="From partially noisy towards fully false positives (nu = 1) performance does usually drop",
        where="V-D",
        about=("vts",),
        needs="noisy cells with nu = 1 and with nu < 1",
        parts=lambda grid, margin: one_part(
            grid, "all losses", NEGATIVE, full_minus_partial(scores(grid, grid.losses))
        ),
    ),
    Finding(
        key="full_noise_drops_most",
        sentence="The drop at nu = 1 is largest when all positive pairs are impacted (rho = 1)",
        where="V-D",
        about=("vts",),
        needs="noisy cells with nu = 1 and with nu < 1, at rho = 1 and below",
        parts=lambda grid, margin: one_part(grid, "all losses", NEGATIVE, _full_noise_at_one(grid)),
    ),
    Finding(
        key="moco_exposure",
        sentence="MoCo: noisy positives outperform mere exposure",
        where="V-C, Fig. 8",
        about=("vts",),
        needs="noisy and exposure cells of moco",
        parts=lambda grid, margin: one_part(grid, "moco", POSITIVE, over_exposure(grid, ["moco"])),
    ),
    Finding(
        key="moco_exposure_rises",
        sentence="MoCo: noisy positives outperform mere exposure with rising rho, given high enough nu",
        where="V-C, Fig. 8",
        about=("vts",),
        needs="noisy and exposure cells of moco with nu >= .5 at two rho above 0",
        unit=SLOPE,
        parts=lambda grid, margin: one_part(
            grid, "moco", POSITIVE, slopes(over_exposure(grid, ["moco"], where=lambda rho, nu: nu >= HIGH))
        ),
    ),
    Finding(
        key="dense_exposure",
        sentence="The dense losses also perform slightly better on average using noisy pairs than mere exposure",
        where="V-C, Fig. 9",
        about=("vts",),
        needs="noisy and exposure cells of a dense loss",
        parts=lambda grid, margin: part_per_loss(grid, DENSE, POSITIVE, lambda loss: over_exposure(grid, [loss])),
    ),
    Finding(
        key="moco_larger",
        sentence="The differences between noisy and mere exposure are much smaller for dense losses than for MoCo",
        where="V-C, VI",
        about=("vts",),
        needs="noisy and exposure cells of moco and a dense loss",
        parts=lambda grid, margin: part_per_loss(
            grid,
            DENSE,
            POSITIVE,
            lambda loss: loss_difference(over_exposure(grid, ["moco"]), over_exposure(grid, [loss])),
        ),
    ),
    Finding(
        key="irrelevant_moco_low",
        sentence="With noise that is not useful downstream, low per-image noise is slightly beneficial for MoCo",
        where="B3",
        about=("vts",),
        needs="irrelevant cells with nu <= .5 and rho 0 of moco",
        parts=lambda grid, margin: one_part(
            grid, "moco", POSITIVE, gains(grid, ["moco"], pairing="irrelevant", where=lambda rho, nu: nu <= HIGH)
        ),
    ),
    Finding(
        key="irrelevant_moco_high",
        sentence="With noise that is not useful downstream, high per-image noise is detrimental for MoCo",
        where="B3",
        about=("vts",),
        needs="irrelevant cells with nu > .5 and rho 0 of moco",
        parts=lambda grid, margin: one_part(
            grid, "moco", NEGATIVE, gains(grid, ["moco"], pairing="irrelevant", where=lambda rho, nu: nu > HIGH)
        ),
    ),
    Finding(
        key="irrelevant_within",
        sentence="With such noise, adding any noisy pairs improves the within-image loss over having none",
        where="B3",
        about=("vts",),
        needs="irrelevant cells with nu < 1 and rho 0 of within_image",
        parts=lambda grid, margin: part_per_cell(
            grid, POSITIVE, gains(grid, ["within_image"], pairing="irrelevant", where=partial_noise)
        ),
    ),
    Finding(
        key="irrelevant_within_full",
        sentence="With such noise, a per-image noise of 100% is always detrimental for the within-image loss",
        where="B3",
        about=("vts",),
        needs="irrelevant cells with nu = 1 and rho 0 of within_image",
        parts=lambda grid, margin: part_per_cell(
            grid, NEGATIVE, gains(grid, ["within_image"], pairing="irrelevant", where=full_noise)
        ),
    ),
)
