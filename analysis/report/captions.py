"""The sentences above the tables of a report."""

EFFECT = (
    "{score} with noisy pairs minus that of the same loss and seed without any (rho 0), points: the mean over the"
    " grid with its 95 % interval over seeds.{full}"
)

VERDICTS = (
    "Supported: the 95 % interval lies inside the claimed range; contradicted: outside it; undecided: neither. A "
    "sentence of several parts is supported if all of them are, contradicted if one is at a level that allows for "
    "their number; the numbers are of the part that speaks most against it, with the interval it is judged by. Each "
    "sentence is judged by itself: among twenty, one may err. p, small where a sentence is supported, is that of the "
    "mean lying on the bound of the range, corrected for the number of sentences (Holm). The margin is {margin}. "
    "{left} more findings need other data or cells: see python -m analysis.claims DIR --all."
)

SCORES = "{score}, %: mean and standard deviation over seeds."

FULL_NOISE = " Pairs with nu = 1 share nothing with their clean image: they are false positives, and stand apart."

EXPOSURE = (
    "Points. Mean and standard deviation over the grid as in the paper; then the interval over seeds, and the "
    "exact p of sign flips (with S seeds never below 2^(1-S)); the standard deviations between cells, between "
    "seeds and of the rest (REML); the interval for other cells and seeds of this kind; and the further seeds "
    "that would halve the first interval."
)

CELLS = (
    "Points, with the t interval over seeds; p corrected for the number of cells by Holm (no false finding among "
    "all) and by Benjamini and Hochberg (share of false findings)."
)

ZERO = "Points: each cell minus the cell with rho 0 of the same loss and seed. Intervals and corrections as above."

TREND = (
    "Least-squares slope of the score, points from rho 0 to rho 1, with its interval over seeds. Page's test asks"
    " for a monotone trend and needs three levels of rho."
)

PAIRING = (
    "All cells of a seed share images, initial weights and draws. Standard deviation over seeds of noisy minus "
    "exposure as it is (paired) and as it would be between independent seeds, points; their ratio (beyond 1 "
    "pairing widens); and how many unpaired seeds give the error of one paired seed. For a single cell, and for "
    "the mean over the grid."
)

PRETRAINING = (
    "Score without noisy pairs (rho 0) minus that of the random encoder, points. Noise-free validation loss, "
    "nats, and its plateau, which is the loss with all features equal: a cell that stays there at rho 0 has "
    "likely pretrained nothing."
)

MISSING = "The same command of sweep.run runs what is missing; with --retry-failed it runs what failed instead."
