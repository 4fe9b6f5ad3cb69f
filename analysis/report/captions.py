"""The sentences above the tables of a report."""

EFFECT = (
    "{score} with noisy pairs minus that without (rho 0), and minus that with mere exposure, for the same loss and "
    "seed, in points: means over one grid with their 95 % intervals over seeds.{full}"
)

INTERACTION = (
    "{score} for the same loss and seed, in points: the mean over the grid ({grid}) with its {level} interval over "
    "seeds, at each value of the varied settings. Then its change from the first value of each setting, with the other "
    "settings equal, paired by seed. A loss that does not use a setting has one row for all its values. Intervals are "
    "not corrected for their number."
)

ASSIGNMENTS = (
    "In points. An assignment says which texture categories are the classes and which one is the noise. A value is the "
    "mean over the grid for an assignment and a seed; those that lack a cell are left out. The interval is that of t "
    "with as many degrees of freedom as there are assignments or seeds, whichever are fewer, minus one (METHOD.md)."
)

LEVELS = "The cells at each combination of the varied settings, which has a section of its own below."

VERDICTS = (
    "Supported: the 95 % interval is inside the claimed range. Contradicted: it is outside. Undecided: neither. A "
    "sentence with several parts is supported if all parts are; it is contradicted if one part is, at a level "
    "corrected for the number of parts. The numbers are those of the weakest part, with the interval used for its "
    "verdict. Sentences are judged one by one, so among twenty one may be wrong. p is small if a sentence is "
    "supported: it tests a mean on the bound of the claimed range, corrected for the number of sentences (Holm). The "
    "margin is {margin}. {left} more findings need other data or cells: see python -m analysis.claims DIR --all."
)

SCORES = "{score}, %: mean and standard deviation over seeds."

FULL_NOISE = (
    " With nu = 1, the images of a noisy pair share nothing. Such pairs are false positives and have their own row."
)

EXPOSURE = (
    "In points. Mean and standard deviation over {grid}: as in the paper, nu 1 is included if it was run. Then the "
    "interval over seeds, and the exact p from sign flips (with S seeds at least 2^(1-S)). Then standard deviations "
    "between cells, between seeds and of the rest (REML), the interval for other cells and seeds of this kind, and the "
    "number of further seeds that would halve the first interval."
)

CELLS = (
    "In points, with the t interval over seeds. p is corrected for the number of cells by Holm (no false finding "
    "among all) and by Benjamini and Hochberg (share of false findings)."
)

ZERO = "In points: each cell minus the cell with rho 0 of the same loss and seed. Intervals and corrections as above."

TREND = (
    "Least-squares slope of the score, in points from rho 0 to rho 1, with its interval over seeds. Page's test is "
    "for a monotone trend and needs three levels of rho."
)

PAIRING = (
    "All cells of a seed share images, initial weights and draws. The table shows the standard deviation over seeds "
    "of noisy minus exposure, in points, as it is (paired) and as it would be between independent seeds (unpaired); "
    "their ratio (above 1 if pairing widens the interval); and how many unpaired seeds have the error of one paired "
    "seed. First for a single cell, then for the mean over the grid."
)

PRETRAINING = (
    "Score without noisy pairs (rho 0) minus that of the random encoder, in points. Then the noise-free validation "
    "loss: its plateau (the loss if all features are equal), its floor (the least that the labels allow), the "
    "best, and the share of the range between them that it has covered. A cell has collapsed if it ends at the plateau "
    "or if its features are all alike. At rho 0 such a cell has likely learnt nothing.{older}"
)

MISSING = "Run the same sweep.run command again for missing cells; add --retry-failed for failed ones."
