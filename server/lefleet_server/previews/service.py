"""An episode's previews as a job: made in a confined process, taken into the store, told with the end of the job.

Before a file is taken in it is put on the list of files to look at: a worker that dies before its job's end leaves
nothing behind for longer than an hour.
"""

import hashlib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from sqlalchemy import exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.analysis.models import EpisodeAnalysis
from lefleet_server.db import Database, utc_now
from lefleet_server.deletion import files
from lefleet_server.episodes import bounded
from lefleet_server.episodes.models import Episode
from lefleet_server.jobs.backlog import Work
from lefleet_server.jobs.queue import Claimed
from lefleet_server.jobs.worker import StaleResultError, Store
from lefleet_server.previews import KINDS, MOST_BYTES, QUEUE, VERSION
from lefleet_server.previews.models import EpisodePreview
from lefleet_server.problems import NotFound, Unavailable
from lefleet_server.storage import BlobStore
from lefleet_server.storage.scratch import Scratch
from lefleet_server.threads import in_thread

_PROCESS = "lefleet_server.previews.process"
_EXPECTED_BYTES = 16 << 20
_UNTOLD = timedelta(hours=1)
"""From a file's way into the store to the end of its job: longer than any job takes."""


class _Size(BaseModel):
    """What the confined process says of a file; not believed unchecked."""

    width: Annotated[int, Field(ge=2, le=4096)]
    height: Annotated[int, Field(ge=2, le=4096)]
    duration_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]


_SIZES = TypeAdapter(list[_Size])


@dataclass(frozen=True, slots=True)
class Made:
    """A row to be."""

    camera: str
    kind: str
    sha256: str | None = None
    bytes: int = 0
    width: int = 0
    height: int = 0
    duration_s: float = 0.0
    reason: str | None = None


class Previewer:
    """The handler of the queue `previews`. Pictures of which none can be made are a result (a reason), no failure.

    Called it raises LateError or EndedEarlyError for what says nothing about the file, and is tried again.
    """

    def __init__(self, db: Database, blobs: BlobStore, scratch: Scratch, timeout_s: float) -> None:
        self._db, self._blobs, self._scratch, self._timeout_s = db, blobs, scratch, timeout_s

    async def __call__(self, job: Claimed) -> Store:
        columns = select(Episode.sha256, Episode.cameras).where(Episode.id == job.episode_id)
        async with self._db.session() as session:
            row = (await session.execute(columns)).one_or_none()
        if row is None:
            raise LookupError(f"no episode {job.episode_id}")
        async with self._blobs.local(row.sha256) as path:
            made = [each for camera in row.cameras for each in await self._make(path, camera)]

        async def store(session: AsyncSession) -> None:
            await self._tell(session, job.episode_id, made)

        return store

    async def _make(self, path: Path, camera: str) -> list[Made]:
        async with AsyncExitStack() as stack:
            places = [await stack.enter_async_context(self._scratch.file(_EXPECTED_BYTES)) for _ in KINDS]
            said = await bounded.judge(_PROCESS, path, camera, *places, timeout_s=self._timeout_s)
            if "error" in said:
                # What a file made a library say may hold what PostgreSQL does not store.
                reason = str(said["error"]).replace("\x00", "").encode("utf-8", "replace").decode()[:2000]
                return [Made(camera, kind, reason=reason) for kind in KINDS]
            try:
                sizes = _SIZES.validate_python([said.get(kind) for kind in KINDS])
            except ValidationError as error:
                return [Made(camera, kind, reason=f"file: {error.errors()[0]['msg']}") for kind in KINDS]
            return [await self._take_in(camera, *each) for each in zip(KINDS, places, sizes, strict=True)]

    async def _take_in(self, camera: str, kind: str, path: Path, size: _Size) -> Made:
        sha256, length = await in_thread(_digest, path)
        if not 0 < length <= MOST_BYTES:
            return Made(camera, kind, reason=f"file: a {kind} of {length} bytes")
        async with self._db.transaction() as session:
            await files.look_at(session, [sha256], utc_now() + _UNTOLD)
        await self._blobs.publish(path, sha256)
        return Made(camera, kind, sha256, length, **size.model_dump())

    async def _tell(self, session: AsyncSession, episode_id: str, made: Sequence[Made]) -> None:
        digests = sorted({each.sha256 for each in made if each.sha256 is not None})
        before = select(EpisodePreview.sha256).where(EpisodePreview.episode_id == episode_id)
        old = {sha256 for sha256 in await session.scalars(before) if sha256 is not None}
        await files.lock(session, [*digests, *old])
        await self._require_there(digests)
        for each in made:
            values = asdict(each) | {"episode_id": episode_id, "version": VERSION, "made_at": utc_now()}
            added = insert(EpisodePreview).values(values)
            # A worker of an older release that comes late must not undo what a newer one made.
            newer = EpisodePreview.version <= added.excluded.version
            keys = ["episode_id", "camera", "kind"]
            await session.execute(added.on_conflict_do_update(index_elements=keys, set_=values, where=newer))
        await files.look_at(session, sorted(old - set(digests)))

    async def _require_there(self, digests: Sequence[str]) -> None:
        for sha256 in digests:
            try:
                if await self._blobs.size(sha256) is None:
                    raise StaleResultError(f"the file {sha256} went before it was told of")
            except OSError as error:
                raise Unavailable(f"the store does not say whether it has {sha256}: {error}"[:300]) from error


def older(version: int = VERSION) -> Work:
    """The previews of analysed episodes that have none of `version` or newer."""
    analysed = exists().where(EpisodeAnalysis.episode_id == Episode.id, EpisodeAnalysis.state == "analysed")
    has = exists().where(EpisodePreview.episode_id == Episode.id, EpisodePreview.version >= version)
    return Work(QUEUE, version, analysed & ~has)


async def of_episodes(session: AsyncSession, ids: Sequence[str]) -> dict[str, list[EpisodePreview]]:
    """Those that are there, by episode; cameras in alphabetical order."""
    order = EpisodePreview.episode_id, EpisodePreview.camera, EpisodePreview.kind
    found = await session.scalars(select(EpisodePreview).where(EpisodePreview.episode_id.in_(ids)).order_by(*order))
    by_episode: dict[str, list[EpisodePreview]] = {}
    for each in found:
        by_episode.setdefault(each.episode_id, []).append(each)
    return by_episode


async def get(session: AsyncSession, episode_id: str, camera: str, kind: str) -> EpisodePreview:
    """One with a file; NotFound says why there is none."""
    found = await session.get(EpisodePreview, (episode_id, camera, kind))
    if found is None:
        raise NotFound(f"episode {episode_id} has no {kind} of {camera!r} yet; a worker makes it after the analysis")
    if found.sha256 is None:
        raise NotFound(f"episode {episode_id} has no {kind} of {camera!r}: {found.reason}")
    return found


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
