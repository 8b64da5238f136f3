"""The store of episode files: what every kind of it does, and what is said of one that does not."""

import hashlib
import os
import shutil
import stat
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import yaml

from lefleet_server.config import Settings
from lefleet_server.episodes import stores
from lefleet_server.storage import LocalBlobs
from lefleet_server.storage.bucket import PART_BYTES

clouds = pytest.mark.parametrize("store", ["s3", "azure"])


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_a_stored_file_can_be_read_as_a_local_file_and_a_missing_one_is_named(tmp_path: Path):
    store, data = LocalBlobs(tmp_path / "blobs"), b"an episode" * 1000
    (tmp_path / "upload").write_bytes(data)
    (tmp_path / "blobs").mkdir()
    await store.publish(tmp_path / "upload", digest(data))
    async with store.local(digest(data)) as path:
        assert path.read_bytes() == data
    with pytest.raises(FileNotFoundError, match="0" * 64):
        async with store.local("0" * 64):
            pass


@pytest.fixture
def synced(monkeypatch) -> list[Path]:
    """The folders whose entries were made durable."""
    found, real = [], os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            found.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


async def test_folders_that_another_made_and_did_not_sync_are_synced_once(tmp_path: Path, synced):
    """As by a thread that is just at it, or a process that was killed between mkdir and fsync."""
    blobs = tmp_path / "blobs"
    store = LocalBlobs(blobs)
    (blobs / "00" / "11").mkdir(parents=True)
    for number in range(2):
        (tmp_path / "upload").write_bytes(b"an episode")
        await store.publish(tmp_path / "upload", f"0011{number}".ljust(64, "0"))
    assert synced == [tmp_path, blobs, blobs / "00", blobs / "00" / "11", blobs / "00" / "11"]


async def test_a_folder_that_was_removed_is_made_again(tmp_path: Path):
    store = LocalBlobs(tmp_path / "blobs")
    for _ in range(2):
        (tmp_path / "upload").write_bytes(b"an episode")
        await store.publish(tmp_path / "upload", "0" * 64)
        assert await store.size("0" * 64) == 10
        shutil.rmtree(tmp_path / "blobs")


def test_the_stores_own_folders_are_made_durable_at_the_start(server_settings, tmp_path, synced):
    settings = Settings(**server_settings | {"state_dir": str(tmp_path / "new" / "state")})
    stores.prepare(settings)
    assert {tmp_path, tmp_path / "new", settings.state_dir} <= set(synced)
    assert settings.blobs_dir.is_dir() and settings.incoming_dir.is_dir() and settings.making_dir.is_dir()


@pytest.mark.parametrize("store", ["local", "s3", "azure"])
async def test_a_file_of_many_parts_is_kept_found_moved_and_removed(services, stored, tmp_path):
    blobs, data = services.blobs, np.random.default_rng(1).bytes(2 * PART_BYTES + 5)
    sha256 = digest(data)
    for _ in range(2):
        (tmp_path / "upload").write_bytes(data)
        await blobs.publish(tmp_path / "upload", sha256)
    assert await blobs.size(sha256) == len(data)
    assert await blobs.read(sha256, PART_BYTES - 2, 4) == data[PART_BYTES - 2 : PART_BYTES + 2]
    assert b"".join([piece async for piece in blobs.stream(sha256, 7, 2 << 20)]) == data[7 : 7 + (2 << 20)]
    assert b"".join([piece async for piece in blobs.stream(sha256, PART_BYTES)]) == data[PART_BYTES:]
    async with blobs.local(sha256) as path:
        assert path.read_bytes() == data
    (found,) = await blobs.listed(sha256[:2])
    assert (found.sha256, found.bytes, found.changed_at.utcoffset() is None) == (sha256, len(data), False)

    await blobs.set_aside(found.name)
    assert ([each.name for each in stored("lost+found")], stored("blobs")) == ([sha256], [])
    assert (await blobs.size(sha256), await blobs.listed(sha256[:2])) == (None, [])
    (tmp_path / "again").write_bytes(data)
    await blobs.publish(tmp_path / "again", sha256)

    for _ in range(2):
        await blobs.remove(sha256)
    with pytest.raises(FileNotFoundError):
        await blobs.read(sha256, 0, 4)
    with pytest.raises(FileNotFoundError):
        _ = [piece async for piece in blobs.stream(sha256)]
    assert (stored("blobs"), await blobs.check()) == ([], "ok")


@clouds
async def test_what_is_wrong_with_a_store_is_said_with_its_remedy(services, settings, free_port, tmp_path):
    async def said(**changed: object) -> str:
        other = settings.model_copy(update=changed)
        return await stores.build(other, services.db, "test").blobs.check()

    right = yaml.safe_load(settings.store_credentials_file.read_text())
    secret = next(name for name in right if name in {"secret_access_key", "account_key"})
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(yaml.safe_dump(right | {secret: "YW5vdGhlcg=="}))
    refused = await said(store_credentials_file=wrong)
    assert "it refuses these credentials; correct store_credentials_file" in refused
    assert "YW5vdGhlcg" not in refused
    wrong.write_text("another: YW5vdGhlcg==")
    spoilt = await said(store_credentials_file=wrong)
    assert "there are no credentials of it; correct store_credentials_file" in spoilt

    scheme = urlsplit(settings.store_url).scheme
    missing = await said(store_url=f"{scheme}://no-such-place/fleet")
    assert "there is no bucket or container 'no-such-place'; make it, or correct store_url" in missing

    nobody = await said(store_endpoint=f"http://127.0.0.1:{free_port()}")
    assert "it cannot be reached; start it, or correct store_endpoint" in nobody
