"""The spool's index on the disk: its tables, how it is opened, and what its errors mean.

The tables only grow by additions that an agent of an earlier version does not notice: it may run beside this one while
a robot is updated, or be what a bad release returns to. `PRAGMA user_version` counts the changes that it would notice.
"""

import errno
import sqlite3
from pathlib import Path

INDEX = "index.sqlite3"
VERSION = 0

# A table of its own for the later flag: version 0.1.0 inserts rows of exactly eleven values into `episodes`.
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
CREATE INDEX IF NOT EXISTS episodes_lost ON episodes (state) WHERE state = 'freed' AND receipt IS NULL;
CREATE TABLE IF NOT EXISTS interventions (episode_id TEXT PRIMARY KEY) STRICT;
"""


class NewerIndexError(sqlite3.DatabaseError):
    """A newer agent changed the index in a way that this one cannot follow."""


def connect(folder: Path) -> sqlite3.Connection:
    """Open the index, made or completed as needed. Raises sqlite3.Error."""
    database = sqlite3.connect(folder / INDEX, timeout=30, autocommit=True, check_same_thread=False)
    try:
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA journal_mode = WAL")
        # FULL: a receipt must be on the disk before the file it covers is deleted.
        database.execute("PRAGMA synchronous = FULL")
        found = database.execute("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            raise NewerIndexError(f"the index has version {found}, this agent knows {VERSION}")
        database.executescript(_SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database


def explain(folder: Path, error: sqlite3.Error | OSError) -> str:
    """What is wrong with the index, and what to do."""
    return f"{folder / INDEX}: {error}; {_remedy(error)}"


_READ_ONLY = "the disk is read-only: the kernel's log says why; what is on it stays"


def _remedy(error: sqlite3.Error | OSError) -> str:
    if isinstance(error, NewerIndexError):
        return "update the agent"
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return _READ_ONLY
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return "if it is damaged, delete it: the recorder makes it anew"
        case sqlite3.SQLITE_FULL:
            return "free some of this disk; what is on it stays"
        case sqlite3.SQLITE_READONLY:
            return _READ_ONLY
        case _:
            return "look whether its disk is there, mounted and has room; what is on it stays"
