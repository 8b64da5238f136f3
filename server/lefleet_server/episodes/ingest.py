"""From announced upload to stored episode."""

import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import ColumnElement

from lefleet_server import analysis
from lefleet_server.analysis import service as analyses
from lefleet_server.audit.service import audit
from lefleet_server.db import FAILURES, utc_now
from lefleet_server.deletion import files, tombstones
from lefleet_server.deletion.models import DeletedEpisode
from lefleet_server.episodes.incoming import Lost, Part, Whole
from lefleet_server.episodes.models import Episode, Upload
from lefleet_server.episodes.validation import Facts, examine, refused
from lefleet_server.jobs.queue import enqueue
from lefleet_server.problems import Conflict, Invalid, Locked, NotFound, Problem, TooLarge, TooMany, Unavailable
from lefleet_server.services import Services

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a robot says before it sends a file."""

    sha256: str
    episode_id: str
    length: int


async def announce(services: Services, robot_id: str, file: Announcement) -> tuple[Upload, int]:
    """A new upload, or the unfinished one of the same bytes, and how many of its bytes are here."""
    settings, incoming = services.settings, services.incoming
    if file.length > settings.max_upload_bytes:
        raise TooLarge(
            f"the file has {file.length} bytes, max_upload_bytes is {settings.max_upload_bytes}",
            fields=[("Upload-Length", "is too large")],
        )
    async with services.db.transaction() as session:
        await _refuse_stored(session, robot_id, file)
        # Its row is locked until the file is there: finished meanwhile, it would leave a file that belongs to nothing.
        upload = await _open_upload(session, robot_id, file, settings.max_open_uploads)
        await incoming.require_space(upload.length)
        offset = await incoming.begin(session, upload.id)
    return upload, offset


async def find(services: Services, robot_id: str, upload_id: str) -> Upload:
    """The robot's own upload; another robot's is as good as none."""
    async with services.db.session() as session:
        upload = await session.get(Upload, upload_id)
    if upload is None or upload.robot_id != robot_id:
        raise NotFound(f"no upload {upload_id!r}; begin a new one with POST /api/v1/robot/uploads")
    return upload


async def discard(services: Services, upload: Upload, actor: str | None = None) -> None:
    """Forgets the upload and its bytes; `actor` wanted it, unless the file was wrong."""
    async with services.db.transaction() as session:
        await session.execute(delete(Upload).where(Upload.id == upload.id))
        if actor is not None:
            detail = {"upload": upload.id, "sha256": upload.sha256}
            audit(session, actor, "episode.upload-deleted", f"episode:{upload.episode_id}", detail)
    await services.incoming.remove(upload.id)


async def finish(services: Services, upload: Upload, part: Part) -> None:
    """Checks the complete file and makes it an episode: durable on disk, then in the database.

    A wrong file is discarded before Invalid is raised, what is left of a lost one before Lost. Killed anywhere in
    between, or where this machine fails at it, the same bytes sent again complete it.
    """
    try:
        async with part.whole() as whole:
            facts = await _check(services, upload, whole)
            await services.blobs.publish(whole.path, upload.sha256)
    except (Invalid, Conflict, Lost):
        await discard(services, upload)
        raise
    async with services.db.transaction() as session:
        # First, so that it is decided once: a robot that is revoked at this moment loses its open uploads.
        ended = delete(Upload).where(Upload.id == upload.id).returning(Upload.id)
        if (await session.execute(ended)).scalar_one_or_none() is None:
            raise NotFound(f"upload {upload.id!r} was ended meanwhile; begin a new one")
        await files.lock(session, [upload.sha256])
        deleted = await tombstones.of_any(session, upload.sha256, upload.episode_id)
        if deleted is None:
            if await services.blobs.size(upload.sha256) != upload.length:
                # fsck looked before the file came and moved it away after; under the lock it can no more.
                raise Unavailable("the file was moved away just now; send it again", headers={"Retry-After": "1"})
            new, stored = await _add(session, upload, facts)
        else:
            # Deleted since _check: the file that was just published belongs to nothing.
            await files.look_at(session, [upload.sha256])
    await _give_back(services, upload)
    if deleted is not None:
        raise tombstones.refused(deleted, upload.sha256)
    if stored is None:
        # Another file of this episode won the race since _check; this one's blob is an orphan.
        raise _other_bytes(upload.episode_id)
    if new:
        services.metrics.episodes_received.inc()
        log.info("episode stored", episode=upload.episode_id, robot=upload.robot_id, bytes=upload.length)


async def _add(session: AsyncSession, upload: Upload, facts: Facts) -> tuple[bool, str | None]:
    """Whether the episode is new, and the id of the one with these bytes (None: its id is taken by others)."""
    row = insert(Episode).values(**episode_row(upload.sha256, upload.length, facts))
    added = await session.execute(row.on_conflict_do_nothing().returning(Episode.id))
    new = added.scalar_one_or_none() is not None
    await enqueue(session, analysis.QUEUE, [upload.episode_id] * new, analysis.VERSION)
    lost = update(Episode).where(Episode.sha256 == upload.sha256, Episode.blob_missing_at.is_not(None))
    for episode_id in await session.scalars(lost.values(blob_missing_at=None).returning(Episode.id)):
        await analyses.resume(session, episode_id)
    return new, await session.scalar(select(Episode.id).where(Episode.sha256 == upload.sha256))


async def _give_back(services: Services, upload: Upload) -> None:
    """The episode is stored: what its bytes took on their way may as well go an hour later, by the sweep."""
    try:
        await services.incoming.remove(upload.id)
    except (Unavailable, OSError) as error:
        log.warning("parts of a stored episode stay for now", upload=upload.id, reason=str(error)[:200])


async def receipt(session: AsyncSession, robot_id: str, sha256: str) -> Episode | DeletedEpisode:
    """The robot's own episode with these bytes: the row is the receipt, also of one that was deleted since."""
    query = select(Episode).where(Episode.sha256 == sha256, Episode.robot_id == robot_id, _has_blob())
    found = (await session.scalars(query)).one_or_none() or await tombstones.of_bytes(session, sha256, robot_id)
    if found is None:
        raise NotFound(f"no episode of {robot_id} with SHA-256 {sha256} is stored")
    return found


async def missing(session: AsyncSession, robot_id: str, digests: Sequence[str]) -> list[str]:
    """Those of the robot's SHA-256s of which no episode is stored, or whose file was lost (fsck); none deleted."""
    query = select(Episode.sha256).where(Episode.robot_id == robot_id, Episode.sha256.in_(digests), _has_blob())
    stored = set(await session.scalars(query)) | await tombstones.digests(session, robot_id, digests)
    return [digest for digest in digests if digest not in stored]


def _has_blob() -> ColumnElement[bool]:
    return Episode.blob_missing_at.is_(None)


async def sweep(services: Services) -> None:
    """Finishes what was complete when the server died; removes what expired or belongs to nothing."""
    incoming = services.incoming
    async with services.db.session() as session:
        uploads = {upload.id: upload for upload in await session.scalars(select(Upload))}
    expired = await incoming.idle(services.settings.upload_expiry_s)
    settled = await incoming.idle(60.0)
    young = utc_now() - timedelta(seconds=60)
    for upload in uploads.values():
        with _alone(upload.id):
            size = await incoming.size(upload.id)
            if size == upload.length:
                await _settle(services, upload, finish)
            elif upload.id in expired:
                await _settle(services, upload, _expire)
            elif size is None and upload.created_at < young:
                await discard(services, upload)
    for stray in settled - uploads.keys():
        with _alone(stray):
            # Asked again: another host's clock may run ahead, and a new upload's bytes look old.
            async with services.db.session() as session:
                known = await session.get(Upload, stray)
            if known is None:
                await incoming.remove(stray)


@contextmanager
def _alone(upload_id: str) -> Iterator[None]:
    """What fails at one upload keeps nobody from the next one."""
    try:
        yield
    except (*FAILURES, Unavailable) as error:
        log.error("an upload stays as it is for now", upload=upload_id, exc_info=error)


async def _expire(services: Services, upload: Upload, part: Part) -> None:
    log.info("unfinished upload expired", upload=upload.id, robot=upload.robot_id, bytes=await part.size())
    await discard(services, upload)


async def _settle(
    services: Services, upload: Upload, work: Callable[[Services, Upload, Part], Awaitable[None]]
) -> None:
    """Does the work unless a client is at the same upload now; a refused file is no failure of the sweep."""
    try:
        async with services.incoming.locked(upload.id) as part:
            await work(services, upload, part)
    except (Locked, NotFound):
        log.info("upload is in other hands", upload=upload.id)
    except Unavailable:
        raise
    except Problem as problem:
        log.warning("complete upload refused", upload=upload.id, robot=upload.robot_id, reason=problem.detail)


async def _check(services: Services, upload: Upload, whole: Whole) -> Facts:
    if whole.sha256 != upload.sha256:
        message = f"announced {upload.sha256}, received {whole.sha256}"
        raise Invalid(f"the bytes are not those announced: sha256: {message}", fields=[("sha256", message)])
    facts = await examine(services.reader, whole.path, services.settings.validation_timeout_s)
    said = facts.attributes
    if said.robot_id != upload.robot_id:
        raise refused("robot_id", f"the file is of {said.robot_id!r}, the credential of {upload.robot_id!r}")
    if said.episode_id != upload.episode_id:
        raise refused("episode_id", f"the file says {said.episode_id}, announced was {upload.episode_id}")
    async with services.db.session() as session:
        known = await session.get(Episode, upload.episode_id)
        deleted = await tombstones.of_any(session, upload.sha256, upload.episode_id)
    if deleted is not None:
        raise tombstones.refused(deleted, upload.sha256)
    if known is not None and known.sha256 != upload.sha256:
        raise _other_bytes(known.id)
    return facts


def _other_bytes(episode_id: str) -> Conflict:
    return Conflict(
        f"episode {episode_id} is stored with other bytes; one episode is one file",
        fields=[("episode_id", "is stored already, with other bytes")],
        kind="episode-exists",
    )


async def _refuse_stored(session: AsyncSession, robot_id: str, file: Announcement) -> None:
    deleted = await tombstones.of_any(session, file.sha256, file.episode_id)
    if deleted is not None and deleted.robot_id == robot_id:
        raise tombstones.refused(deleted, file.sha256)
    if deleted is not None:
        raise refused("robot_id", "the file was another robot's, and is deleted")
    query = select(Episode.robot_id, Episode.blob_missing_at).where(Episode.sha256 == file.sha256)
    owner, lost_at = (await session.execute(query)).one_or_none() or (None, None)
    if owner == robot_id:
        if lost_at is not None:
            return
        raise Conflict(
            f"these bytes are stored already; GET /api/v1/robot/receipts/{file.sha256}", kind="already-stored"
        )
    if owner is not None:
        raise refused("robot_id", "the file is another robot's")


async def _open_upload(session: AsyncSession, robot_id: str, file: Announcement, most: int) -> Upload:
    mine = select(Upload).where(Upload.robot_id == robot_id)
    values = {
        "id": uuid.uuid4().hex,
        "robot_id": robot_id,
        "sha256": file.sha256,
        "length": file.length,
        "episode_id": file.episode_id,
    }
    await session.execute(insert(Upload).values(**values).on_conflict_do_nothing())
    upload = (await session.scalars(mine.where(Upload.sha256 == file.sha256).with_for_update())).one_or_none()
    if upload is None:
        raise Locked("the upload of these bytes is being finished; ask again in a moment", headers={"Retry-After": "1"})
    if (upload.length, upload.episode_id) != (file.length, file.episode_id):
        raise Invalid(
            f"an upload of these bytes is open with length {upload.length} and episode {upload.episode_id}",
            fields=[("Upload-Length" if upload.length != file.length else "episode_id", "differs from it")],
        )
    if (await session.scalar(select(func.count()).select_from(mine.subquery())) or 0) > most:
        raise TooMany(f"{robot_id} has {most} unfinished uploads; finish or DELETE some", headers={"Retry-After": "60"})
    return upload


def episode_row(sha256: str, length: int, facts: Facts) -> dict[str, object]:
    """The columns of an episode whose file says this."""
    said = facts.attributes
    same: tuple[str, ...] = ("cameras", "task", "policy_repo", "policy_commit", "policy_digest", "outcome")
    same += ("interrupted", "end_reason", "frames", "frames_dropped", "fps", "episode_id", "robot_id")
    row: dict[str, object] = {name: getattr(said, name) for name in same}
    row["id"] = row.pop("episode_id")
    return row | {
        "receipt_id": uuid.uuid4().hex,
        "sha256": sha256,
        "bytes": length,
        "started_at": said.started_at,
        "ended_at": said.ended_at,
        "duration_s": facts.duration_s,
        "hz_held": said.control_hz_held,
        "meta": said.model_extra or {},
        "image_index": {camera: place.model_dump() for camera, place in facts.image_index.items()},
    }
