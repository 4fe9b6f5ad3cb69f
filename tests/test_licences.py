"""docs/licences.md lists what is pinned, and nothing that we depend on is missing or unknown."""

import re
import tomllib

import pytest

from tests.licences import ELSEWHERE, PAGE, ROOT, canonical, licence, pinned

ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]*) \|$", PAGE.read_text(), re.MULTILINE)[1:]
LISTED = {canonical(name): (version, said) for name, version, said in ROWS if name != "---"}


def _dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return {canonical(re.match(r"[\w.-]+", line)[0]) for line in lines}


def test_every_direct_dependency_is_pinned_and_listed_with_a_licence():
    for name in sorted(_dependencies()):
        assert name in LISTED, f"{name}: run `python -m tests.licences`"
        assert LISTED[name][1] not in ("", "?", "not installed"), name


def test_the_page_has_the_pins_versions():
    assert {name: version for name, (version, _) in LISTED.items()} == {
        canonical(name): version for name, version in pinned().items()
    }
    assert not [name for name, (_, said) in LISTED.items() if said in ("", "?", "not installed")]


@pytest.mark.parametrize("name", ["numpy", "torch", "ray", "mlflow", "pyarrow", "hypothesis"])
def test_the_page_says_what_the_installed_packages_say(name):
    assert LISTED[name][1] == licence(name)


def test_what_is_written_by_hand_is_of_pinned_packages():
    assert set(ELSEWHERE) <= set(LISTED)
