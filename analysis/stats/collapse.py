"""Collapse: cells whose pretraining ended at the plateau of the loss, or with features that are all alike.

Records hold `collapsed` (METHOD.md), `pretrain_plateau` (the loss if all features are equal) and `pretrain_floor` (the
least loss that the labels allow). Older records lack `collapsed` and the floor, so they are judged by the loss alone.
"""

import pandas as pd

#: An older record is at its plateau if its loss is less than this share below.
STUCK = 0.005

_LOSSES = ["pretrain_plateau", "pretrain_floor", "pretrain_val_loss"]


def is_collapsed(records: pd.DataFrame) -> pd.Series:
    """Whether each done cell has collapsed; for older records, whether its loss is at its plateau."""
    plateau, _, loss = _losses(records)
    return _recorded(records).fillna(1 - loss / plateau < STUCK).astype(bool) & (records["status"] == "done")


def older_note(records: pd.DataFrame) -> str:
    """How `is_collapsed` judges older records; empty if there are none."""
    plateau, _, _ = _losses(records)
    older = _recorded(records).isna() & plateau.notna() & (records["status"] == "done")
    if not older.any():
        return ""
    return (
        f"{older.sum()} of {len(records)} records are older and hold neither floor nor spread of features: these cells "
        f"count as collapsed if their loss is less than {100 * STUCK:g} % below the plateau"
    )


def attained(records: pd.DataFrame) -> pd.Series:
    """The share of the attainable range of the loss, from plateau (0) to floor (1), that each cell has covered.

    Null without a floor, as in older records.
    """
    plateau, floor, loss = _losses(records)
    return (plateau - loss) / (plateau - floor)


def without_collapsed(records: pd.DataFrame) -> pd.DataFrame:
    """The records as if collapsed cells had failed, so that what rests on them has no value."""
    return records.assign(status=records["status"].mask(is_collapsed(records), "failed"))


def _recorded(records: pd.DataFrame) -> pd.Series:
    return records.reindex(columns=["collapsed"])["collapsed"].astype("boolean")


def _losses(records: pd.DataFrame) -> list[pd.Series]:
    # Frames that are not from `read_records` may lack some.
    known = records.reindex(columns=_LOSSES).astype(float)
    return [known[name] for name in _LOSSES]
