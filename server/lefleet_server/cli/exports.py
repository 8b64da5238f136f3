"""`lefleet episodes export`: an episode for Rerun or Foxglove."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

from lefleet_server.cli.client import Api, Body
from lefleet_server.cli.episodes import Id
from lefleet_server.cli.failures import Refused
from lefleet_server.cli.files import save_pieces
from lefleet_server.cli.options import ProfileOption, connect, episode_ids
from lefleet_server.cli.output import console
from lefleet_server.exports import Format

TRIES = 5
_MAKING_S = 900.0
"""Longer than any server takes to make one, unless its export_timeout_s was raised."""


def export(
    episode: Id,
    kind: Annotated[Format, typer.Option("--format", help="rrd: for Rerun. mcap: for Foxglove and others.")],
    to: Annotated[Path, typer.Option("--to", "-o", help="File to write; `-`: standard output.")],
    profile: ProfileOption = None,
) -> None:
    """Fetch an episode as one file for Rerun or Foxglove, which the server makes for it."""
    (episode_id,) = episode_ids([episode])
    with connect(profile, _MAKING_S) as api, _Bar() as bar:
        for left in reversed(range(TRIES)):
            try:
                _fetch(api, episode_id, kind, to, bar)
            except Refused as error:
                # Others' exports are being made; how long one takes, nobody knows.
                if error.retry_after_s is None or not left:
                    raise
                bar.wait()
                time.sleep(error.retry_after_s)
            else:
                return


def _fetch(api: Api, episode_id: str, kind: Format, to: Path, bar: "_Bar") -> None:
    bar.make()
    with api.stream("/episodes/{episode_id}/export.{kind}", 0, "", episode_id=episode_id, kind=kind.value) as body:
        save_pieces(to, bar.over(body))


class _Bar(Progress):
    """Drawn on a terminal and silent elsewhere."""

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

    def wait(self) -> None:
        self.update(self._task, description="waits for its turn")

    def make(self) -> None:
        self.update(self._task, description="the server makes it")

    def over(self, body: Body) -> Iterator[bytes]:
        self.update(self._task, description="downloading", total=body.length)
        for piece in body.pieces:
            yield piece
            self.advance(self._task, len(piece))
