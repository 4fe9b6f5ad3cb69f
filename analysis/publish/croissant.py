"""Croissant metadata: a description of the files and columns of a data set that data hubs and loaders read.

The format is JSON-LD, https://docs.mlcommons.org/croissant/docs/croissant-spec.html. Tests validate what is written
with the library `mlcroissant`, and read the records with it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from analysis.records.schema import Column

#: The name of the file.
CROISSANT = "croissant.json"

# The words of Croissant 1.0: a loader expects each of them, whether it is used or not.
_WORDS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{word: f"cr:{word}" for word in _WORDS},
}

_FORMATS = {
    ".parquet": "application/x-parquet",
    ".yaml": "application/yaml",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".svg": "image/svg+xml",
}

_TYPES = {pa.string(): "sc:Text", pa.float64(): "sc:Float", pa.int64(): "sc:Integer", pa.bool_(): "sc:Boolean"}


def croissant(about: Mapping[str, Any], folder: Path, tables: Mapping[str, Sequence[Column]]) -> str:
    """The metadata of the files in a folder, as JSON. README.md and an older croissant.json are not described.

    Args:
        about: name, description, license and so on, as schema.org names them.
        folder: with all files.
        tables: the columns of each Parquet file that is described, by its path in the folder.
    """
    record_sets = [_record_set(path, columns) for path, columns in tables.items()]
    whole = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        **about,
        "distribution": [_file(path, folder) for path in described_files(folder)],
        "recordSet": record_sets,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def described_files(folder: Path) -> list[Path]:
    """The files that the metadata of a folder describes: all but the card, which may be edited, and the metadata."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in paths if path.relative_to(folder).as_posix() not in ("README.md", CROISSANT)]


def sha256(path: Path) -> str:
    """The digest of a file, as in the metadata."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(path: Path, folder: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": path.name,
        "contentUrl": name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _FORMATS[path.suffix],
        "sha256": sha256(path),
    }


def _record_set(path: str, columns: Sequence[Column]) -> dict[str, Any]:
    name = Path(path).stem
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column.name}",
                "name": column.name,
                "description": f"{column.meaning} ({column.unit})" if column.unit else column.meaning,
                "dataType": _TYPES[column.type],
                "source": {"fileObject": {"@id": path}, "extract": {"column": column.name}},
            }
            for column in columns
        ],
    }
