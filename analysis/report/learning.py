"""Whether pretraining learnt anything: without that, what noisy pairs do to it says little."""

import pandas as pd

from analysis.names import BASELINES, in_paper_order
from analysis.records.studies import Study
from analysis.report import captions
from analysis.report.table import Table, interval, make, number, points, text
from analysis.stats.differences import against_random
from analysis.stats.intervals import mean_over_grid
from analysis.tables import plateaus


def over_random(study: Study) -> pd.DataFrame:
    """A row per loss and other baseline: the score at rho 0 minus the random encoder's, over seeds.

    Columns: objective, `estimate`, `low`, `high` (null where there is no interval), `seeds`.
    """
    gains = against_random(study.records, study.metric)
    rows = []
    for objective, part in gains.groupby("objective"):
        found = mean_over_grid(part[["seed"]].assign(cell=0, value=part["difference"]), level=study.level)
        rows.append({**vars(found), "objective": objective})
    return pd.DataFrame(rows, columns=["objective", "estimate", "low", "high", "seeds"])


def unproven(study: Study) -> list[str]:
    """The losses whose pretraining is not shown to beat the random encoder: the interval (or one seed) reaches 0.

    Empty where the study has no random encoder to tell by.
    """
    found = over_random(study)
    found = found[~found["objective"].isin(BASELINES) & found["estimate"].notna()]
    return found.loc[found["low"].fillna(found["estimate"]) <= 0, "objective"].tolist()


def learnt_table(study: Study, anchor: str) -> Table:
    """Whether pretraining learnt anything: against the random encoder, and below the plateau."""
    frame = over_random(study).merge(plateaus(study.records), on="objective", how="outer").assign(dataset=study.dataset)
    return make(
        f"{anchor}-learnt",
        "Did pretraining learn?",
        captions.LEARNT,
        [
            text("loss", "objective"),
            points("minus random", "estimate"),
            interval("95 % interval"),
            number("seeds", "seeds"),
            number("plateau", "plateau", ".3f"),
            number("best loss", "loss", ".3f"),
            number("below, %", "below", ".1f", 100),
            number("cells", "cells"),
            number("at the plateau", "stuck"),
            number("of these rho 0", "stuck_clean"),
        ],
        in_paper_order(frame),
    )
