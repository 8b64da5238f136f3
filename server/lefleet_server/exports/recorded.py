"""What an export is made of, tick by tick; pictures are read one at a time. Runs in the confined process alone."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lefleet_server.analysis import signals
from lefleet_server.episodes import reader
from lefleet_server.episodes.attributes import FileError
from lefleet_server.episodes.reader import Recording

_GAP_PERIODS = 3
"""As the quality flag `stall` has it."""


@dataclass(frozen=True, slots=True)
class Picture:
    camera: str
    jpeg: bytes
    taken_ns: int
    """On the clock of `Recorded.at_ns`."""


@dataclass(frozen=True, slots=True)
class Event:
    tick: int
    text: str
    is_warning: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """An episode, opened. Arrays have time along the first axis."""

    path: Path
    said: Mapping[str, Any]
    """The file's attributes."""
    numbers: Recording
    columns: Mapping[str, npt.NDArray[Any]]
    """Datasets by their path (`reader.contents`)."""

    @classmethod
    def read(cls, path: Path) -> "Recorded":
        """Raises FileError for what an analysis would quarantine, or whatever HDF5 raises for a file that is none."""
        facts, columns = reader.contents(path)
        found = cls(path, facts["attributes"], reader.numbers(facts, columns), columns)
        signals.require_whole(found.numbers)
        if len(found.numbers.units) != len(found.numbers.joints):
            raise FileError(
                "joint_units", f"has {len(found.numbers.units)} names, joint_names {len(found.numbers.joints)}"
            )
        first, last = (int(found.numbers.monotonic_ns[n]) for n in (0, -1))
        if not 0 <= found.begin_ns <= 2**63 - 1 - (last - first):
            raise FileError("time/wall_ns", f"is {found.begin_ns} at tick 0: no time from 1970 on")
        return found

    @property
    def ticks(self) -> int:
        return len(self.numbers.monotonic_ns)

    @property
    def begin_ns(self) -> int:
        """Wall clock at the first tick, since 1970."""
        return int(self.columns["time/wall_ns"][0])

    @property
    def elapsed_ns(self) -> npt.NDArray[np.int64]:
        """Since the first tick, by the monotonic clock."""
        elapsed: npt.NDArray[np.int64] = self.numbers.monotonic_ns - self.numbers.monotonic_ns[0]
        return elapsed

    def at_ns(self, monotonic_ns: int) -> int:
        """Since 1970. It begins with the wall clock and goes on with the monotonic one, which no NTP step moves."""
        return self.begin_ns + monotonic_ns - int(self.numbers.monotonic_ns[0])

    def pictures(self, camera: str) -> Iterator[tuple[int, Picture]]:
        """(tick, picture) where a new one was seen: until the next one, each tick's row holds the same bytes."""
        with self.path.open("rb") as file:
            for tick in self._new_ones(camera, file):
                yield tick, self._picture(camera, tick, file)

    def all_pictures(self) -> Iterator[tuple[int, Picture]]:
        """Those of all cameras in the order of ticks."""
        streams = [self.pictures(camera) for camera in self.numbers.cameras]
        waiting = [next(stream, None) for stream in streams]
        while any(waiting):
            tick = min(each[0] for each in waiting if each)
            for number, each in enumerate(waiting):
                if each and each[0] == tick:
                    yield each
                    waiting[number] = next(streams[number], None)

    def events(self) -> list[Event]:
        """In the order of ticks; of one tick, in the order of their weight."""
        said, end = self.said, self.ticks - 1
        driver = f"{said['policy_repo']} {said['policy_commit']}" if said.get("policy_repo") else "no policy"
        found = [Event(0, f"Episode {said['episode_id']} begins: {said.get('task') or 'no task'} ({driver})")]
        found += self._edges("intervention", "A person takes over", "A person hands back")
        found += self._edges("held", "The arm is held", "The arm goes on")
        gaps_s = np.diff(self.numbers.monotonic_ns) / 1e9
        late = np.flatnonzero(gaps_s > _GAP_PERIODS / self.numbers.fps)
        found += [Event(int(n) + 1, f"No tick for {gaps_s[n]:.3f} s", is_warning=True) for n in late]
        cut = bool(said["interrupted"])
        word = "is interrupted" if cut else "ends"
        why = f"{said['outcome']}, {said.get('end_reason') or 'no reason given'}"
        found.append(Event(end, f"Episode {word}: {why}", is_warning=cut))
        return sorted(found, key=lambda event: event.tick)

    def provenance(self) -> dict[str, str]:
        """The file's attributes as text: JSON where they are more than a word."""
        return {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in self.said.items()
        }

    def _edges(self, name: str, on: str, off: str) -> list[Event]:
        if name not in self.columns:
            return []
        marked = np.diff((self.columns[name] != 0).astype(np.int8), prepend=0)
        return [Event(int(tick), on if marked[tick] > 0 else off) for tick in np.flatnonzero(marked)]

    def _new_ones(self, camera: str, file: BinaryIO) -> Iterator[int]:
        lengths = self.numbers.cameras[camera].lengths
        seq = self.columns[f"observations/image_seq/{camera}"]
        before = -1
        for tick in np.flatnonzero(lengths):
            same = before >= 0 and seq[tick] == seq[before] and lengths[tick] == lengths[before]
            # The number alone is the robot's word, and an export must show what the rows hold.
            if not (same and self._jpeg(camera, int(tick), file) == self._jpeg(camera, before, file)):
                yield int(tick)
            before = int(tick)

    def _picture(self, camera: str, tick: int, file: BinaryIO) -> Picture:
        taken_ns = int(self.columns[f"observations/image_monotonic_ns/{camera}"][tick])
        return Picture(camera, self._jpeg(camera, tick, file), self.at_ns(taken_ns))

    def _jpeg(self, camera: str, tick: int, file: BinaryIO) -> bytes:
        found = self.numbers.cameras[camera]
        file.seek(found.place["offset"] + tick * found.place["stride"])
        return file.read(int(found.lengths[tick]))
