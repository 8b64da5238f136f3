#!/usr/bin/env python3
# ruff: noqa: UP017 - Ubuntu 22.04 has Python 3.10
"""Backups of LeFleet's server: its database, its episode files, and the certificate authority that robots trust.

A backup is a folder named after its time in UTC, published whole. Episode files never change and are named by their
SHA-256, so all backups share one copy of each in `blobs/`. With an object store a backup holds the database alone: the
files stay where they are, and the manifest says where that is. Standard library only: it runs on the server's host.
"""

import argparse
import fcntl
import filecmp
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

SETTINGS = Path("/opt/lefleet/server/backup.json")
STAMP = "%Y%m%dT%H%M%SZ"
RESTORING = "lefleet_restoring"
BEFORE = "lefleet_before_"
METRIC = "lefleet_backup_last_success_timestamp_seconds"
PIECE = 1 << 20
NIGHTS = 16  # every file is read again once in so many nights


class BackupError(Exception):
    """What cannot be done and why, in one sentence."""


class Blob(NamedTuple):
    """One episode's file."""

    sha256: str
    size: int

    def below(self, root: Path) -> Path:
        return root / self.sha256[:2] / self.sha256[2:4] / self.sha256


class Settings(NamedTuple):
    """What role `server` writes into backup.json."""

    compose: str
    env: str
    state_dir: Path
    backup_dir: Path
    keep_days: int
    rsync_target: str
    rsync_options: list[str]
    textfile_dir: Path
    store_url: str = ""
    """The object store that has the episode files; empty: the folder `api/blobs` has them."""

    @classmethod
    def read(cls, path: Path) -> "Settings":
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            for name in ("state_dir", "backup_dir", "textfile_dir"):
                values[name] = Path(values[name])
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackupError(f"{path}: no settings of role server: {error}") from error

    @property
    def blobs(self) -> Path:
        return self.backup_dir / "blobs"

    @property
    def live_blobs(self) -> Path:
        return self.state_dir / "api" / "blobs"

    @property
    def authority(self) -> Path:
        """Caddy's own CA; absent where certificates come from elsewhere."""
        return self.state_dir / "caddy" / "caddy" / "pki"


# --- the stack -------------------------------------------------------------------------------------------------------


class Stack:
    """The containers, spoken to by `docker compose`."""

    def __init__(self, settings: Settings) -> None:
        self._compose = ["docker", "compose", "--file", settings.compose]
        found = re.search(r"^DATABASE_URL=(\S+)$", Path(settings.env).read_text(encoding="utf-8"), re.MULTILINE)
        if found is None:
            raise BackupError(f"{settings.env}: no DATABASE_URL; run role server")
        self._url = found[1]

    def url(self, database: str | None = None) -> str:
        """The database's address, or that of another database of the same server."""
        return self._url if database is None else urlsplit(self._url)._replace(path=f"/{database}").geturl()

    @property
    def database(self) -> str:
        return urlsplit(self._url).path.strip("/")

    def run(self, *words: str, stdin: BinaryIO | int = subprocess.DEVNULL, stdout: Any = subprocess.PIPE) -> bytes:
        """`docker compose` with these words; what it printed. Raises BackupError with the end of its errors."""
        done = subprocess.run([*self._compose, *words], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, check=False)
        if done.returncode != 0:
            said = "\n".join(done.stderr.decode(errors="replace").strip().splitlines()[-8:])
            raise BackupError(f"`{' '.join(words[:7])} ...` ended with {done.returncode}: {said}")
        return done.stdout or b""

    def tool(self, *words: str, **streams: Any) -> bytes:
        """One of PostgreSQL's programs, beside the database."""
        return self.run("run", "--rm", "-T", "--no-deps", "tools", *words, **streams)

    def sql(self, text: str, database: str | None = None) -> str:
        words = ("psql", "-d", self.url(database), "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-At", "-c", text)
        return self.tool(*words).decode().strip()

    def has(self, service: str) -> bool:
        return service in self.run("config", "--services").decode().split()


# --- files -----------------------------------------------------------------------------------------------------------


def fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def copy_blob(blob: Blob, source: Path, target: Path, owner: tuple[int, int] | None = None) -> None:
    """Publishes a checked copy whole; BackupError when the source is missing or not what its name says."""
    place = blob.below(target)
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f"{place.name}.part")
    digest = hashlib.sha256()
    try:
        with blob.below(source).open("rb") as reading, part.open("wb") as writing:
            while piece := reading.read(PIECE):
                digest.update(piece)
                writing.write(piece)
            writing.flush()
            os.fsync(writing.fileno())
    except FileNotFoundError as error:
        raise BackupError(f"{blob.below(source)}: missing, though an episode names it") from error
    if digest.hexdigest() != blob.sha256:
        part.unlink()
        raise BackupError(f"{blob.below(source)}: damaged: its bytes have the SHA-256 {digest.hexdigest()}")
    if owner is not None:
        os.chown(part, *owner)
        for folder in (place.parent, place.parent.parent):
            os.chown(folder, *owner)
    part.replace(place)
    fsync(place.parent)


def is_there(blob: Blob, root: Path) -> bool:
    place = blob.below(root)
    return place.is_file() and place.stat().st_size == blob.size


def write_whole(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    fsync(part)
    part.replace(path)
    fsync(path.parent)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One backup or restore at a time."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupError(f"{folder}: another backup or restore works here; wait until it has ended") from error
        yield


# --- what a backup is ------------------------------------------------------------------------------------------------


def names(settings: Settings) -> list[str]:
    """Complete backups, oldest first."""
    return sorted(path.parent.name for path in settings.backup_dir.glob("*T*Z/manifest.json"))


def find(settings: Settings, name: str) -> Path:
    there = names(settings)
    if name == "latest" and there:
        return settings.backup_dir / there[-1]
    if name not in there:
        raise BackupError(f"{settings.backup_dir}: no backup {name}; there are: {', '.join(there) or 'none'}")
    return settings.backup_dir / name


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return found


def episodes_in(stack: Stack, dump: Path) -> list[Blob]:
    """The files that the dump's episodes name: read from the dump itself, so it is also proof that it can be read."""
    with dump.open("rb") as file, tempfile.TemporaryFile(dir=dump.parent) as table:
        stack.tool("pg_restore", "--data-only", "--table=episodes", "--file=-", stdin=file, stdout=table)
        table.seek(0)
        lines = (line.decode().rstrip("\n") for line in table)
        header = (re.match(r"COPY \S*\bepisodes \((.*)\) FROM stdin;", line) for line in lines)
        found = next((match for match in header if match), None)
        if found is None:
            raise BackupError(f"{dump}: holds no table of episodes")
        columns = [name.strip('" ') for name in found[1].split(",")]
        sha256, size = columns.index("sha256"), columns.index("bytes")
        rows = (line.split("\t") for line in takewhile(lambda line: line != "\\.", lines))
        return [Blob(row[sha256], int(row[size])) for row in rows]


def blobs_of(folder: Path) -> list[Blob]:
    lines = (folder / "blobs").read_text(encoding="ascii").splitlines()
    return [Blob(words[0], int(words[1])) for words in map(str.split, lines)]


# --- backing up ------------------------------------------------------------------------------------------------------


def create(settings: Settings, stack: Stack) -> dict[str, Any]:
    """Makes a backup, checks it, deletes those that are too old. Returns its manifest."""
    began = time.time()
    now = datetime.fromtimestamp(began, timezone.utc)
    for leftover in settings.backup_dir.glob("*T*Z.part"):
        shutil.rmtree(leftover)
    folder = settings.backup_dir / f"{now.strftime(STAMP)}.part"
    folder.mkdir(mode=0o700)
    dump = folder / "database.dump"
    with dump.open("wb") as file:
        stack.tool("pg_dump", "-d", stack.url(), "--format=custom", "--no-owner", stdout=file)
    with dump.open("rb") as file:
        stack.tool("pg_restore", "--list", stdin=file)
    episodes = episodes_in(stack, dump)
    blobs = [] if settings.store_url else episodes
    # After the dump: a file is there before its row is, so none that the dump names can be missing.
    new = [blob for blob in blobs if not is_there(blob, settings.blobs)]
    for blob in new:
        copy_blob(blob, settings.live_blobs, settings.blobs)
    recheck(settings, blobs, now.toordinal())
    (folder / "blobs").write_text("".join(f"{blob.sha256} {blob.size}\n" for blob in blobs), encoding="ascii")
    if settings.authority.is_dir():
        shutil.copytree(settings.authority, folder / "pki")
    manifest = {
        "name": now.strftime(STAMP),
        "format": 1,
        "database_sha256": sha256_of(dump),
        "database_bytes": dump.stat().st_size,
        "episodes": len(episodes),
        "blob_bytes": sum(blob.size for blob in blobs),
        "new_blobs": len(new),
        "seconds": round(time.time() - began, 1),
        **left_out(settings.store_url),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for path in [*(path for path in folder.rglob("*") if path.is_file()), folder]:
        fsync(path)
    folder.replace(folder.with_suffix(""))
    fsync(settings.backup_dir)
    forget(settings, now)
    if settings.rsync_target:
        carry(settings)
    settings.textfile_dir.mkdir(parents=True, exist_ok=True)
    write_whole(settings.textfile_dir / "lefleet_backup.prom", metrics(began, manifest))
    return manifest


def left_out(store_url: str) -> dict[str, Any]:
    """What a manifest says of episode files that are not in the backup; nothing when they are."""
    if not store_url:
        return {}
    why = (
        f"the episodes' files: they are in the object store {store_url}; let its bucket keep versions, or replicate it"
    )
    return {"store_url": store_url, "not_in_this_backup": why}


def recheck(settings: Settings, blobs: Iterable[Blob], day: int) -> None:
    """Reads a share of the kept files again; BackupError names one that has rotted, and it is copied anew."""
    for blob in blobs:
        if int(blob.sha256[:4], 16) % NIGHTS != day % NIGHTS:
            continue
        if sha256_of(blob.below(settings.blobs)) != blob.sha256:
            blob.below(settings.blobs).unlink()
            copy_blob(blob, settings.live_blobs, settings.blobs)
            print(f"{blob.sha256}: the kept copy was damaged and was made anew; look at the disk", file=sys.stderr)


def forget(settings: Settings, now: datetime) -> None:
    """Deletes backups older than `keep_days`, never the newest, and files that no backup names any more."""
    oldest = (now - timedelta(days=settings.keep_days)).strftime(STAMP)
    old = [name for name in names(settings)[:-1] if name < oldest]
    for name in old:
        shutil.rmtree(settings.backup_dir / name)
    if not old:
        return
    kept = {blob.sha256 for name in names(settings) for blob in blobs_of(settings.backup_dir / name)}
    for path in settings.blobs.glob("??/??/*"):
        if path.name not in kept:
            path.unlink()


def carry(settings: Settings) -> None:
    """Brings everything to the other disk or host; what was deleted here is deleted there last."""
    words = ["rsync", "--archive", "--delete-after", "--exclude=*.part", "--exclude=.lock", *settings.rsync_options]
    done = subprocess.run(
        [*words, f"{settings.backup_dir}/", settings.rsync_target], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BackupError(
            f"rsync to {settings.rsync_target} ended with {done.returncode}: {done.stderr.strip()[-500:]}"
        )


def metrics(began: float, manifest: dict[str, Any]) -> str:
    rows = (
        (METRIC, "When the newest complete backup was begun.", began),
        ("lefleet_backup_seconds", "How long the newest complete backup took.", manifest["seconds"]),
        ("lefleet_backup_episodes", "Episodes in the newest complete backup.", manifest["episodes"]),
        ("lefleet_backup_bytes", "Bytes of the newest complete backup's episodes and database.",
         manifest["blob_bytes"] + manifest["database_bytes"]),
    )  # fmt: skip
    return "".join(f"# HELP {name} {text}\n# TYPE {name} gauge\n{name} {value:.0f}\n" for name, text, value in rows)


# --- checking and restoring ------------------------------------------------------------------------------------------


def verify(settings: Settings, stack: Stack, folder: Path) -> list[Blob]:
    """Reads all of a backup; BackupError says what is wrong with it. Returns its episodes' files, wherever they are."""
    dump = folder / "database.dump"
    manifest = manifest_of(folder)
    if sha256_of(dump) != manifest["database_sha256"]:
        raise BackupError(f"{dump}: damaged; restore an older backup: {', '.join(names(settings))}")
    blobs = episodes_in(stack, dump)
    if manifest.get("store_url"):
        return blobs
    bad = [blob.sha256 for blob in blobs if not is_whole(blob, settings.blobs)]
    if bad:
        raise BackupError(f"{settings.blobs}: {len(bad)} of {len(blobs)} episodes are missing or damaged: {bad[0]} ...")
    return blobs


def is_whole(blob: Blob, root: Path) -> bool:
    return is_there(blob, root) and sha256_of(blob.below(root)) == blob.sha256


def check_fit(settings: Settings, folder: Path) -> None:
    """BackupError when this server would look for the backup's episode files where a restore does not bring them."""
    held = manifest_of(folder).get("store_url", "")
    if held and not settings.store_url:
        raise BackupError(
            f"{folder.name}: its episodes' files are in the object store {held}, but this server keeps them in a "
            "folder; set server_store_url, run role server, restore again"
        )
    if settings.store_url and not held:
        raise BackupError(
            f"{folder.name}: holds its episodes' files, but this server keeps them in the object store "
            f"{settings.store_url}; run role server without server_store_url, restore, then move the files there "
            "(docs/operations.md)"
        )


def restore(settings: Settings, stack: Stack, folder: Path) -> dict[str, Any]:
    """Makes the server what it was. Nothing is overwritten before the backup has proven whole; may be repeated."""
    check_fit(settings, folder)
    episodes = verify(settings, stack, folder)
    blobs = [] if settings.store_url else episodes
    if stack.has("postgres"):
        stack.run("up", "--detach", "--no-deps", "--wait", "postgres")
    # From here on the server takes nothing: what a robot were given a receipt for now would be lost in the exchange.
    # Workers, too: they would write into the database that is on its way out.
    stack.run("stop", "api", "worker")
    fill(stack, folder / "database.dump")
    lost = not settings.live_blobs.is_dir()
    missing = bring_back(settings, blobs)
    if lost and not settings.store_url:  # what Caddy has mounted is the folder that is gone
        stack.run("up", "--detach", "--no-deps", "--wait", "--force-recreate", "caddy")
    before = exchange(stack)
    authority = restore_authority(settings, stack, folder / "pki")
    stack.run("run", "--rm", "-T", "--no-deps", "migrate")
    stack.run("up", "--detach", "--no-deps", "--wait", "api", "worker")
    rows = int(stack.sql("SELECT count(*) FROM episodes"))
    absent = [blob.sha256 for blob in blobs if not is_there(blob, settings.live_blobs)]
    if rows != len(episodes) or absent:
        raise BackupError(f"after the restore: {rows} of {len(episodes)} episodes, {len(absent)} files missing")
    return {
        "name": folder.name,
        "episodes": rows,
        "blobs_brought_back": missing,
        "authority_brought_back": authority,
        "kept_database": before,
        **what_next(settings, folder),
    }


def bring_back(settings: Settings, blobs: list[Blob]) -> int:
    """Copies the episode files that the server lacks; how many."""
    owner = (settings.live_blobs.parent.stat().st_uid, settings.live_blobs.parent.stat().st_gid)
    settings.live_blobs.mkdir(exist_ok=True)
    os.chown(settings.live_blobs, *owner)
    missing = [blob for blob in blobs if not is_there(blob, settings.live_blobs)]
    for blob in missing:
        copy_blob(blob, settings.blobs, settings.live_blobs, owner)
    return len(missing)


def what_next(settings: Settings, folder: Path) -> dict[str, str]:
    """What a restore leaves to a person: this program has no key to an object store, the server has."""
    if not settings.store_url:
        return {}
    held = manifest_of(folder)["store_url"]
    moved = "" if held == settings.store_url else f" (they were in {held} when the backup was made)"
    return {
        "store_url": settings.store_url,
        "next": f"the episodes' files are those in {settings.store_url}{moved}; `lefleet-server fsck` compares them "
        "with the restored database, `fsck --repair` has robots asked for those that are missing",
    }


def fill(stack: Stack, dump: Path) -> None:
    """Restores into a database of its own."""
    stack.sql(f"DROP DATABASE IF EXISTS {RESTORING} WITH (FORCE)", "postgres")
    stack.sql(f"CREATE DATABASE {RESTORING}", "postgres")
    with dump.open("rb") as file:
        stack.tool("pg_restore", "--no-owner", "--exit-on-error", "-d", stack.url(RESTORING), stdin=file)


def exchange(stack: Stack) -> str:
    """Puts the restored database in the place of the one there is, at once; keeps that one, and none older."""
    name = BEFORE + datetime.now(timezone.utc).strftime(STAMP).lower()
    listed = "SELECT datname FROM pg_database WHERE datname LIKE 'lefleet\\_before\\_%'"
    for older in stack.sql(listed, "postgres").split():
        stack.sql(f'DROP DATABASE "{older}" WITH (FORCE)', "postgres")
    live = stack.database
    # One transaction: PostgreSQL runs the statements of one call together. The names are ours and the settings'.
    stack.sql(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('{live}', '{RESTORING}'); "  # noqa: S608
        f'ALTER DATABASE "{live}" RENAME TO "{name}"; ALTER DATABASE {RESTORING} RENAME TO "{live}"',
        "postgres",
    )
    return name


def restore_authority(settings: Settings, stack: Stack, kept: Path) -> bool:
    """Gives a new server the CA that the robots trust; False when it has that already."""
    root = Path("authorities") / "local" / "root.crt"
    if not (kept / root).is_file():
        return False
    if (settings.authority / root).is_file() and filecmp.cmp(kept / root, settings.authority / root, shallow=False):
        return False
    data = settings.authority.parent
    owner = data.parent.stat()
    stack.run("stop", "caddy")
    data.mkdir(exist_ok=True)
    # Certificates that the other CA gave out.
    shutil.rmtree(data / "certificates" / "local", ignore_errors=True)
    if settings.authority.is_dir():
        shutil.rmtree(settings.authority)
    shutil.copytree(kept, settings.authority)
    for path in (data, settings.authority, *settings.authority.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    stack.run("up", "--detach", "--no-deps", "--wait", "caddy")
    return True


# --- command line ----------------------------------------------------------------------------------------------------


def work(options: argparse.Namespace) -> Any:
    settings = Settings.read(options.settings)
    if options.command == "list":
        return [manifest_of(settings.backup_dir / name) for name in names(settings)]
    with locked(settings.backup_dir):
        stack = Stack(settings)
        if options.command == "create":
            return create(settings, stack)
        folder = find(settings, options.name)
        if options.command == "restore":
            return restore(settings, stack, folder)
        found = {"name": folder.name, "episodes": len(verify(settings, stack, folder)), "whole": True}
        return found | left_out(manifest_of(folder).get("store_url", ""))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=Path, default=SETTINGS, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("create", help="make a backup now (the timer does it every night)")
    commands.add_parser("list", help="the backups there are, oldest first")
    for command, text in (("verify", "read a backup, every byte"), ("restore", "make the server what it was then")):
        one = commands.add_parser(command, help=text)
        one.add_argument("name", nargs="?", default="latest", help="its name; the newest when left out")
    try:
        print(json.dumps(work(parser.parse_args()), indent=2))
    except (BackupError, OSError) as error:
        print(f"lefleet-backup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
