"""What a benchmark found: rows that were measured in the same run, and the ratios between them, as tables."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.table import Table

RATIO = "ratio (above 1: ours is better)"

type Sample = dict[str, float]
"""One turn's measurements by column key."""


@dataclass(frozen=True, slots=True)
class Column:
    key: str
    title: str
    digits: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    rounds: tuple[Sample, ...]
    """As measured, in turn with the other rows."""

    def value(self, key: str) -> float | None:
        """The median of the rounds; None where the row has no such value."""
        found = [sample[key] for sample in self.rounds if key in sample]
        return median(found) if found else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours against a peer's by one column; above 1 ours is better."""

    what: str
    ours: float
    peer: float
    peer_name: str
    lower_is_better: bool

    @property
    def times_better(self) -> float | None:
        over, under = (self.peer, self.ours) if self.lower_is_better else (self.ours, self.peer)
        return over / under if under else None

    def cells(self) -> tuple[str, str, str, str]:
        times = self.times_better
        ratio = "-" if times is None else f"{times:.2f} x"
        return self.what, f"{self.ours:.3g}", f"{self.peer:.3g} ({self.peer_name})", ratio


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader must know to believe the numbers."""

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)

    def cells(self, row: Row) -> list[str]:
        return [row.name, *(_cell(row.value(column.key), column.digits) for column in self.columns)]

    def as_dict(self) -> dict[str, Any]:
        medians = {row.name: {c.key: row.value(c.key) for c in self.columns} for row in self.rows}
        ratios = [asdict(c) | {"times_better": c.times_better} for c in self.comparisons]
        rounds = {row.name: list(row.rounds) for row in self.rows}
        return {"title": self.title, "medians": medians, "comparisons": ratios, "rounds": rounds, "notes": self.notes}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A figure that could not be measured here, and what would help."""

    name: str
    reason: str


def compare(
    what: str, rows: Sequence[Row], ours: str, peer: str, column: Column, *, lower_is_better: bool
) -> tuple[Comparison, ...]:
    """One comparison, or none where a row is missing (a peer that is not installed)."""
    values = {row.name: row.value(column.key) for row in rows}
    left, right = values.get(ours), values.get(peer)
    if left is None or right is None:
        return ()
    return (Comparison(f"{what}: {column.title}", left, right, peer, lower_is_better),)


def detail_table(figure: Figure) -> Table:
    table = Table("", title=figure.title, title_justify="left", caption="\n".join(figure.notes), caption_justify="left")
    for column in figure.columns:
        table.add_column(column.title, justify="right")
    for row in figure.rows:
        table.add_row(*figure.cells(row))
    return table


def summary_table(results: Sequence[Figure | Skipped]) -> Table:
    """The last thing printed: every ratio, and every figure that is missing."""
    table = Table("figure", "what", "ours", "beside", RATIO, title="LeFleet, measured now", title_justify="left")
    for result in results:
        if isinstance(result, Skipped):
            table.add_row(result.name, f"[bold red]NOT MEASURED[/]: {result.reason}", "", "", "")
            continue
        for comparison in result.comparisons:
            table.add_row(result.name, *comparison.cells())
        for row in result.rows if not result.comparisons else ():
            said = ", ".join(
                f"{column.title} {text}"
                for column, text in zip(result.columns, result.cells(row)[1:], strict=True)
                if text
            )
            table.add_row(result.name, row.name, said, "", "")
        table.add_section()
    return table


def markdown(figure: Figure) -> str:
    """The same tables for docs/benchmarks.md."""
    parts = [
        f"**{figure.title}**",
        _markdown_table(["", *(c.title for c in figure.columns)], map(figure.cells, figure.rows)),
    ]
    if figure.comparisons:
        rows = (list(comparison.cells()) for comparison in figure.comparisons)
        parts.append(_markdown_table(["what", "ours", "beside", RATIO], rows))
    parts.extend(figure.notes)
    return "\n\n".join(parts) + "\n"


def _markdown_table(titles: list[str], rows: Any) -> str:
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
