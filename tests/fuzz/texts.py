"""Label files, sweep.yaml and CIFAR-10's batches to begin with, and their readers."""

import json
import pickle
from pathlib import Path

import numpy as np
import yaml
from hypothesis import strategies as st

from datasets.cifar10.files import CHECKSUMS, read_batches
from datasets.errors import InputError
from datasets.images.masks import read_mask
from sweep.config.sweep import Sweep
from sweep.config.yaml_io import from_yaml, to_yaml
from sweep.presets import PRESETS, preset
from tests.fuzz.law import Reader
from tests.fuzz.mutations import STRANGE, json_like, mutated, replaced
from tests.helpers.fake_xbd import box

SIDE = 32
NUMBERS = st.sampled_from(["0", "3", "8.5", "31", "-4", "1e5", "1e9", "1e308", "nan", "inf", "-inf", "1e-320", ""])


@st.composite
def wkt(draw: st.DrawFn) -> str:
    """A text that is nearly a polygon."""
    points = [f"{draw(NUMBERS)} {draw(NUMBERS)}" for _ in range(draw(st.integers(0, 6)))]
    ring = ", ".join([*points, *points[: draw(st.integers(0, 1))]])
    whole = draw(
        st.sampled_from(["POLYGON (({}))", "MULTIPOLYGON ((({})))", "POLYGON (({0}), ({0}))", "polygon(({}))"])
    )
    other = [
        "POLYGON Z (({}))",
        "POLYGON EMPTY",
        "POINT (1 1)",
        "LINESTRING ({})",
        "CURVEPOLYGON (({}))",
        "POLYGON (({}",
    ]
    other += ["GEOMETRYCOLLECTION (POLYGON (({})))", "SRID=4326;POLYGON (({}))", "{}", box(0, 0, 9, 9)]
    return draw(st.sampled_from([whole, whole, whole, *other])).format(ring)


def _label() -> dict:
    features = [
        {
            "properties": {"feature_type": "building", "subtype": subtype, "uid": "a"},
            "wkt": box(3 * at, 2, 3 * at + 2, 20),
        }
        for at, subtype in enumerate(("no-damage", "destroyed", "un-classified", "minor-damage"))
    ]
    return {"features": {"lng_lat": [], "xy": features}, "metadata": {"width": SIDE, "height": SIDE}}


def labels() -> st.SearchStrategy[bytes]:
    changed = replaced(_label(), json_like(STRANGE) | wkt()).map(lambda tree: json.dumps(tree).encode())
    return st.one_of(
        changed, mutated([json.dumps(_label()).encode()]), json_like(STRANGE).map(json.dumps).map(str.encode)
    )


def _labels(folder: Path, data: bytes) -> None:
    for name in ("any", "a_pre_disaster", "a_post_disaster"):
        path = folder / f"{name}.json"
        path.write_bytes(data)
        mask = read_mask(path, SIDE, SIDE, unclassified="ignore").labels
        assert mask.shape == (SIDE, SIDE)
        assert set(np.unique(mask)) <= {0, 1, 2, 3, 4, 255}


YAMLS = ["2001-99-99", "0b_", "0x_", "1:99:99", "9" * 5000, "!!int x", "!!float x", "!!timestamp x", "!!binary x"]
YAMLS += [
    "!!python/object/apply:os.system [ls]",
    "!!set {a}",
    "!!omap [a: 1]",
    "!!bool x",
    "&a [*a]",
    "*a",
    "<<: 3",
    "=",
    "~",
]
YAMLS += [
    "{? [a] : b}",
    "'\\ud800'",
    "2001-01-01",
    "2001-01-01T25:00:00Z",
    ".nan",
    ".inf",
    "[" * 1000,
    "- " * 500,
    "!!null x",
]


PLANS = tuple(to_yaml(preset(name)) for name in sorted(PRESETS))


@st.composite
def sweeps(draw: st.DrawFn) -> bytes:
    """A preset as YAML with strange values, as a tree or as text."""
    text = draw(st.sampled_from(PLANS))
    if draw(st.booleans()):
        tree = draw(replaced(yaml.load(text, yaml.CSafeLoader), json_like(STRANGE)))
        return yaml.dump(tree).encode()
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        value = draw(st.sampled_from(YAMLS) | st.text(max_size=8))
        lines[at] = draw(st.sampled_from([f"{lines[at].partition(':')[0]}: {value}", value, f"{lines[at]} {value}"]))
    return "\n".join(lines).encode(errors="surrogatepass")


def _sweep(folder: Path, data: bytes) -> None:
    path = folder / "sweep.yaml"
    path.write_bytes(data)
    found = from_yaml(path)
    assert isinstance(found, Sweep)
    path.write_text(to_yaml(found), encoding="utf-8")
    assert to_yaml(from_yaml(path)) == to_yaml(found)  # as text, since nan is not nan


def _batch(count: int, number: int) -> dict:
    pixels = np.random.default_rng(number).integers(0, 256, (count, 3072), dtype=np.uint8)
    return {
        "batch_label": b"a batch",
        "labels": [n % 10 for n in range(count)],
        "data": pixels,
        "filenames": ["x"] * count,
    }


class _Calls:
    """Anything that a pickle may call, of what batches need and of what they do not."""

    def __init__(self, what: object, arguments: tuple) -> None:
        self.what, self.arguments = what, arguments

    def __reduce__(self) -> tuple:
        return self.what, self.arguments


def batches() -> st.SearchStrategy[bytes]:
    whole = [pickle.dumps(_batch(1, 0), protocol=protocol) for protocol in (2, 4, 5)]
    values = json_like(STRANGE) | st.builds(
        _Calls,
        st.sampled_from([np.ndarray, np.dtype, bytes.fromhex, print, exec]),
        st.tuples(st.sampled_from(["u1", "O", "V9", "", 2**40, (2**40,), (3,)])) | st.just(()),
    )
    changed = replaced(_batch(1, 0), values).map(lambda tree: pickle.dumps(tree, protocol=4))
    return st.one_of(mutated(whole), changed)


def _batches(folder: Path, data: bytes) -> None:
    root = folder / "cifar"
    root.mkdir(exist_ok=True)
    for number, name in enumerate(CHECKSUMS):
        if not (root / name).exists():
            (root / name).write_bytes(pickle.dumps(_batch(3, number)))
    (root / "data_batch_2").write_bytes(data)
    found = read_batches(root, download=False, other_files=True)
    assert found.train.shape[1:] == (32, 32, 3)
    assert found.train.dtype == found.train_labels.dtype == np.uint8
    assert found.train_labels.shape == (len(found.train),)
    assert found.train_labels.max() < 10


def readers() -> list[Reader]:
    return [
        Reader(name="xBD label file", inputs=labels(), read=_labels, errors=(InputError,)),
        Reader(name="sweep.yaml", inputs=sweeps(), read=_sweep, errors=(InputError,)),
        Reader(name="CIFAR-10 batch", inputs=batches(), read=_batches, errors=(InputError,)),
    ]
