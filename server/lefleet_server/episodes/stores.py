"""Where this server's files are: the folder or the object store that the settings name."""

from dataclasses import dataclass

from lefleet_server.config import Settings
from lefleet_server.db import Database
from lefleet_server.episodes.incoming import Incoming, LocalIncoming
from lefleet_server.episodes.remote_incoming import RemoteIncoming
from lefleet_server.storage import BlobStore, LocalBlobs
from lefleet_server.storage.bucket import Bucket
from lefleet_server.storage.local import make_folders
from lefleet_server.storage.remote import RemoteBlobs
from lefleet_server.storage.scratch import Scratch


@dataclass(frozen=True, slots=True)
class Place:
    blobs: BlobStore
    incoming: Incoming


def build(settings: Settings, db: Database, instance: str) -> Place:
    """Touches nothing; `prepare` does."""
    if settings.store_dir is not None:
        incoming = LocalIncoming(settings.incoming_dir, settings.min_free_bytes)
        return Place(LocalBlobs(settings.blobs_dir), incoming)
    bucket = Bucket(
        settings.store_url or "", settings.store_options, settings.store_timeout_s, settings.store_credentials_file
    )
    scratch = Scratch(settings.scratch_dir, settings.scratch_bytes, settings.min_free_bytes)
    return Place(RemoteBlobs(bucket, scratch, instance), RemoteIncoming(bucket, db, scratch))


def making(settings: Settings) -> Scratch:
    """Where files are made that the store then takes in."""
    return Scratch(settings.making_dir, settings.scratch_bytes, settings.min_free_bytes)


def prepare(settings: Settings) -> None:
    """Makes the folders, and removes the copies that a killed process left. Blocks."""
    if settings.store_dir is not None:
        for folder in (settings.blobs_dir, settings.incoming_dir):
            make_folders(folder, settings.store_dir)
    settings.making_dir.mkdir(parents=True, exist_ok=True)
    making(settings).clean()
    if settings.store_dir is None:
        settings.scratch_dir.mkdir(parents=True, exist_ok=True)
        Scratch(settings.scratch_dir, settings.scratch_bytes, settings.min_free_bytes).clean()
