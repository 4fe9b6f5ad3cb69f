"""Files that unpack to more than a machine has, or would take for ever, are refused before they do."""

import subprocess
import sys
from pathlib import Path

import pytest

from datasets.errors import InputError
from datasets.images.bounds import ALWAYS_ALLOWED, MAX_BYTES, MAX_RATIO, check_bytes
from tests.fuzz import bombs

ROOT = Path(__file__).parents[2]
MOST_GROWTH = 150  # MiB
MOST_SECONDS = 60  # for all of one kind; a hang is hours
# A process of its own: how much this one took before would hide what it takes now.
CHILD = """
import resource, sys
from functools import partial
from pathlib import Path
from datasets.cifar10.files import _read_batch
from datasets.errors import InputError
from datasets.images.masks import read_mask
from datasets.images.read import read_classes, read_image, shape_of
from sweep.config.yaml_io import from_yaml

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
readers = {
    "images": (shape_of, read_image, read_classes),
    "labels": (lambda path: read_mask(path, 1024, 1024, unclassified="ignore"),),
    "batches": (lambda path: _read_batch(path, path.read_bytes()),),
    "plans": (from_yaml,),
}[sys.argv[1]]
before = peak()
for path in sorted(Path(sys.argv[2]).iterdir()):
    for reader in readers:
        try:
            reader(path)
        except InputError as error:
            assert "\\n" not in str(error) and len(str(error)) < 2000, path
        else:
            print("read", path.stem)
    assert peak() - before < int(sys.argv[3]), f"{path}: {peak() - before} MiB"
print("all")
"""


@pytest.mark.parametrize(
    "kind", ["images", "batches", *(pytest.param(one, marks=pytest.mark.slow) for one in ("labels", "plans"))]
)
def test_nothing_takes_memory_for_what_a_small_file_claims(tmp_path, kind):
    ending = ".json" if kind == "labels" else ""
    for name, content in getattr(bombs, kind)().items():
        (tmp_path / f"{name}{ending}").write_bytes(content)
    words = [sys.executable, "-W", "error", "-c", CHILD, kind, str(tmp_path), str(MOST_GROWTH)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=MOST_SECONDS)
    assert done.returncode == 0, done.stderr
    *answered, last = done.stdout.splitlines()
    assert last == "all"
    # What claims little and holds much is read as what it claims; all else is refused.
    assert kind == "images" or not answered


def test_an_image_may_be_large_where_its_file_is():
    check_bytes(ALWAYS_ALLOWED, 1)
    check_bytes(MAX_BYTES, MAX_BYTES // MAX_RATIO + 1)
    with pytest.raises(InputError, match=r"claims 129 MiB of pixels, which 1,000 bytes cannot hold"):
        check_bytes(ALWAYS_ALLOWED + 2**20, 1_000)
    with pytest.raises(InputError, match=r"has 4,097 MiB of pixels; at most 4,096 MiB"):
        check_bytes(MAX_BYTES + 2**20, MAX_BYTES)
