"""An object store (S3 and what speaks it, Google Cloud Storage, Azure), with every failure told as Unavailable.

What a store answers may quote parts of a signed request, so neither callers nor the log get its words: only which
kind of failure it was.
"""

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import obstore
import structlog
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore

from lefleet_server.problems import Unavailable
from lefleet_server.secret import SecretFileError
from lefleet_server.storage.blobs import part
from lefleet_server.storage.opening import OptionsError, open_store

if TYPE_CHECKING:
    from obstore import SignCapableStore

PART_BYTES = 8 << 20
"""Of a multipart upload: with S3's 10,000 parts up to 80 GB."""

log = structlog.get_logger()


class StoreDown(Unavailable):
    """The object store does not do what was asked, now; nothing acknowledged is lost, and trying again is right."""

    kind = "store-unavailable"


@dataclass(frozen=True, slots=True)
class Listed:
    key: str
    bytes: int
    changed_at: Any


class Bucket:
    """Objects below one URL. Building it touches nothing."""

    def __init__(
        self, url: str, options: Mapping[str, str], timeout_s: float, credentials_file: Path | None = None
    ) -> None:
        self.url = url
        self._options = options
        self._credentials_file = credentials_file
        self._timeout_s = timeout_s

    async def put(self, key: str, data: bytes | Path) -> None:
        """Returns once the store has it, whole; large files go in parts."""
        with self._asked("put", missing_is_down=True):
            await obstore.put_async(self._store, key, data, chunk_size=PART_BYTES, max_concurrency=4)

    async def read(self, key: str, start: int, length: int) -> bytes:
        with self._asked("read"):
            return bytes(await obstore.get_range_async(self._store, key, start=start, length=length))

    async def stream(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        with self._asked("read"):
            found = await obstore.get_async(self._store, key, options=part(start, length))
            async for piece in found.stream(min_chunk_size=1 << 20):
                yield bytes(piece)

    async def size(self, key: str) -> int | None:
        try:
            with self._asked("look at"):
                return int((await obstore.head_async(self._store, key))["size"])
        except FileNotFoundError:
            return None

    async def presigned(self, key: str, valid_s: int) -> str:
        """An address that gives the object, for so long, to whoever has it."""
        with self._asked("presign"):
            store = cast("SignCapableStore", self._store)
            return str(await obstore.sign_async(store, "GET", key, timedelta(seconds=valid_s)))

    async def listed(self, prefix: str) -> list[Listed]:
        with self._asked("list", missing_is_down=True):
            found = [each async for batch in obstore.list(self._store, prefix) for each in batch]
        return [Listed(each["path"], each["size"], each["last_modified"]) for each in found]

    async def move(self, key: str, target: str) -> None:
        with self._asked("move"):
            await obstore.copy_async(self._store, key, target)
            await obstore.delete_async(self._store, key)

    async def remove(self, keys: Sequence[str]) -> None:
        """Those that are not there any more are no failure."""
        for key in keys:
            try:
                with self._asked("remove"):
                    await obstore.delete_async(self._store, key)
            except FileNotFoundError:
                log.debug("already removed", key=key)

    @cached_property
    def _store(self) -> ObjectStore:
        return open_store(self.url, self._options, self._timeout_s, self._credentials_file)

    @contextmanager
    def _asked(self, to_do: str, *, missing_is_down: bool = False) -> Iterator[None]:
        try:
            yield
        except (NotFoundError, FileNotFoundError) as error:
            if not missing_is_down:
                raise FileNotFoundError("the object store has no such object") from error
            missing = f"there is no bucket or container {urlsplit(self.url).netloc!r}; make it, or correct store_url"
            raise self._down(to_do, missing) from error
        except (OptionsError, SecretFileError) as error:
            raise self._down(to_do, "there are no credentials of it; correct store_credentials_file") from error
        except BaseError as error:
            raise self._down(to_do, reason(error)) from None
        except OSError as error:
            raise self._down(to_do, type(error).__name__) from None

    def _down(self, to_do: str, why: str) -> StoreDown:
        log.warning("the object store failed", to_do=to_do, reason=why, store=self.url)
        return StoreDown(
            f"the object store could not {to_do}: {why}; what was acknowledged is kept, try again shortly",
            headers={"Retry-After": "5"},
        )


def reason(error: BaseException) -> str:
    """The kind of a failure, in words that hold nothing of the request."""
    text = str(error)
    status = re.search(r"status(?: code)?:?\s*([45]\d\d)|\b([45]\d\d) [A-Z][a-z]+", text)
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return "it refuses these credentials; correct store_credentials_file, or what they may do there"
    if status:
        return f"it answered {status[1] or status[2]}"
    # obstore tells its own retry_timeout with every failure.
    if re.search("(?<!retry_)timed? ?out|operation timed", text, re.IGNORECASE):
        return "it did not answer in time"
    if re.search("connect|error sending request", text, re.IGNORECASE):
        return "it cannot be reached; start it, or correct store_endpoint"
    return type(error).__name__
