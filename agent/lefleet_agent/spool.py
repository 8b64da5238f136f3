"""Episodes on this robot's disk: which wait for the server, which it has, which may go.

One SQLite index beside the files, shared by the recorder (adds), the courier (acknowledges, frees) and whoever looks.
The index names the file; an episode's file is deleted only after the server's receipt for its SHA-256 is in the index.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog

from lefleet_agent.episode import Outcome

log = structlog.get_logger()

INDEX = "index.sqlite3"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS episodes (
    episode_id      TEXT PRIMARY KEY,
    file            TEXT NOT NULL,
    sha256          TEXT NOT NULL,
    bytes           INTEGER NOT NULL,
    outcome         TEXT NOT NULL,
    interrupted     INTEGER NOT NULL,
    ended_wall_ns   INTEGER NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('waiting', 'acknowledged', 'refused', 'freed')),
    receipt         TEXT,
    reason          TEXT,
    changed_wall_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS episodes_by_state ON episodes (state, ended_wall_ns);
"""


class SpoolError(Exception):
    """The spool cannot do this: the message names the episode, its state and the remedy."""


class State(StrEnum):
    WAITING = "waiting"
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    FREED = "freed"


@dataclass(frozen=True, slots=True)
class SpooledEpisode:
    episode_id: str
    path: Path
    sha256: str
    bytes: int
    outcome: Outcome
    interrupted: bool
    ended_wall_ns: int
    state: State
    receipt: dict[str, object] | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class SpoolStats:
    waiting_episodes: int
    waiting_bytes: int
    refused_episodes: int
    refused_bytes: int
    acknowledged_episodes: int
    acknowledged_bytes: int
    """Still on the disk, free to go."""

    @property
    def unacknowledged_bytes(self) -> int:
        return self.waiting_bytes + self.refused_bytes

    @property
    def bytes(self) -> int:
        """Everything on the disk."""
        return self.unacknowledged_bytes + self.acknowledged_bytes


class Spool:
    """The index of one folder. Any thread and any process may use one; it opens at first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._database: sqlite3.Connection | None = None
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
    ) -> bool:
        """Put a published file into the queue; False when the episode is already there, whatever its state."""
        changed = self._change(
            "INSERT INTO episodes VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting', NULL, NULL, ?) ON CONFLICT DO NOTHING",
            (episode_id, file, sha256, size_bytes, outcome, interrupted, ended_wall_ns, time.time_ns()),
        )
        return changed == 1

    def get(self, episode_id: str) -> SpooledEpisode | None:
        rows = self._episodes("WHERE episode_id = ?", episode_id)
        return rows[0] if rows else None

    def next_waiting(self, skip: Collection[str] = ()) -> SpooledEpisode | None:
        """What to upload now: the newest failure, then the newest of the others. `skip` names episodes to pass over."""
        rows = self._episodes(
            "WHERE state = 'waiting' AND episode_id NOT IN (SELECT value FROM json_each(?))"
            " ORDER BY outcome = 'failure' DESC, ended_wall_ns DESC LIMIT 1",
            json.dumps(list(skip)),
        )
        return rows[0] if rows else None

    def acknowledge(self, episode_id: str, receipt: Mapping[str, object]) -> None:
        """The server has it. Raises SpoolError when the receipt names another SHA-256 or the episode does not wait."""
        changed = self._change(
            "UPDATE episodes SET state = 'acknowledged', receipt = ?, changed_wall_ns = ?"
            " WHERE episode_id = ? AND state = 'waiting' AND sha256 = ?",
            (json.dumps(dict(receipt)), time.time_ns(), episode_id, receipt.get("sha256")),
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

    def free_to_budget(self, budget_bytes: int) -> list[SpooledEpisode]:
        """Delete acknowledged files, oldest first, until the spool fits the budget; returns them."""
        freed = []
        excess = self.stats().bytes - budget_bytes
        for episode in self._episodes("WHERE state = 'acknowledged' ORDER BY ended_wall_ns"):
            if excess <= 0:
                break
            self._free(episode, f"the server has it, and the spool is {excess} bytes over its {budget_bytes}")
            excess -= episode.bytes
            freed.append(episode)
        return freed

    def stats(self) -> SpoolStats:
        with self._using() as database:
            rows = database.execute(
                "SELECT state, count(*), sum(bytes) FROM episodes WHERE state <> 'freed' GROUP BY state"
            )
            found: dict[str, tuple[int, int]] = {state: (count, size) for state, count, size in rows}
        nothing = (0, 0)
        return SpoolStats(
            *found.get("waiting", nothing), *found.get("refused", nothing), *found.get("acknowledged", nothing)
        )

    def has_room(self, budget_bytes: int) -> bool:
        """False when what the server has not got fills the budget: then nothing new may be recorded."""
        return self.stats().unacknowledged_bytes < budget_bytes

    def _free(self, episode: SpooledEpisode, reason: str) -> None:
        # The file goes first: a crash in between leaves a row that the next call finds and finishes.
        episode.path.unlink(missing_ok=True)
        changed = self._change(
            "UPDATE episodes SET state = 'freed', reason = ?, changed_wall_ns = ?"
            " WHERE episode_id = ? AND state = 'acknowledged'",
            (reason, time.time_ns(), episode.episode_id),
        )
        if changed == 1:  # 0: another process freed it at the same time, and logged it
            log.info("episode freed", episode_id=episode.episode_id, bytes=episode.bytes, reason=reason)

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._database = self._database or _connect(self.folder)
                yield self._database
            except sqlite3.Error as error:
                raise SpoolError(
                    f"{self.folder / INDEX}: {error}; if it is damaged, delete it: the recorder makes it anew"
                ) from error

    def _change(self, statement: str, values: tuple[object, ...]) -> int:
        """Run one statement, durably; returns how many rows it changed."""
        with self._using() as database:
            return database.execute(statement, values).rowcount

    def _episodes(self, clauses: str, *values: str) -> list[SpooledEpisode]:
        with self._using() as database:
            rows = database.execute(f"SELECT * FROM episodes {clauses}", values).fetchall()  # noqa: S608
        return [self._entry(row) for row in rows]

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
            ended_wall_ns=row["ended_wall_ns"],
            state=State(row["state"]),
            receipt=json.loads(row["receipt"]) if row["receipt"] else None,
            reason=row["reason"],
        )


def _connect(folder: Path) -> sqlite3.Connection:
    folder.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(folder / INDEX, timeout=30, autocommit=True, check_same_thread=False)
    database.row_factory = sqlite3.Row
    database.execute("PRAGMA journal_mode = WAL")
    # FULL: a receipt must be on the disk before the file it covers is deleted.
    database.execute("PRAGMA synchronous = FULL")
    database.executescript(_SCHEMA)
    return database
