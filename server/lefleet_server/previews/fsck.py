"""Compares previews' rows and files. What is missing or wrong is only work: everything in it is in the episode."""

import hashlib
from collections.abc import AsyncIterator, Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server import previews
from lefleet_server.db import Database
from lefleet_server.episodes.models import Episode
from lefleet_server.jobs import queue
from lefleet_server.previews.models import EpisodePreview
from lefleet_server.storage import BlobStore, Found


class Previews:
    """With `repair`, a wrong file goes to `lost+found` and a job makes the preview again."""

    def __init__(self, db: Database, blobs: BlobStore, *, repair: bool, deep: bool) -> None:
        self._db, self._blobs, self._repair, self._deep = db, blobs, repair, deep

    async def rows(self, folder: str) -> dict[str, int]:
        """Bytes by SHA-256, of those whose digest begins so."""
        columns = EpisodePreview.sha256, EpisodePreview.bytes
        async with self._db.session() as session:
            found = await session.execute(select(*columns).where(EpisodePreview.sha256.startswith(folder)))
            return {sha256: size for sha256, size in found if sha256 is not None}

    async def compare(self, rows: dict[str, int], found: Sequence[Found]) -> AsyncIterator[tuple[str, str]]:
        """(SHA-256, episode) for each that is missing or wrong."""
        files = {file.sha256: file for file in found if file.sha256 in rows}
        for sha256, size in rows.items():
            file = files.get(sha256)
            if file is None and await self._blobs.size(sha256) == size:
                continue  # it came since the listing
            if file is not None and await self._is_whole(file, sha256, size):
                continue
            for episode_id in await self._make_again(sha256, file):
                yield sha256, episode_id

    async def _is_whole(self, file: Found, sha256: str, size: int) -> bool:
        if file.bytes != size or not self._deep:
            return file.bytes == size
        read = hashlib.sha256()
        async for piece in self._blobs.stream(sha256):
            read.update(piece)
        return read.hexdigest() == sha256

    async def _make_again(self, sha256: str, file: Found | None) -> list[str]:
        """The episodes whose preview it is; none when they were deleted meanwhile."""
        if not self._repair:
            async with self._db.session() as session:
                return await _episodes(session, sha256)
        if file is not None:
            await self._blobs.set_aside(file.name)
        async with self._db.transaction() as session:
            episodes = await _episodes(session, sha256)
            # Locked first, as a deletion does, which then either sees the job or was before it.
            there = select(Episode.id).where(Episode.id.in_(episodes)).order_by(Episode.id)
            episodes = list(await session.scalars(there.with_for_update(read=True, key_share=True)))
            await session.execute(delete(EpisodePreview).where(EpisodePreview.sha256 == sha256))
            await queue.enqueue(session, previews.QUEUE, episodes, previews.VERSION, queue.LATER)
        return episodes


async def _episodes(session: AsyncSession, sha256: str) -> list[str]:
    query = select(EpisodePreview.episode_id).where(EpisodePreview.sha256 == sha256).distinct()
    return sorted(await session.scalars(query))
