"""How far a download is, drawn on a terminal and silent elsewhere."""

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from lefleet_server.cli.client import Body
from lefleet_server.cli.downloads import Wanted
from lefleet_server.cli.output import console


class Bars:
    """A Watcher: a bar for each file under way, and one for all of them."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=console(err=True),
            transient=True,
            disable=not console(err=True).is_terminal,
        )
        self._all = self._progress.add_task("all", total=None)
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        self._progress.stop()

    def complain(self, text: str) -> None:
        """A line above the bars."""
        self._progress.console.print(Text(text, "red"), soft_wrap=True)

    def at(self, wanted: Wanted, position: int, received: int) -> None:
        with self._lock:
            if wanted.id not in self._tasks:
                # Speed and time left are about the network: what was here already is in neither.
                here = position - received
                self._tasks[wanted.id] = self._progress.add_task(wanted.name, total=wanted.bytes, completed=here)
                self._grow(wanted.bytes - here)
            self._progress.update(self._tasks[wanted.id], completed=position)
            self._progress.advance(self._all, received)

    def gone(self, wanted: Wanted) -> None:
        with self._lock:
            if (task := self._tasks.pop(wanted.id, None)) is not None:
                self._progress.remove_task(task)

    def _grow(self, count: int) -> None:
        total = self._progress.tasks[0].total or 0
        self._progress.update(self._all, total=total + count)


class Bar(Progress):
    """A Watcher of one file, and of what comes of one without a known length."""

    def __init__(self) -> None:
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=console(err=True),
            transient=True,
            disable=not console(err=True).is_terminal,
        )
        self._task = self.add_task("", total=None)
        self._is_coming = False

    def say(self, text: str) -> None:
        """What is waited for."""
        self._is_coming = False
        self.update(self._task, description=text)

    def over(self, body: Body) -> Iterator[bytes]:
        """The body's pieces, each counted once it was taken."""
        self._begin(0, body.length)
        for piece in body.pieces:
            yield piece
            self.advance(self._task, len(piece))

    def at(self, wanted: Wanted, position: int, received: int) -> None:
        if not self._is_coming:
            self._begin(position - received, wanted.bytes)
        self.update(self._task, completed=position)

    def gone(self, wanted: Wanted) -> None:
        """Nothing to do: it ends with its block."""

    def _begin(self, here: int, length: int | None) -> None:
        # Speed is about the network: what was here already is not in it.
        self._is_coming = True
        self.reset(self._task, description="downloading", total=length, completed=here)
