"""`noisy-pairs COMMAND` is `python -m MODULE`."""

import importlib.util
import runpy
import subprocess
import sys
import tomllib

import pytest

from sweep.commands import COMMANDS, main
from tests.helpers.command import ROOT


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_a_module_with_its_arguments(name, monkeypatch):
    module, purpose = COMMANDS[name]
    assert importlib.util.find_spec(module)
    assert purpose
    ran = []
    monkeypatch.setattr(runpy, "run_module", lambda *words, **options: ran.append((*words, *sys.argv[1:])))
    monkeypatch.setattr(sys, "argv", ["noisy-pairs", name, "DIR", "--help"])
    assert main() == 0
    assert ran == [(module, "DIR", "--help")]


def test_every_module_that_is_a_command_has_a_name():
    parts = [ROOT / "analysis", ROOT / "datasets", ROOT / "sweep"]
    files = [path for part in parts for path in part.rglob("*.py") if '__name__ == "__main__"' in path.read_text()]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__") for path in files}
    assert modules == {module for module, _ in COMMANDS.values()}


def test_without_a_command_all_are_listed(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == shown
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_an_unknown_command_is_one_line(capsys):
    assert main(["statsu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "noisy-pairs: unknown command 'statsu': did you mean status? choose from run, probe, status,"
    )


def test_the_installed_script_runs_it(tmp_path):
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["noisy-pairs"]
    assert script == "sweep.commands:main"
    code = "import sys; from sweep.commands import main; sys.exit(main())"
    words = [sys.executable, "-c", code, "claims", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
