"""What people see: tables that fit, and no text of a stranger's that moves the cursor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from lefleet_server.cli.output import clean, fitting, show_items, size


@given(st.lists(st.integers(1, 60), min_size=1, max_size=10), st.integers(20, 200))
def test_as_many_columns_are_shown_as_fit(widths, room):
    count = fitting(widths, room)
    wide = [sum(widths[:n]) + 2 * (n - 1) for n in range(len(widths) + 2)]
    assert 1 <= count <= len(widths)
    assert count == 1 or wide[count] <= room
    assert count == len(widths) or wide[count + 1] > room


@given(st.text())
def test_what_a_stranger_wrote_does_nothing_to_a_terminal(text):
    shown = clean(text)
    assert shown.isprintable() and len(shown) == len(text)
    assert clean(shown) == shown


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_word_of_a_table_is_broken(monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    item = {name: name * 18 for name in "abcdef"}
    columns = [(name, lambda each, name=name: each[name]) for name in item]
    show_items(False, [item] * 3, columns, "none", folds=["f"])
    out, err = (Text.from_ansi(text).plain for text in capsys.readouterr())
    shown = [name for name in "abcde" if name * 18 in out]
    count = sum(width + 2 - 20 * n >= 18 + 2 for n in range(5))
    assert shown == list("abcde")[:count]
    assert all(len(line) <= width for line in out.splitlines())
    assert ("narrow" in err) == (width < 5 * 20 + 14)


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (42_000_000_000, "42.0 GB"), (10**15, "1000.0 TB")],
)
def test_bytes_are_told_in_powers_of_ten(count, said):
    assert size(count) == said
