"""Episodes on this robot's disk: which wait for the server, which it has, which may go.

One SQLite index beside the files, shared by the recorder (adds), the courier (acknowledges, frees) and whoever looks.
The index names the file. An episode's file is deleted once the server's receipt for its SHA-256 is in the index;
without one only where `recording.spool_when_full` is `free_by_value` (lefleet_agent.retention), and its row says so.
Old and new go by the order in which episodes entered: the wall clock may have been wrong.
"""

import errno
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import structlog

from lefleet_agent.episode import Outcome
from lefleet_agent.files import fsync_folder
from lefleet_agent.reserve import Reserve
from lefleet_agent.retention import WhenFull, to_free
from lefleet_agent.spool_index import INDEX, connect, explain
from lefleet_agent.spooled import SpooledEpisode, SpoolStats, State

__all__ = ["Spool", "SpoolError", "SpoolStats", "SpooledEpisode", "State"]

log = structlog.get_logger()

type _Identity = tuple[int, int]

_ON_DISK = "state IN ('waiting', 'refused', 'acknowledged')"


class SpoolError(Exception):
    """The spool cannot do this: the message names the episode or the index, what is wrong, and the remedy."""


class Spool:
    """The index of one folder. Any thread and any process may use one; it opens at first use.

    Every method raises SpoolError while the disk is full, read-only or gone, and works again once that is over.
    """

    def __init__(self, folder: Path, reserve: Reserve | None = None) -> None:
        """`reserve`: disk space to give up when a receipt cannot be written for want of it."""
        self.folder = folder
        self._reserve = reserve
        self._database: sqlite3.Connection | None = None
        self._opened: tuple[_Identity | None, _Identity | None] | None = None
        """The folder and the index that are in use."""
        self._lock = threading.RLock()

    def close(self) -> None:
        with self._lock:
            if self._database:
                self._database.close()
            self._database = None

    def add(
        self,
        episode_id: str,
        file: str,
        *,
        sha256: str,
        size_bytes: int,
        outcome: Outcome,
        interrupted: bool,
        ended_wall_ns: int,
        intervened: bool = False,
    ) -> bool:
        """Put a published file into the queue; False when the episode is already there, whatever its state."""

        def work(database: sqlite3.Connection) -> bool:
            with _transaction(database):
                if intervened:
                    database.execute("INSERT INTO interventions VALUES (?) ON CONFLICT DO NOTHING", (episode_id,))
                return database.execute(
                    "INSERT INTO episodes VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting', NULL, NULL, ?)"
                    " ON CONFLICT DO NOTHING",
                    (episode_id, file, sha256, size_bytes, outcome, interrupted, ended_wall_ns, time.time_ns()),
                ).rowcount == 1  # fmt: skip

        return self._do(work)

    def get(self, episode_id: str) -> SpooledEpisode | None:
        rows = self._episodes("WHERE episode_id = ?", episode_id)
        return rows[0] if rows else None

    def next_waiting(self, skip: Collection[str] = ()) -> SpooledEpisode | None:
        """What to upload now: the newest failure or intervention, then the newest of the others.

        `skip` names episodes to pass over.
        """
        rows = self._episodes(
            "WHERE state = 'waiting' AND episode_id NOT IN (SELECT value FROM json_each(?))"
            " ORDER BY outcome = 'failure' OR intervened DESC, rowid DESC LIMIT 1",
            json.dumps(list(skip)),
        )
        return rows[0] if rows else None

    def acknowledge(self, episode_id: str, receipt: Mapping[str, object]) -> None:
        """The server has it: also one that was freed while it was on its way is not lost then.

        Raises SpoolError when the receipt names another SHA-256 or the episode does not wait.
        """
        changed = self._change(
            "UPDATE episodes SET state = iif(state = 'waiting', 'acknowledged', state), receipt = ?, reason = NULL,"
            " changed_wall_ns = ? WHERE episode_id = ? AND sha256 = ?"
            " AND (state = 'waiting' OR state = 'freed' AND receipt IS NULL)",
            (_text(receipt), time.time_ns(), episode_id, receipt.get("sha256")),
        )
        if changed != 1:
            self._explain(episode_id, f"a receipt for {receipt.get('sha256')} arrived")

    def refuse(self, episode_id: str, reason: str) -> None:
        """The server will never take it: it stays on the disk, no longer offered. Raises SpoolError unless it waits."""
        changed = self._change(
            "UPDATE episodes SET state = 'refused', reason = ?, changed_wall_ns = ?"
            " WHERE episode_id = ? AND state = 'waiting'",
            (reason, time.time_ns(), episode_id),
        )
        if changed != 1:
            self._explain(episode_id, f"a refusal ({reason}) arrived")
        log.warning("episode refused by the server, kept", episode_id=episode_id, reason=reason)

    def acknowledged(self) -> list[SpooledEpisode]:
        """What the server gave a receipt for and is still on the disk, newest first."""
        return self._episodes("WHERE state = 'acknowledged' ORDER BY rowid DESC")

    def offer_again(self, episodes: Iterable[SpooledEpisode], reason: str) -> list[SpooledEpisode]:
        """Acknowledged ones that the server has lost wait again, unless they left the disk meanwhile; returns them."""
        again = [episode for episode in episodes if self._do(partial(_offer, episode, reason))]
        for episode in again:
            log.warning("episode waits again", episode_id=episode.episode_id, bytes=episode.bytes, reason=reason)
        return again

    def refused(self) -> list[SpooledEpisode]:
        """What the server will not take and is still on the disk, newest first."""
        return self._episodes("WHERE state = 'refused' ORDER BY rowid DESC")

    def retry_refused(self) -> list[SpooledEpisode]:
        """Refused ones wait again, as after the server's mend; returns them."""
        return [episode for episode in self.refused() if self._wait_again(episode)]

    def _wait_again(self, refused: SpooledEpisode) -> bool:
        return self._change(
            "UPDATE episodes SET state = 'waiting', changed_wall_ns = ? WHERE episode_id = ? AND state = 'refused'",
            (time.time_ns(), refused.episode_id),
        ) == 1  # fmt: skip

    def write_off(self, episode_id: str) -> bool:
        """Note as lost a waiting episode whose file somebody deleted; whether it waits no longer."""
        episode = self.get(episode_id)
        if episode and episode.state is State.WAITING and not episode.path.exists():
            self._free(episode, "its file is gone from this disk, and the server does not have it")
            episode = self.get(episode_id)
        return episode is None or episode.state is not State.WAITING

    def make_room(self, budget_bytes: int, when_full: WhenFull = WhenFull.STOP) -> bool:
        """Free what may go until the spool fits its budget; whether something new may be recorded then."""
        self.free_to_budget(budget_bytes, when_full)
        return when_full is WhenFull.FREE_BY_VALUE or self.has_room(budget_bytes)

    def free_to_budget(self, budget_bytes: int, when_full: WhenFull = WhenFull.STOP) -> list[SpooledEpisode]:
        """Delete files until the spool fits the budget, in the order of lefleet_agent.retention; returns them."""
        fits = self.stats().bytes <= budget_bytes
        if self._reserve:
            self._reserve.keep()
        if fits:
            return []
        there = self._episodes(f"WHERE {_ON_DISK} ORDER BY rowid")
        return [episode for episode, reason in to_free(there, budget_bytes, when_full) if self._free(episode, reason)]

    def stats(self) -> SpoolStats:
        """Raises SpoolError on a read-only disk too."""

        def work(database: sqlite3.Connection) -> SpoolStats:
            rows = database.execute(
                f"SELECT state, count(*), sum(bytes) FROM episodes WHERE {_ON_DISK} GROUP BY state"  # noqa: S608
            )
            found: dict[str, tuple[int, int]] = {state: (count, size) for state, count, size in rows}
            each = [found.get(state, (0, 0)) for state in ("waiting", "refused", "acknowledged")]
            lost = database.execute("SELECT count(*) FROM episodes WHERE state = 'freed' AND receipt IS NULL")
            return SpoolStats(*each[0], *each[1], *each[2], lost.fetchone()[0])

        found = self._do(work)
        if os.statvfs(self.folder).f_flag & os.ST_RDONLY:
            # What can be read is read on, but whoever asks how the spool is must hear of it before a write fails.
            raise SpoolError(explain(self.folder, OSError(errno.EROFS, os.strerror(errno.EROFS))))
        return found

    def freed_episodes(self) -> int:
        """How many left this disk, ever."""
        query = "SELECT count(*) FROM episodes WHERE state = 'freed'"
        return int(self._do(lambda database: database.execute(query).fetchone()[0]))

    def has_room(self, budget_bytes: int) -> bool:
        """False when what the server has not got fills the budget: then nothing new may be recorded."""
        return self.stats().unacknowledged_bytes < budget_bytes

    def _free(self, episode: SpooledEpisode, reason: str) -> bool:
        """Delete the file; False when another process did, or the episode changed meanwhile."""
        if not self._do(partial(_delete, episode, reason)):
            return False
        tell = log.info if episode.acknowledged else log.error
        values = {"bytes": episode.bytes, "outcome": episode.outcome, "acknowledged": episode.acknowledged}
        tell("episode freed", episode_id=episode.episode_id, reason=reason, **values)
        return True

    def _do[T](self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run it on the index; once more after giving up the reserve, if the disk was full. Raises SpoolError."""
        with self._lock:
            while True:
                try:
                    return work(self._connected())
                except (sqlite3.Error, OSError) as error:
                    self.close()  # the disk may come back with other files
                    if not (self._reserve and self._reserve.give_up()):
                        raise SpoolError(explain(self.folder, error)) from error

    def _connected(self) -> sqlite3.Connection:
        """The open index: that which lies there now, as a disk may have gone and another come. Raises OSError too."""
        if self._opened is None:
            self.folder.mkdir(exist_ok=True)
        index, folder = _identity(self.folder / INDEX), _identity(self.folder)
        if self._database is None or index is None or (folder, index) != self._opened:
            self.close()
            if self._opened and index is None and folder != self._opened[0]:
                # A new index here would hide that the episodes went away with their disk.
                raise FileNotFoundError("the folder is not the one that was there before, and has no index")
            self._database = connect(self.folder)
            self._opened = _identity(self.folder), _identity(self.folder / INDEX)
        return self._database

    def _change(self, statement: str, values: tuple[object, ...]) -> int:
        """Run one statement, durably; returns how many rows it changed."""
        return self._do(lambda database: database.execute(statement, values).rowcount)

    def _episodes(self, clauses: str, *values: str) -> list[SpooledEpisode]:
        query = f"SELECT *, episode_id IN (SELECT episode_id FROM interventions) AS intervened FROM episodes {clauses}"  # noqa: S608
        return [self._entry(row) for row in self._do(lambda database: database.execute(query, values).fetchall())]

    def _explain(self, episode_id: str, event: str) -> None:
        entry = self.get(episode_id)
        state = f"{entry.state} with SHA-256 {entry.sha256}" if entry else "unknown here"
        raise SpoolError(f"episode {episode_id}: {event}, but it is {state}; its file stays")

    def _entry(self, row: sqlite3.Row) -> SpooledEpisode:
        return SpooledEpisode(
            episode_id=row["episode_id"],
            path=self.folder / row["file"],
            sha256=row["sha256"],
            bytes=row["bytes"],
            outcome=Outcome(row["outcome"]),
            interrupted=bool(row["interrupted"]),
            intervened=bool(row["intervened"]),
            ended_wall_ns=row["ended_wall_ns"],
            state=State(row["state"]),
            receipt=json.loads(row["receipt"]) if row["receipt"] else None,
            reason=row["reason"],
        )


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


def _delete(episode: SpooledEpisode, reason: str, database: sqlite3.Connection) -> bool:
    # One transaction: nobody may offer an episode again whose file is on its way out. A crash before its end leaves a
    # row that the next call finds and finishes.
    with _transaction(database):
        changed = database.execute(
            "UPDATE episodes SET state = 'freed', reason = ?, changed_wall_ns = ?"
            " WHERE episode_id = ? AND state = ? AND receipt IS ?",
            (reason, time.time_ns(), episode.episode_id, episode.state, _text(episode.receipt)),
        ).rowcount
        if changed == 1:
            episode.path.unlink(missing_ok=True)
            fsync_folder(episode.path.parent)
    return changed == 1


def _offer(episode: SpooledEpisode, reason: str, database: sqlite3.Connection) -> bool:
    with _transaction(database):
        return episode.path.exists() and database.execute(
            "UPDATE episodes SET state = 'waiting', receipt = NULL, reason = ?, changed_wall_ns = ?"
            " WHERE episode_id = ? AND state = 'acknowledged' AND receipt = ?",
            (reason, time.time_ns(), episode.episode_id, _text(episode.receipt)),
        ).rowcount == 1  # fmt: skip


def _text(receipt: Mapping[str, object] | None) -> str | None:
    return None if receipt is None else json.dumps(dict(receipt))
