"""The store of episode files."""

import hashlib
from pathlib import Path

import pytest

from lefleet_server.storage import LocalBlobs


async def test_a_stored_file_can_be_read_as_a_local_file_and_a_missing_one_is_named(tmp_path: Path):
    store, data = LocalBlobs(tmp_path / "blobs"), b"an episode" * 1000
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / "upload").write_bytes(data)
    (tmp_path / "blobs").mkdir()
    await store.publish(tmp_path / "upload", digest)
    async with store.local(digest) as path:
        assert path.read_bytes() == data
    with pytest.raises(FileNotFoundError, match="0" * 64):
        async with store.local("0" * 64):
            pass
