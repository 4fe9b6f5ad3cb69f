"""`python -m analysis.summary DIR`: put a sweep's records into one file and print its tables.

Needs neither torch, ray nor mlflow: it works on a copy of the folder, anywhere.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.errors import RecordsError
from analysis.records import compact, read_records
from analysis.tables import render


def main(arguments: Sequence[str] | None = None) -> int:
    """Write `DIR/summary.parquet`, print the tables; returns the exit code, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m analysis.summary", description=__doc__)
    parser.add_argument("dir", type=Path, metavar="DIR", help="a sweep's folder, or its summary.parquet")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the tables to FILE too")
    options = parser.parse_args(arguments)
    try:
        source = options.dir if options.dir.is_file() else compact(options.dir)
        text = render(read_records(source))
        if options.out is not None:
            options.out.write_text(text + "\n", encoding="utf-8")
    except (RecordsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
