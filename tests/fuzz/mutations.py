"""Files that are nearly right: real ones, cut, patched and spliced."""

import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

from hypothesis import strategies as st

NUMBERS = [0, 1, 2, 3, 4, 7, 8, 16, 127, 128, 255, 256, 4096, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31]
NUMBERS += [2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]

Mend = Callable[[bytes], bytes]


def unchanged(data: bytes) -> bytes:
    return data


def mutated(files: Sequence[bytes], mend: Mend = unchanged) -> st.SearchStrategy[bytes]:
    """One of `files` with up to six changes; `mend` puts checksums right again, in half of the cases.

    All of them from one seed: were hypothesis to draw each, it would take most of the time.
    """
    return st.integers(0, 2**64 - 1).map(lambda seed: _mutated(Random(seed), files, mend))


def _mutated(random: Random, files: Sequence[bytes], mend: Mend) -> bytes:
    data = random.choice(files)
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 6))):
        data = _changed(random, data, files)
    return mend(data) if random.random() < 0.5 else data


def _changed(random: Random, data: bytes, files: Sequence[bytes]) -> bytes:
    place = _place(random, len(data))
    head, tail = data[:place], data[place:]
    match random.randrange(8):
        case 0:  # a bit
            return head + bytes(byte ^ 1 << random.randrange(8) for byte in tail[:1]) + tail[1:]
        case 1 | 2:  # a number that is too large, or nothing
            size = random.choice((1, 2, 4, 8))
            number = random.choice(NUMBERS) % 2 ** (8 * size)
            return head + number.to_bytes(size, random.choice(("little", "big"))) + tail[size:]
        case 3:  # cut off
            return head
        case 4:  # a piece is lost
            return head + tail[random.choice((1, 2, 4, random.randrange(200))) :]
        case 5:  # a piece comes twice
            return head + data[_place(random, len(data)) :]
        case 6:  # other bytes
            return head + random.randbytes(random.randrange(12)) + tail
        case _:  # the rest of another file
            return head + random.choice(files)[_place(random, len(data)) :]


def _place(random: Random, length: int) -> int:
    """Anywhere, often near one of the ends, where headers and footers are."""
    match random.randrange(3):
        case 0:
            return min(length, random.randrange(120))
        case 1:
            return max(0, length - random.randrange(600))
        case _:
            return random.randrange(length + 1)


def png_checksums(data: bytes) -> bytes:
    """The PNG with right checksums of whatever its chunks hold now."""
    out, start = data[:8], 8
    while start + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, start)
        if start + 12 + length > len(data):
            break
        chunk = data[start + 4 : start + 8 + length]
        out += data[start : start + 4] + chunk + struct.pack(">I", zlib.crc32(chunk))
        start += 12 + length
    return out + data[start:]


def json_like(leaves: st.SearchStrategy) -> st.SearchStrategy:
    """Anything that JSON and YAML can say, of these leaves."""
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    )


STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 300) | st.sampled_from([2**31, 2**63, 2**64, -(2**63), 10**30]),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["", "nan", "inf", "a\nb", "\x00", "\ud800", "x" * 5000, "../../etc/passwd", "/dev/null", "1e999"]),
)


@st.composite
def replaced(draw: st.DrawFn, whole: object, values: st.SearchStrategy) -> object:
    """A tree of dicts and lists of which up to three places hold something else, are gone or are added."""
    tree = whole
    for _ in range(draw(st.integers(0, 3))):
        tree = _replaced(draw, tree, values)
    return tree


def _replaced(draw: st.DrawFn, tree: object, values: st.SearchStrategy) -> object:
    if not isinstance(tree, dict | list) or not tree or draw(st.integers(0, 5)) == 0:
        return draw(values)
    if isinstance(tree, list):
        at = draw(st.integers(0, len(tree) - 1))
        return [*tree[:at], _replaced(draw, tree[at], values), *tree[at + 1 :]]
    name = draw(st.sampled_from(sorted(tree, key=str)))
    match draw(st.integers(0, 9)):
        case 0:
            return {key: value for key, value in tree.items() if key != name}
        case 1:
            return {**tree, draw(st.text(max_size=8)): draw(values)}
        case _:
            return {**tree, name: _replaced(draw, tree[name], values)}
