"""Inputs of figures besides records: curves and predictions, read from the folders of sweeps when needed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from analysis.records import parquet
from analysis.records.io import CURVES, read_curves, read_records
from analysis.records.predictions import Prediction, read_predictions
from analysis.records.studies import Study


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The folders of the records, and the cells (keys) whose predictions are shown; by default a few per loss."""

    folders: Sequence[Path] = ()
    cells: Sequence[str] = ()
    # Caches, because every study reads the same files.
    _curves: dict[Path, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)
    _records: dict[Path, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    def folders_of(self, study: Study) -> list[Path]:
        """The folders with cells of the study, in the order given, without summary files."""
        folders = [folder for folder in self.folders if folder.is_dir()]
        # A key does not depend on the data, so in another folder it may identify a cell of another study.
        return folders if len(folders) < 2 else [folder for folder in folders if self._holds(folder, study)]

    def curves(self, study: Study) -> pd.DataFrame:
        """The curves of the cells of the study, with the columns of `analysis.records.io.CURVES`; may be empty."""
        parts: list[pd.DataFrame] = []
        wanted = set(study.records["key"])
        for folder in self.folders_of(study):
            if folder not in self._curves:
                has_some = bool(parquet.files(folder / "curves"))
                self._curves[folder] = read_curves(folder) if has_some else pd.DataFrame(columns=CURVES.names)
            curves = self._curves[folder]
            parts.append(curves[curves["key"].isin(wanted)])
            wanted -= set(curves["key"])
        return pd.concat(parts) if parts else pd.DataFrame(columns=CURVES.names)

    def predictions(self, study: Study, keys: Sequence[str]) -> list[Prediction]:
        """The predictions of these cells, in this order, from the first folder that has them."""
        by_key: dict[str, list[Prediction]] = {}
        for folder in self.folders_of(study):
            for one in read_predictions(folder, [key for key in keys if key not in by_key]):
                by_key.setdefault(one.key, []).append(one)
        return [one for key in keys for one in by_key.get(key, [])]

    def _holds(self, folder: Path, study: Study) -> bool:
        if folder not in self._records:
            self._records[folder] = read_records(folder)[["key", "data"]].fillna("")
        records = self._records[folder]
        data = records.loc[records["key"].isin(study.records["key"]), "data"]
        return bool(data.isin(study.records["data"].fillna("")).any())
