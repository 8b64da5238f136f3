"""Episode files in an object store."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from lefleet_server.problems import Problem
from lefleet_server.shared import Shared
from lefleet_server.storage.blobs import Found, OtherBytesError, key
from lefleet_server.storage.bucket import Bucket
from lefleet_server.storage.scratch import Scratch
from lefleet_server.threads import in_thread

_BLOBS, _LOST = "blobs/", "lost+found/"


class RemoteBlobs:
    """A BlobStore below `blobs/` of a bucket. Building it touches nothing."""

    def __init__(self, bucket: Bucket, scratch: Scratch, instance: str) -> None:
        self._bucket = bucket
        self._scratch = scratch
        self._probe = f"probes/{instance}"
        # Each probe costs a request: /readyz is asked every few seconds, by several.
        self._health: Shared[str, str] = Shared(self._ask, fresh_s=5)

    async def publish(self, path: Path, sha256: str) -> None:
        """The store names the object when it has all of it, so no reader sees a part; `path` stays."""
        await self._bucket.put(_BLOBS + key(sha256), path)

    async def read(self, sha256: str, start: int, length: int) -> bytes:
        return await self._bucket.read(_BLOBS + key(sha256), start, length)

    def stream(self, sha256: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        return self._bucket.stream(_BLOBS + key(sha256), start, length)

    @asynccontextmanager
    async def local(self, sha256: str) -> AsyncIterator[Path]:
        """A copy, compared with its name on the way. OtherBytesError when the object holds other bytes."""
        size = await self.size(sha256)
        if size is None:
            raise FileNotFoundError(f"no blob {sha256} in {self._bucket.url}")
        async with self._scratch.file(size) as path:
            found = hashlib.sha256()
            with path.open("r+b") as file:
                async for piece in self.stream(sha256):
                    await in_thread(_take, file, found, piece)
            if found.hexdigest() != sha256:
                raise OtherBytesError(f"blob {sha256} holds other bytes; run lefleet-server fsck --deep --repair")
            yield path

    async def size(self, sha256: str) -> int | None:
        return await self._bucket.size(_BLOBS + key(sha256))

    async def readable_name(self, sha256: str) -> str | None:
        return None

    async def presigned(self, sha256: str, valid_s: int) -> str:
        return await self._bucket.presigned(_BLOBS + key(sha256), valid_s)

    async def listed(self, folder: str) -> list[Found]:
        found = await self._bucket.listed(f"{_BLOBS}{folder}/")
        return [Found(each.key.removeprefix(_BLOBS), each.bytes, each.changed_at) for each in found]

    async def set_aside(self, name: str) -> None:
        await self._bucket.move(_BLOBS + name, _LOST + name)

    async def remove(self, sha256: str) -> None:
        await self._bucket.remove([_BLOBS + key(sha256)])

    async def check(self) -> str:
        return await self._health.get("store")

    async def _ask(self, _: str) -> str:
        try:
            await self._bucket.put(self._probe, b"ready?")
            await self._bucket.remove([self._probe])
        except Problem as problem:
            return problem.detail
        return "ok"


def _take(file: IO[bytes], found: "hashlib._Hash", piece: bytes) -> None:
    found.update(piece)
    file.write(piece)
