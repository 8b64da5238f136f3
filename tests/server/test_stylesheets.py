"""The dashboard's stylesheets are loaded together on every page: a name that two of them use breaks both."""

import re
from itertools import combinations
from pathlib import Path

import pytest

from lefleet_server import dashboard

STATIC = Path(dashboard.__file__).parent / "static"
OF_PAGES = sorted(path.name for path in STATIC.glob("*.css") if path.name != "lefleet.css")


def selectors(name: str) -> set[str]:
    text = re.sub(r"/\*.*?\*/", "", (STATIC / name).read_text(), flags=re.DOTALL)
    lists = re.findall(r"([^{}]+)\{[^{}]*\}", text)
    return {each.strip() for selector_list in lists for each in re.split(r",(?![^(]*\))", selector_list)}


@pytest.mark.parametrize(("one", "other"), list(combinations(OF_PAGES, 2)))
def test_two_stylesheets_of_pages_share_no_selector(one, other):
    assert selectors(one), f"{one} holds rules"
    assert selectors(one) & selectors(other) == set()
