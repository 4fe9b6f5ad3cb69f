"""What is known of the pairs whose tiles are on disk already, a line each, so that an interrupted build resumes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Note:
    """A pair's tiles, in rows `first` to `first` + `tiles` of the arrays."""

    key: str
    """Identifies the pair's files (name, size, time) and the cut."""
    first: int
    tiles: int
    across: int
    """Tiles side by side in one row of the image's grid."""
    digest: str
    """Of the rows."""
    counts: Mapping[str, list[dict[str, int]]]
    """For each mask of the pair and each tile: pixels of each class. Keys are text, as JSON demands."""
    buildings: Mapping[str, int]

    def at(self, first: int) -> "Note":
        """The note of the same rows at another place."""
        return replace(self, first=first)


class Journal:
    """Notes in a file; of several with one key the last is valid. Rows are trusted only if their digest agrees."""

    def __init__(self, path: Path, notes: dict[str, Note]) -> None:
        """Use `start` or `resume`."""
        self.path, self.notes = path, notes

    @classmethod
    def start(cls, path: Path, head: Mapping[str, Any]) -> "Journal":
        """Begin an empty journal."""
        path.write_text(json.dumps(head) + "\n")
        return cls(path, {})

    @classmethod
    def resume(cls, path: Path, head: Mapping[str, Any]) -> "Journal | None":
        """The journal that is there; None unless it begins with `head`."""
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        if not lines or _parse_json(lines[0]) != head:
            return None
        notes = [note for note in map(_parse_note, lines[1:]) if note]
        with open(path, "a") as file:
            file.write("\n")  # ends a line that was cut off
        return cls(path, {note.key: note for note in notes})

    def add(self, note: Note) -> None:
        """Write one more note."""
        with open(self.path, "a") as file:
            file.write(json.dumps(asdict(note)) + "\n")
        self.notes[note.key] = note


def _parse_note(line: str) -> Note | None:
    """The note of a line; None if the line is damaged, so that its pair is read again."""
    try:
        return Note(**_parse_json(line))
    except TypeError:
        return None


def _parse_json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
