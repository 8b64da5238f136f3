"""The journal of a running episode: an append-only MCAP file in which every tick lies in a chunk with its own CRC-32.

HDF5 does not survive a power cut; this does. What is needed to go on after one is in docs/episode-format.md. Nothing
is compressed (pictures are JPEG), and there is no index: it would be written last, so after a crash it is missing.

Channels: `episode` (JSON, first), `tick` (the bytes of `tick_dtype`), `camera/<name>` (a JPEG; the message's sequence
is the picture's number, and it lies in the chunk of the first tick that saw it), `end` (JSON, last).
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import IO, BinaryIO, cast

import structlog
from mcap.writer import CompressionType, IndexType, Writer

from lefleet_agent.episode import EpisodeInfo
from lefleet_agent.files import fsync_folder
from lefleet_agent.recording.framing import Channel, DamagedError, Message, Part, chunk, records
from lefleet_agent.recording.messages import EpisodeEnd, decode_end, decode_info, encode_end, encode_info
from lefleet_agent.recording.ticks import layout

log = structlog.get_logger()

SUFFIX = ".mcap"
LAYOUT = "numpy_dtype"


class JournalError(Exception):
    """The journal cannot be written: the message names the file, the system's reason and what helps."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One JPEG as it goes into the journal."""

    camera: int
    """Index in the order of `robot.cameras`."""
    seq: int
    taken_wall_ns: int
    jpeg: Part
    start_byte: int = field(default=0, compare=False)
    """Where in the journal that was read the JPEG begins."""


@dataclass(frozen=True, slots=True)
class LockedJournal:
    """A journal that this process alone may publish and delete; the lock goes with the process."""

    path: Path
    fd: int

    @property
    def episode_id(self) -> str:
        return self.path.stem

    def close(self) -> None:
        os.close(self.fd)

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        fsync_folder(self.path.parent)


def lock(path: Path) -> LockedJournal | None:
    """The journal, or None while another process holds it or when it is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    if os.fstat(fd).st_nlink == 0:  # its owner deleted it between our two calls
        os.close(fd)
        return None
    return LockedJournal(path, fd)


def remove_unborn(folder: Path) -> None:
    """Journals that a crash kept from getting their name. Call before any is created."""
    for part in folder.glob(f"*{SUFFIX}.part"):
        part.unlink()


class Notes:
    """What a journal's ticks are and where its pictures lie: its writer remembers it, so that the same process need
    not read the journal to know it. 250 bytes a tick."""

    def __init__(self, info: EpisodeInfo, tick_layout: str) -> None:
        self.info = info
        self.layout = tick_layout
        """How a tick lies in its bytes, see `lefleet_agent.recording.ticks.decode`."""
        self.ticks = bytearray()
        self.places: list[list[tuple[int, int]]] = []
        """For each tick and camera, of the newest picture: its length, and its first byte in the journal."""
        self._current = [(0, 0)] * len(info.robot.cameras)

    def add(self, tick: bytes, pictures: Iterable[tuple[int, int, int]]) -> None:
        """`pictures` that this tick is the first to see: camera, length, first byte in the journal."""
        for camera, length, start in pictures:
            self._current[camera] = length, start
        self.ticks += tick
        self.places.append(list(self._current))


class JournalWriter:
    """Writes one episode. Every method may raise JournalError; what was written before stays readable."""

    def __init__(self, journal: LockedJournal, info: EpisodeInfo) -> None:
        self.journal = journal
        self.notes = Notes(info, layout(info.robot))
        """Of what was added without an error."""
        self._file = _AppendFile(journal)
        # A chunk ends at `flush` only: one tick with its pictures, whole or not there.
        self._writer = Writer(
            cast(IO[bytes], self._file),
            chunk_size=1 << 40,
            compression=CompressionType.NONE,
            index_types=IndexType.NONE,
            repeat_channels=False,
            repeat_schemas=False,
            use_statistics=False,
            use_summary_offsets=False,
        )
        self._writer.start(profile="lefleet", library=f"lefleet-agent {info.agent_version}")
        episode = self._writer.register_channel("episode", "json", 0)
        self._tick = self._writer.register_channel("tick", "lefleet-tick-1", 0, {LAYOUT: self.notes.layout})
        self._end = self._writer.register_channel("end", "json", 0)
        self._cameras = [self._writer.register_channel(f"camera/{name}", "jpeg", 0) for name in info.robot.cameras]
        self._add(episode, info.started_wall_ns, encode_info(info))
        self._writer.flush()  # type: ignore[no-untyped-call]

    @classmethod
    def create(cls, folder: Path, info: EpisodeInfo) -> "JournalWriter":
        """Begin `<folder>/<episode_id>.mcap`; it is on the disk when this returns. Raises JournalError."""
        path = folder / f"{info.episode_id}{SUFFIX}"
        part = path.with_name(path.name + ".part")
        try:
            fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            # Locked before it has its name: nobody recovers a journal that is about to be written.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _failed(path, error) from error
        try:
            writer = cls(LockedJournal(path, fd), info)
            writer.sync()
            part.rename(path)
            fsync_folder(folder)
        except (OSError, JournalError) as error:
            os.close(fd)
            part.unlink(missing_ok=True)
            raise _failed(path, error) from error
        return writer

    def add(self, tick: bytes, tick_wall_ns: int, pictures: Sequence[Picture]) -> None:
        """Append one tick (bytes of `tick_dtype`) and the pictures it is the first to see."""
        # Framed here: MCAP's writer would copy a picture five times on its way into a chunk.
        seen = [(self._cameras[each.camera], each.seq, each.taken_wall_ns, each.jpeg) for each in pictures]
        parts, begin = chunk([*seen, (self._tick, 0, tick_wall_ns, tick)]), self._file.tell()
        self._file.append(parts)
        # A chunk's head, then a head and the data of each message.
        ends = list(accumulate(map(len, parts), initial=begin))
        self.notes.add(tick, [(p.camera, len(p.jpeg), ends[2 + 2 * n]) for n, p in enumerate(pictures)])

    def end(self, end: EpisodeEnd) -> None:
        """Append how the episode ended; nothing follows."""
        self._add(self._end, end.ended_wall_ns or 0, encode_end(end))
        self._writer.finish()  # type: ignore[no-untyped-call]
        self._file.flush()
        self.sync()

    def sync(self) -> None:
        """Return when everything added is on the disk."""
        try:
            os.fsync(self.journal.fd)
        except OSError as error:
            raise _failed(self.journal.path, error) from error

    def _add(self, channel: int, log_time: int, data: bytes) -> None:
        self._writer.add_message(channel, log_time=log_time, publish_time=log_time, data=data)


class _AppendFile:
    """Appends a chunk whole, or cuts the file back to before it. MCAP's writer writes to it, up to each `flush`."""

    def __init__(self, journal: LockedJournal) -> None:
        self._journal = journal
        self._pending = bytearray()
        self._size = 0

    def write(self, data: bytes) -> int:
        self._pending += data
        return len(data)

    def tell(self) -> int:
        return self._size + len(self._pending)

    def flush(self) -> None:
        pending, self._pending = self._pending, bytearray()
        self.append([bytes(pending)])

    def append(self, parts: Sequence[Part]) -> None:
        size = sum(map(len, parts))
        try:
            written = os.pwritev(self._journal.fd, parts, self._size)
            if written < size:
                self._append_rest(b"".join(parts), written)
        except OSError as error:
            self._cut_back()
            raise _failed(self._journal.path, error) from error
        self._size += size

    def _append_rest(self, chunk: bytes, written: int) -> None:
        """The kernel took less than it was given: the disk is nearly full, or a signal came."""
        while written < len(chunk):
            written += os.pwrite(self._journal.fd, memoryview(chunk)[written:], self._size + written)

    def _cut_back(self) -> None:
        """Remove a torn chunk: on a full disk its blocks are wanted. Readers stop at it if it stays."""
        try:
            os.ftruncate(self._journal.fd, self._size)
        except OSError as error:
            log.warning("a torn chunk stays at the journal's end", path=str(self._journal.path), reason=error.strerror)


def _failed(path: Path, error: OSError | JournalError) -> JournalError:
    if isinstance(error, JournalError):
        return error
    return JournalError(f"journal {path.name}: {error.strerror}; free disk space or replace the disk of {path.parent}")


type Entry = EpisodeInfo | Picture | bytes | EpisodeEnd
"""What a journal holds; bytes: one tick."""


class JournalReader:
    """Reads a journal from its start to its end or to the first thing that is wrong with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.damage: str | None = None
        """After iterating: what was wrong and at which byte; None for a journal that is whole, or was just cut short
        between two chunks."""
        self.tick_layout = ""
        """After the first entry: how a tick lies in its bytes, see `lefleet_agent.recording.ticks.decode`."""

    def __iter__(self) -> Iterator[Entry]:
        self.damage = None
        with self._path.open("rb") as file:
            try:
                yield from self._entries(file)
            except DamagedError as error:
                self.damage = str(error)

    def _entries(self, file: BinaryIO) -> Iterator[Entry]:
        topics: dict[int, str] = {}
        cameras: dict[str, int] = {}
        for record in records(file):
            if isinstance(record, Channel):
                topics[record.number] = record.topic
                self.tick_layout = self.tick_layout or record.metadata.get(LAYOUT, "")
                continue
            entry = _entry(topics, record, cameras)
            if isinstance(entry, EpisodeInfo):
                cameras = {f"camera/{name}": index for index, name in enumerate(entry.robot.cameras)}
            yield entry


def _entry(topics: dict[int, str], message: Message, cameras: dict[str, int]) -> Entry:
    try:
        topic = topics[message.channel]
        if topic == "tick":
            return bytes(message.data)
        if topic == "episode":
            return decode_info(bytes(message.data))
        if topic == "end":
            return decode_end(bytes(message.data))
        return Picture(cameras[topic], message.sequence, message.log_time_ns, message.data, message.start_byte)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"holds a message that this version cannot read: {error!r}") from error
