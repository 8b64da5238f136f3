"""Compares previews' rows and files. What is missing or wrong is only work: everything in it is in the episode."""

import hashlib
from collections.abc import AsyncIterator, Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server import previews
from lefleet_server.db import Database
from lefleet_server.deletion import files
from lefleet_server.episodes.models import Episode
from lefleet_server.jobs import queue
from lefleet_server.previews.models import EpisodePreview
from lefleet_server.storage import BlobStore, Found, folder_bounds, key


class Previews:
    """With `repair`, a wrong file goes to `lost+found` and a job makes the preview again."""

    def __init__(self, db: Database, blobs: BlobStore, *, repair: bool, deep: bool) -> None:
        self._db, self._blobs, self._repair, self._deep = db, blobs, repair, deep

    async def rows(self, folder: str) -> dict[str, int]:
        """Bytes by SHA-256, of those whose digest begins so."""
        columns, (first, beyond) = (EpisodePreview.sha256, EpisodePreview.bytes), folder_bounds(folder)
        of_folder = EpisodePreview.sha256 >= first, EpisodePreview.sha256 < beyond
        async with self._db.session() as session:
            found = await session.execute(select(*columns).where(*of_folder))
            return {sha256: size for sha256, size in found if sha256 is not None}

    async def compare(self, rows: dict[str, int], found: Sequence[Found]) -> AsyncIterator[tuple[str, str]]:
        """(SHA-256, episode) for each that is missing or wrong."""
        listed = {file.sha256: file.bytes for file in found if file.sha256 in rows}
        for sha256, size in rows.items():
            # Not listed: asked once more, for it may have come since.
            there = listed.get(sha256) or await self._blobs.size(sha256)
            if not await self._is_whole(sha256, size, there):
                for episode_id in await self._make_again(sha256, size):
                    yield sha256, episode_id

    async def _is_whole(self, sha256: str, size: int, found_bytes: int | None) -> bool:
        if found_bytes != size or not self._deep:
            return found_bytes == size
        read = hashlib.sha256()
        async for piece in self._blobs.stream(sha256):
            read.update(piece)
        return read.hexdigest() == sha256

    async def _make_again(self, sha256: str, size: int) -> list[str]:
        """The episodes whose preview it is; none when they were deleted, or it was made again, meanwhile."""
        if not self._repair:
            async with self._db.session() as session:
                return await _episodes(session, sha256)
        async with self._db.transaction() as session:
            episodes = await _episodes(session, sha256)
            # Locked first, as a deletion does, which then either sees the job or was before it.
            there = select(Episode.id).where(Episode.id.in_(episodes)).order_by(Episode.id)
            episodes = list(await session.scalars(there.with_for_update(read=True, key_share=True)))
            await files.lock(session, [sha256])
            found_bytes = await self._blobs.size(sha256)
            if await self._is_whole(sha256, size, found_bytes):
                return []
            if found_bytes is not None:
                await self._blobs.set_aside(key(sha256))
            # A job that ended since and has told of the same file: the next look finds its row.
            mine = EpisodePreview.sha256 == sha256, EpisodePreview.episode_id.in_(episodes)
            await session.execute(delete(EpisodePreview).where(*mine))
            await queue.enqueue(session, previews.QUEUE, episodes, previews.VERSION, queue.LATER)
        return episodes


async def _episodes(session: AsyncSession, sha256: str) -> list[str]:
    query = select(EpisodePreview.episode_id).where(EpisodePreview.sha256 == sha256).distinct()
    return sorted(await session.scalars(query))
