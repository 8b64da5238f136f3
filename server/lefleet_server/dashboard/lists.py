"""Lists of things as lines: columns on a desk, two by two on a phone (static/lists.css)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from nicegui import ui

from lefleet_server.dashboard.parts import Text, box, icon, link
from lefleet_server.units import DASH


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    width: str = "minmax(0, 1fr)"
    """As in CSS' grid-template-columns."""
    classes: str = ""


class Lines:
    """A card of lines under column names. `rebuild` throws away what was there."""

    def __init__(self, columns: Sequence[Column], label: str) -> None:
        self._columns = columns
        self._card = box("lf-card lf-table lf-lines", aria_label=label)
        self._card.style(f"--columns: {' '.join(column.width for column in columns)}")

    @contextmanager
    def rebuild(self) -> Iterator[None]:
        """Lines are built inside, by `line` and `cell`."""
        self._card.clear()
        with self._card:
            with box("lf-line is-header"):
                for column in self._columns:
                    Text(column.name, column.classes)
            yield

    @contextmanager
    def only(self) -> Iterator[None]:
        """What stands instead of lines when there is none."""
        self._card.clear()
        with self._card:
            yield


class Pager:
    """Under a list that is read newest first from a place in it; empty while one page holds all."""

    def __init__(self) -> None:
        self._box = box("lf-pager")

    def show(self, text: str, newest: str | None, older: str | None) -> None:
        """`text` beside links to other pages, by address; None where there is none."""
        self._box.clear()
        if newest is None and older is None:
            return
        with self._box:
            Text(text, tag="span")
            with box():
                page_link("Newest", "previous", newest)
                page_link("Older", "next", older)


def page_link(name: str, arrow: Literal["previous", "next"], target: str | None) -> None:
    """A button to another page of a list; off without a target."""
    with link(target, "lf-button") if target else box("lf-button is-off", tag="a"):
        if arrow == "previous":
            icon(arrow)
        Text(name, tag="span")
        if arrow == "next":
            icon(arrow)


def line(target: str | None = None, classes: str = "", **attributes: str) -> ui.element:
    """One line; with a target all of it leads there."""
    if target is None:
        return box(f"lf-line {classes}", **attributes)
    return link(target, f"lf-line {classes}", **attributes)


def cell(name: str = "", classes: str = "") -> ui.element:
    """One cell; a phone shows its name above it."""
    return box(f"lf-line-cell {classes}", **({"data_name": name} if name else {}))


def main_cell(text: str, below: str = "", classes: str = "") -> ui.element:
    """What the line is about; a phone gives it the whole width."""
    with box(f"lf-line-cell is-main {classes}") as made:
        Text(text, "lf-cell-main lf-cut")
        if below:
            Text(below, "lf-cell-sub lf-cut")
    return made


@contextmanager
def panel(title: str, text: str = "") -> Iterator[None]:
    """A card with a heading."""
    with box("lf-card lf-panel", tag="section"):
        Text(title, tag="h2")
        if text:
            Text(text, "lf-panel-text")
        yield


@contextmanager
def section(title: str, text: str = "") -> Iterator[None]:
    """A heading over a list; buttons in an `lf-section-acts` stand at its right end."""
    with box("lf-section", tag="section"):
        with box("lf-section-head"):
            Text(title, tag="h2")
            if text:
                Text(text, "lf-sub")
        yield


def term(name: str) -> ui.element:
    """One line of an `lf-provenance`: its name; what it is goes inside."""
    Text(name, tag="dt")
    return box(tag="dd")


def entry(name: str, text: str) -> None:
    with term(name):
        Text(text or DASH)


def stat(name: str) -> tuple[Text, Text, Text]:
    """One number of a line of them (`lf-stats`): its value, its unit, what it means."""
    with box("lf-stat"):
        Text(name, "lf-stat-name")
        with box("lf-stat-value"):
            value = Text("", tag="span")
            unit = Text("", tag="small")
        return value, unit, Text("", "lf-stat-hint")
