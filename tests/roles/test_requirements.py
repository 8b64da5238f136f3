"""The pinned requirements: each part gets the versions that were tested together."""

import re
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
TESTED = REPO / "tests" / "requirements.txt"
PARTS = [REPO / part / "requirements.txt" for part in ("agent", "server", "ansible")]

each_part = pytest.mark.parametrize("part", PARTS, ids=lambda path: path.parent.name)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    lines = (line for line in path.read_text().splitlines() if line and not line.lstrip().startswith("#"))
    found = [re.fullmatch(r"([\w.-]+)==(\S+)( ;.*)?", line) for line in lines]
    assert all(found), f"{path}: a line is no pin"
    return {normal(match[1]): match[2] for match in found if match}


def asked(part: str) -> set[str]:
    if part == "ansible":
        lines = (REPO / "ansible" / "requirements.in").read_text().splitlines()
    else:
        project = tomllib.loads((REPO / part / "pyproject.toml").read_text())["project"]
        lines = [
            *project["dependencies"],
            *(line for group in project["optional-dependencies"].values() for line in group),
        ]
    names = (re.match(r"[\w.-]+", line) for line in lines if line and not line.startswith("#"))
    return {normal(match[0]) for match in names if match}


@each_part
def test_a_part_has_the_versions_that_were_tested(part: Path) -> None:
    tested = pins(TESTED)
    assert {name: version for name, version in pins(part).items() if tested.get(name) != version} == {}


@each_part
def test_everything_a_part_asks_for_is_pinned(part: Path) -> None:
    assert asked(part.parent.name) - set(pins(part)) == set()


@pytest.mark.parametrize("path", [TESTED, *PARTS], ids=lambda path: path.parent.name)
def test_no_registry_is_named(path: Path) -> None:
    assert "://" not in path.read_text() and "index" not in re.sub(r"==\S+", "", path.read_text())
