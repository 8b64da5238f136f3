"""`lefleet episodes export`: an episode for Rerun or Foxglove."""

import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from lefleet_server.cli import files
from lefleet_server.cli.client import Api, Body
from lefleet_server.cli.episodes import Id
from lefleet_server.cli.failures import Refused
from lefleet_server.cli.files import Written
from lefleet_server.cli.options import JsonOption, ProfileOption, ToOption, connect, episode_ids
from lefleet_server.cli.progress import Bar
from lefleet_server.exports import Format

TRIES = 5
_MAKING_S = 900.0
"""Longer than any server takes to make one, unless its export_timeout_s was raised."""


def export(
    episode: Id,
    kind: Annotated[Format, typer.Option("--format", help="rrd: for Rerun. mcap: for Foxglove and others.")],
    to: ToOption,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch an episode as one file for Rerun or Foxglove, which the server makes for it.

    Compared with its SHA-256. An mcap that was cut goes on where it stopped. An rrd is another file each time that it
    is made, so it begins anew and leaves no half.
    """
    files.require_apart(to, as_json)
    (episode_id,) = episode_ids([episode])
    with connect(profile, _MAKING_S) as api, Bar() as bar:
        written = _made(api, episode_id, kind, to, bar)
    files.tell(as_json, written)


def _made(api: Api, episode_id: str, kind: Format, to: Path, bar: Bar) -> Written:
    left = TRIES
    while True:
        bar.say("the server makes it")
        try:
            return _fetch(api, episode_id, kind, to, bar)
        except Refused as error:
            left -= 1
            # Others' exports are being made; how long one takes, nobody knows.
            if error.retry_after_s is None or not left:
                raise
            bar.say("waits for its turn")
            time.sleep(error.retry_after_s)


def _fetch(api: Api, episode_id: str, kind: Format, to: Path, bar: Bar) -> Written:
    def opened(start: int, etag: str) -> AbstractContextManager[Body]:
        return api.stream("/episodes/{episode_id}/export.{kind}", start, etag, episode_id=episode_id, kind=kind.value)

    if kind is Format.MCAP:
        return files.fetch(to, opened, bar)
    with opened(0, "") as body:
        return files.save_pieces(to, bar.over(body), body.sha256)
