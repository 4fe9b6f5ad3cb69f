"""Every reader of others' files, given nearly right ones: 300 in all each time, 10,000 a reader in the long run."""

import pytest

from tests.fuzz import pictures, tables, texts
from tests.fuzz.law import LONG, Reader, fuzz

READERS = (*pictures.readers(), *texts.readers(), *tables.readers())
QUICK = -(-300 // len(READERS))


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_reader_answers_or_says_in_a_line_why_not(tmp_path, reader: Reader) -> None:
    fuzz(reader, tmp_path, QUICK, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_reader_answers_or_says_in_a_line_why_not_ten_thousand_times(tmp_path, reader: Reader) -> None:
    reader.outcomes.clear()
    fuzz(reader, tmp_path, LONG, derandomize=False)
    print(f"\n{reader.name}: {dict(reader.outcomes)}")
    assert min(reader.outcomes["answered"], reader.outcomes["refused"]) > LONG // 100  # inputs that tell nothing
