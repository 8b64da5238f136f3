"""Journal -> HDF5 -> spool: durable steps, each of which may be the last before a crash."""

import errno
import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from lefleet_agent.recording import episode_file, journal
from lefleet_agent.recording.contents import NothingRecordedError, noted
from lefleet_agent.recording.journal import LockedJournal, Notes
from lefleet_agent.recording.messages import EpisodeEnd
from lefleet_agent.spool import Spool, SpoolError, SpoolStats

log = structlog.get_logger()

type Published = Callable[[str], None]
"""Told the outcome of each episode that was added to the spool."""

_LOWEST_PRIORITY = 10


@dataclass(frozen=True, slots=True)
class Job:
    """A journal to publish."""

    journal: LockedJournal
    end: EpisodeEnd | None = None
    """How its episode ended, if the journal itself does not say; None there: a crash cut it off."""
    notes: Notes | None = None
    """By the writer, in this process, of a journal that was written and synced to its end without an error. They stand
    for a reading of it, checksums and all, once: after a disk's fault the journal is read."""


def publish(job: Job, spool: Spool, published: Published) -> Iterator[str]:
    """Turn a journal into an episode in the spool; yields after each durable step.

    Started again after a crash anywhere, it goes on: the episode's id names every file and its row. The journal goes
    last. Raises NothingRecordedError (the journal stays), OSError, SpoolError.
    """
    locked, digest = job.journal, ""
    final = spool.folder / f"{locked.episode_id}{episode_file.SUFFIX}"
    if spool.get(locked.episode_id) is None:
        if not final.exists():
            part = final.with_name(final.name + ".part")
            digest = _build(job, part)
            yield "built"
            episode_file.publish(part, final)
            yield "published"
        index(final, spool, published, digest)
        yield "indexed"
    locked.delete()
    yield "journal deleted"


def _build(job: Job, part: Path) -> str:
    if job.notes and job.end:
        return episode_file.write(job.journal.path, part, noted(job.notes, job.end))
    return episode_file.build(job.journal.path, part, job.end)


def index(path: Path, spool: Spool, published: Published, digest: str = "") -> None:
    """Add a whole episode file to the spool; nothing happens when it is already there. `digest`: its SHA-256, if it is
    known. Raises OSError, KeyError."""
    summary = episode_file.read_summary(path)
    if not digest:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    added = spool.add(
        path.stem,
        path.name,
        sha256=digest,
        size_bytes=path.stat().st_size,
        outcome=summary.outcome,
        interrupted=summary.interrupted,
        ended_wall_ns=summary.ended_wall_ns,
        intervened=summary.interventions > 0,
    )
    if added:
        published(summary.outcome)
        log.info("episode in the spool", episode_id=path.stem, frames=summary.frames, outcome=summary.outcome)


class Publisher:
    """A thread that publishes what it is given and what a crash left behind. It tries again what failed."""

    def __init__(self, journals: Path, spool: Spool, published: Published, retry_period_s: float) -> None:
        self._journals = journals
        self._spool = spool
        self._published = published
        self._retry_period_s = retry_period_s
        self._given: queue.Queue[Job | None] = queue.Queue()
        self._pending: list[Job] = []
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self.error: str | None = None
        """What failed when all was tried last; None when nothing did."""
        self._failure: str | None = None
        self._adopted = False
        self.stats: SpoolStats | None = None
        """The spool as last seen."""

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, job: Job) -> None:
        self._given.put(job)

    def finish(self) -> None:
        """Publish what was submitted, then return. What fails now is recovered at the next start."""
        self._given.put(None)
        self._thread.join()

    def _run(self) -> None:
        # The thread that drains the ring and control itself go first on a busy machine.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        going_on = True
        while going_on:
            self._try_all()
            going_on = self._wait()
        self._try_all()

    def _try_all(self) -> None:
        self._failure = None
        if self._attempt(self._open):
            self._attempt(self._adopt)
            self._attempt(self._recover)
            self._publish_pending()
            self._attempt(self._look)
        else:  # a disk that comes back may have lost what it had
            self._pending = [replace(job, notes=None) for job in self._pending]
        self.error = self._failure

    def _open(self) -> None:
        """Anew each time: another disk may be mounted here by now. Where none is, nothing is made in its place."""
        self._spool.close()
        if not self._spool.folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "No such folder; is its disk mounted?", str(self._spool.folder))

    def _wait(self) -> bool:
        """Until there is something to publish or to try again; False when no more will come."""
        try:
            given = self._given.get(timeout=self._retry_period_s)
        except queue.Empty:
            return True
        if given is None:
            return False
        self._pending.append(given)
        return True

    def _publish_pending(self) -> None:
        self._pending = [replace(job, notes=None) for job in self._pending if not self._publish(job)]

    def _publish(self, job: Job) -> bool:
        """Whether it is done with; otherwise it is tried again later."""
        locked = job.journal
        try:
            self._publish_or_set_aside(job)
        except Exception as error:  # noqa: BLE001 - top of the thread: one bad journal must not hold up the others
            if not _is_gone(locked, error):
                self._fail(f"episode {locked.episode_id} could not be published, will be tried again: {error}", error)
                return False
            log.error("an episode is gone with its disk", episode_id=locked.episode_id, journal=str(locked.path))
        locked.close()
        return True

    def _publish_or_set_aside(self, job: Job) -> None:
        try:
            for _ in publish(job, self._spool, self._published):
                pass
        except NothingRecordedError as error:
            self._set_aside(job.journal, error)

    def _set_aside(self, locked: LockedJournal, error: NothingRecordedError) -> None:
        """An empty journal goes; one whose bytes cannot be read is kept for a person to look at."""
        log.warning("no episode", episode_id=locked.episode_id, reason=str(error), kept=error.damaged)
        if error.damaged:
            locked.path.rename(locked.path.with_suffix(".unreadable"))
        else:
            locked.delete()

    def _recover(self) -> None:
        """Journals that no recorder holds any more: theirs was killed."""
        for path in sorted(self._journals.glob(f"*{journal.SUFFIX}")):
            if (locked := journal.lock(path)) is not None:
                log.warning("recovering an episode", episode_id=locked.episode_id, bytes=os.fstat(locked.fd).st_size)
                self._pending.append(Job(locked))

    def _adopt(self) -> None:
        """Whole episode files that the index does not know: the machine went down, or the disk, between the two."""
        if self._adopted:
            return
        self._adopted = True
        for path in sorted(self._spool.folder.glob(f"*{episode_file.SUFFIX}")):
            if self._spool.get(path.stem) is None:
                self._attempt(partial(self._index, path))

    def _index(self, path: Path) -> None:
        index(path, self._spool, self._published)

    def _look(self) -> None:
        self.stats = self._spool.stats()

    def _attempt(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - top of the thread, as above
            self._fail(f"the spool cannot be used: {error}", error)
            return False
        return True

    def _fail(self, message: str, error: Exception) -> None:
        if message != self.error:  # once, not at every attempt
            log.error(message, exc_info=not isinstance(error, OSError | SpoolError))
        self.error = self._failure = message
        self._adopted = False  # the disk may be another one next time, with files that its index does not know


def _is_gone(locked: LockedJournal, error: Exception) -> bool:
    """The folder of journals is there and this one is not: another disk came in its place, or somebody deleted it."""
    return isinstance(error, FileNotFoundError) and locked.path.parent.is_dir() and not locked.path.exists()
