"""What people read and what scripts read. Times are local for people and as the server gave them for scripts."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

type Item = dict[str, Any]
type Cell = str | Text
type Column = tuple[str, Callable[[Item], Cell]]
"""Its heading, and what it shows of an item."""

STYLES = {
    "success": "green",
    "failure": "red",
    "offline": "dim",
    "retired": "dim",
    "revoked": "red",
    "rotating": "yellow",
    "valid": "green",
    "estopped": "bold red",
    "stopped": "bold red",
    "stopping": "bold yellow",
    "releasing": "yellow",
    "fault": "red",
    "error": "red",
    "dead": "red",
    "quarantined": "red",
    "running": "green",
}
_FOLDED = 14
"""Columns that a folded cell takes at least."""
_GAP = 2
_WIDE = 10_000
"""Columns where no terminal is: nothing is cut, so that `grep` and `awk` see all of it."""


def clean(text: str) -> str:
    """Without what moves a terminal's cursor or hides text: robots and their tasks are named by others."""
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def word(text: object) -> Text:
    """A state in its colour."""
    shown = clean(str(text))
    return Text(shown, STYLES.get(shown, ""))


def local(moment: str | None, none: str = "never") -> str:
    """A time of the server's in this machine's zone."""
    return none if moment is None else f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M:%S}"


def size(count: float) -> str:
    """Bytes for people, in powers of ten as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def console(*, err: bool = False) -> Console:
    made = Console(stderr=err, highlight=False, markup=False, emoji=False)
    return made if made.is_terminal else Console(stderr=err, highlight=False, markup=False, emoji=False, width=_WIDE)


def show_items(
    as_json: bool, items: Iterable[Item], columns: Sequence[Column], none: str, folds: Sequence[str] = ()
) -> None:
    """A table, or with `as_json` one line an item as it comes.

    `none`: what to say when there are no items. `folds`: headings of columns that may take several lines. On a terminal
    that is too narrow columns are left out, the last ones first.
    """
    if as_json:
        for item in items:
            print_json(item)
        return
    rows = [[_cell(cell(item)) for _, cell in columns] for item in items]
    if not rows:
        note(none)
        return
    screen, headings = console(), [heading for heading, _ in columns]
    widths = [max(Text(head).cell_len, *(row[at].cell_len for row in rows)) for at, head in enumerate(headings)]
    least = [min(width, _FOLDED) if head in folds else width for head, width in zip(headings, widths, strict=True)]
    count = fitting(least, screen.width)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in headings[:count]:
        table.add_column(heading, no_wrap=heading not in folds, overflow="fold")
    for row in rows:
        table.add_row(*row[:count])
    screen.print(table)
    if count < len(headings):
        note(f"Left out on a terminal this narrow: {', '.join(filter(None, headings[count:]))}")


def fitting(widths: Sequence[int], room: int) -> int:
    """How many columns, from the first, fit side by side with two spaces between them; at least one. Pure."""
    count = len(widths)
    while count > 1 and sum(widths[:count]) + _GAP * (count - 1) > room:
        count -= 1
    return count


def show(as_json: bool, value: Item, rows: Sequence[tuple[str, Cell]]) -> None:
    """One thing: with `as_json` the document as it is, otherwise what `rows` say of it."""
    if as_json:
        print_json(value)
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, cell in rows:
        grid.add_row(name, _cell(cell))
    console().print(grid)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say(text: Cell) -> None:
    """A result for people."""
    console().print(_cell(text), soft_wrap=True)


def answer(as_json: bool, value: Item, text: str) -> None:
    """What a change came to, for scripts or in a sentence."""
    if as_json:
        print_json(value)
    else:
        say(text)


def note(text: str) -> None:
    """Beside the result, so on standard error."""
    console(err=True).print(Text(text, "dim"), soft_wrap=True)


def complain(text: str) -> None:
    console(err=True).print(Text(text, "red"), soft_wrap=True)


def _cell(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(clean(cell))
