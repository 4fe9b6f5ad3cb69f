"""What the tutorial docs/your-own-pairs.md says and shows is so: its code and commands are run."""

import re
import runpy
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from datasets.errors import InputError
from datasets.manifest.__main__ import main
from datasets.manifest.source import check, load
from sweep.cli import flags, parse
from sweep.presets import preset

TUTORIAL = (Path(__file__).parents[3] / "docs" / "your-own-pairs.md").read_text()


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def mydata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pairs that the script of the tutorial draws."""
    monkeypatch.chdir(tmp_path)
    (script,) = re.findall(r"(?ms)^```python\n(.*?)^```$", TUTORIAL)
    Path("draw.py").write_text(script)
    runpy.run_path("draw.py")
    return tmp_path / "mydata"


def commands(module: str) -> list[list[str]]:
    """The commands of a module that the tutorial shows, as words after the module's name."""
    return [shlex.split(line) for line in re.findall(rf"^python -m {re.escape(module)} (.+)$", TUTORIAL, re.MULTILINE)]


def test_the_tutorial_leads_from_a_folder_to_tiles(mydata: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = re.findall(r"^mydata/(\S+?)/? ", TUTORIAL, flags=re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in mydata.iterdir())
    shown = commands("datasets.manifest")
    assert [words[0] for words in shown] == ["init", "check", "preview"]
    for words in shown:
        assert main(words) == 0
    output = capsys.readouterr().out
    assert "pairs.csv (12 pairs" in output
    assert "8 train, 2 val, 2 test" in output
    assert re.search(r"^train +128 ", output, re.MULTILINE)  # tiles
    assert Path("preview.png").is_file()
    assert output.index("next:") > 0
    sweeps = commands("sweep.run")
    assert len(sweeps) == 4
    for words in sweeps:
        sweep = parse(words).sweep
        source = load(sweep.recipe.data, sweep.place)
        check(sweep.recipe.data, source, sweep.demands(sweep.recipe.data))
        assert source.store.tiles["noisy"].sum() == 96
        larger = parse([*words, "--pretrain.batch", "128"]).sweep
        with pytest.raises(InputError, match=r"--pretrain\.batch 128"):
            check(larger.recipe.data, source, larger.demands(larger.recipe.data))
    recipes = {(recipe := parse(words).sweep.recipe).probe.target: recipe for words in sweeps}
    # More pairings and more seeds are of one recipe. Change detection differs in its probe alone.
    assert len({parse(words).sweep.recipe for words in sweeps}) == len(recipes) == 2
    assert replace(recipes["change"], probe=recipes["classes"].probe) == recipes["classes"]


def test_flags_that_the_tutorial_names_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("init", "from-torchgeo", "check", "preview"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
    pattern = r"(?<![\w-])--[a-z](?:[a-z0-9.-]*[a-z0-9])?"
    known = {*flags(preset("manifest")), *re.findall(pattern, capsys.readouterr().out)}
    found = set(re.findall(pattern, TUTORIAL.replace("with `--data.` before", "")))
    assert found <= known
    assert len(found) > 10


def test_what_the_tutorial_says_of_the_preset_is_so() -> None:
    sweep = parse(commands("sweep.run")[0]).sweep
    assert sweep.objectives == ("moco", "random", "supervised")
    assert len(sweep.rho) == 5
    assert sweep.pairings == ("noisy", "exposure")
    assert sweep.recipe.data.size == 64
    assert (sweep.recipe.pretrain.batch, sweep.recipe.pretrain.steps) == (16, 960)
