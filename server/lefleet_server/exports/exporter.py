"""Has exports made in a confined process, a few at a time, each on a disk's scratch space while it is sent."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from lefleet_server.episodes import bounded
from lefleet_server.episodes.models import Episode
from lefleet_server.exports import Format
from lefleet_server.problems import Invalid, Unavailable
from lefleet_server.storage import BlobStore
from lefleet_server.storage.scratch import Scratch
from lefleet_server.threads import in_thread

_PROCESS = "lefleet_server.exports.process"
_AGAIN_S = 5
_ROOM_S = 10.0
"""Waited for while others' exports and previews take the room; they may be sent over a slow line."""


@dataclass(frozen=True, slots=True)
class Made:
    path: Path
    bytes: int
    sha256: str


class Exporter:
    """Building it touches nothing. The limit is this process' own."""

    def __init__(self, blobs: BlobStore, scratch: Scratch, at_once: int, timeout_s: float) -> None:
        self._blobs, self._scratch, self._at_once, self._timeout_s = blobs, scratch, at_once, timeout_s
        self._busy = 0

    @asynccontextmanager
    async def made(self, episode: Episode, kind: Format) -> AsyncIterator[Made]:
        """The export, until the block ends. Raises FileNotFoundError, Invalid, NoSpace, or Unavailable: try again."""
        async with AsyncExitStack() as stack:
            self._take_turn()
            try:
                # Into its turn falls the making alone: whoever reads slowly keeps nobody else from theirs.
                path = await self._room(stack, episode.bytes)
                async with self._blobs.local(episode.sha256) as source:
                    await self._make(kind, episode, source, path)
                made = Made(path, path.stat().st_size, await in_thread(_sha256, path))
            finally:
                self._busy -= 1
            yield made

    def _take_turn(self) -> None:
        if self._busy >= self._at_once:
            raise _later(f"{self._busy} exports are being made, of exports_at_once = {self._at_once}")
        self._busy += 1

    async def _room(self, stack: AsyncExitStack, expected_bytes: int) -> Path:
        try:
            async with asyncio.timeout(_ROOM_S):
                return await stack.enter_async_context(self._scratch.file(expected_bytes))
        except TimeoutError as error:
            raise _later("the files that are being sent take all of scratch_bytes") from error

    async def _make(self, kind: Format, episode: Episode, source: Path, path: Path) -> None:
        try:
            said = await bounded.said(_PROCESS, kind, source, path, timeout_s=self._timeout_s)
        except bounded.TooSlowError as error:
            size = f"{episode.duration_s:.0f} s, {episode.bytes / 1e6:.0f} MB"
            raise Invalid(
                f"no {kind} was made: the episode's file ({size}) {error}; take its HDF5 file, or, if the server is "
                f"not just busy, raise export_timeout_s = {self._timeout_s:g}",
                kind="export-too-slow",
            ) from error
        except bounded.FileFaultError as error:
            said = {"error": str(error)}
        except bounded.EndedEarlyError as error:
            raise _later(str(error)) from error
        if "error" in said:
            raise Invalid(
                f"no {kind} can be made of the episode's file: {said['error']}"[:2000], kind="invalid-episode"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _later(why: str) -> Unavailable:
    return Unavailable(f"{why}; try again in {_AGAIN_S} s", headers={"Retry-After": str(_AGAIN_S)})
