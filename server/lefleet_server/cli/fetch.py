"""`lefleet episodes download`."""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from lefleet_server.cli import complete
from lefleet_server.cli.client import Api, Body, Pages
from lefleet_server.cli.downloads import Downloader, Result, State, Wanted
from lefleet_server.cli.failures import Failure, Refused, Status, usage
from lefleet_server.cli.filters import filtered
from lefleet_server.cli.options import JsonOption, ProfileOption, connect, episode_ids
from lefleet_server.cli.output import Item, note, print_json, say, size
from lefleet_server.cli.progress import Bars


@filtered
def download(
    to: Annotated[Path, typer.Option(help="Folder for ROBOT-ID.h5; made if it is not there.", file_okay=False)],
    episodes: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="`-`: from standard input.", autocompletion=complete.episodes),
    ] = None,
    *,
    which: dict[str, Any],
    everything: Annotated[bool, typer.Option("--all", help="All episodes, where no filter is given.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Most of those that match.")] = None,
    at_once: Annotated[int, typer.Option(min=1, max=16, help="Files at a time.")] = 4,
    replace: Annotated[bool, typer.Option("--replace", help="Also over a file that holds something else.")] = False,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download episodes' files: resumed where they stopped, compared with their SHA-256. Exit status 3: some failed."""
    if sum((bool(episodes), bool(which), everything)) != 1:
        raise usage("ID: name the episodes, or choose them by filters, or give --all (one of the three)")
    _folder(to)
    with connect(profile) as api, Bars() as bars:

        def opened(one: Wanted, start: int, etag: str) -> AbstractContextManager[Body]:
            return api.stream("/episodes/{episode_id}/file", start, etag, episode_id=one.id)

        downloader = Downloader(opened, to, bars, replace=replace)
        listed = _named(api, episode_ids(episodes)) if episodes else Pages(api, "/episodes", which, limit)
        told = _Told(as_json, bars)
        try:
            for result in downloader.many(map(Wanted.of, told.there(listed)), at_once):
                told.add(result)
        except KeyboardInterrupt:
            bars.end()
            note("stopped; run it again to go on from here")
            # Threads may wait for a server that does not answer. Nothing is lost: every byte that counts is in a file.
            os._exit(130)
    told.sum_up()


def _folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise usage(f"--to: {path}: cannot be made: {error.strerror}") from error


def _named(api: Api, ids: Iterable[str]) -> Iterator[Item | Refused]:
    """What the server says of each, or why it says nothing."""
    for episode_id in ids:
        try:
            yield api.get("/episodes/{episode_id}", episode_id=episode_id)
        except Refused as error:
            if error.code != 404:
                raise
            yield error


class _Told:
    """Says of every episode how it went, and in the end of all."""

    def __init__(self, as_json: bool, bars: Bars) -> None:
        self._as_json = as_json
        self._bars = bars
        self._counts = dict.fromkeys(State, 0)
        self._received = 0
        self._worst = Status.DONE

    def there(self, found: Iterable[Item | Refused]) -> Iterator[Item]:
        """Those that the server has."""
        for one in found:
            if isinstance(one, Refused):
                self._failed(one, {"state": State.FAILED.value})
            else:
                yield one

    def add(self, result: Result) -> None:
        one = result.wanted
        values = {"episode_id": one.id, "state": result.state.value, "path": str(result.path), "bytes": one.bytes}
        values |= {"sha256": one.sha256, "received": result.received}
        self._received += result.received
        if result.error is not None:
            self._failed(result.error, values, f"{one.name}: ")
            return
        self._counts[result.state] += 1
        if self._as_json:
            print_json(values | {"error": None})

    def sum_up(self) -> None:
        failed, all_ = self._counts[State.FAILED], sum(self._counts.values())
        if not self._as_json:
            got, there = self._counts[State.DOWNLOADED], self._counts[State.PRESENT]
            words = [f"{got} downloaded ({size(self._received)})", f"{there} here already"]
            say(", ".join([*words, *([f"{failed} failed"] if failed else [])]))
        if failed:
            raise typer.Exit(self._worst if failed == all_ else Status.PARTLY)

    def _failed(self, error: Failure, values: Item, name: str = "") -> None:
        self._counts[State.FAILED] += 1
        self._worst = max(self._worst, error.status)
        if self._as_json:
            print_json(values | {"error": error.message})
        else:
            self._bars.complain(name + error.message)
