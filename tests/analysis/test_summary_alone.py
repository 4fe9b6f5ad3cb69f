"""A folder with `summary.parquet` alone, as a copy or those of docs/results, is enough for every command."""

import shutil

import pytest

from analysis import claims, compare, figures, summary
from analysis.records.io import compact
from analysis.report import __main__ as report

COMMANDS = {
    "claims": (claims.main, ["--all"]),
    "compare": (lambda words: compare.main([words[0], *words]), ["--all"]),
    "figures": (figures.main, ["--only", "fig4", "--formats", "svg"]),
    "report": (report.main, ["--format", "md"]),
    "summary": (summary.main, []),
    "summary by": (summary.main, ["--by", "objective"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_of_a_summary_what_it_says_of_its_records(one_seed, tmp_path, capsys, name):
    main, words = COMMANDS[name]
    whole, alone = shutil.copytree(one_seed, tmp_path / "whole" / "sweep"), tmp_path / "alone" / "sweep"
    alone.mkdir(parents=True)
    shutil.copy(compact(whole), alone)
    said = []
    for folder in (whole, alone):
        assert main([str(folder), *words]) == (2 if name == "compare" else 0)  # it cannot say: there is one seed
        captured = capsys.readouterr()
        said.append((captured.out + captured.err).replace(str(folder), "DIR"))
    assert said[0] == said[1]
    assert said[0].strip()
    made = [{file.name: file.read_bytes() for file in folder.glob("report.*")} for folder in (whole, alone)]
    assert made[0] == made[1]
