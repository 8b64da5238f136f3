"""What a journal holds, as an episode file wants it: columns of ticks, and where each picture lies in the journal."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lefleet_agent.episode import EpisodeInfo, Outcome
from lefleet_agent.recording.journal import JournalReader, Notes, Picture
from lefleet_agent.recording.messages import EpisodeEnd
from lefleet_agent.recording.ticks import decode

type Array = npt.NDArray[np.generic]


class NothingRecordedError(Exception):
    """The journal holds no tick: there is no episode to make."""

    def __init__(self, message: str, damaged: bool) -> None:
        super().__init__(message)
        self.damaged = damaged
        """Whether it holds bytes that cannot be read."""


@dataclass(frozen=True, slots=True)
class Contents:
    """All of an episode but the pictures themselves, of which it says where they lie (250 bytes a tick)."""

    info: EpisodeInfo
    end: EpisodeEnd
    ticks: npt.NDArray[np.void]
    image_bytes: npt.NDArray[np.uint32]
    """Shape (ticks, cameras); 0 where a camera had no picture yet."""
    image_starts: npt.NDArray[np.int64]
    """Shape (ticks, cameras): the byte of the journal at which the picture begins."""


def noted(notes: Notes, end: EpisodeEnd) -> Contents:
    """Of a journal that this process wrote: nothing is read. Raises NothingRecordedError."""
    if not notes.places:
        raise NothingRecordedError("the episode ended before its first tick", damaged=False)
    ticks = decode(bytes(notes.ticks), notes.layout, notes.info.robot)
    places = np.array(notes.places, np.int64).reshape(len(notes.places), -1, 2)
    image_bytes = places[..., 0].astype(np.uint32) * ticks["images"]["seen"]
    return Contents(notes.info, end, ticks, image_bytes, places[..., 1])


def scanned(journal: Path, otherwise: EpisodeEnd | None) -> Contents:
    """Of any journal: all of it is read, and every checksum looked at. `otherwise` is the end of one that has none;
    without it such a journal is one that a crash cut off. Raises NothingRecordedError, OSError."""
    notes: Notes | None = None
    end: EpisodeEnd | None = None
    pictures: list[tuple[int, int, int]] = []
    reader = JournalReader(journal)
    for entry in reader:
        if isinstance(entry, EpisodeInfo):
            notes = Notes(entry, reader.tick_layout)
        elif isinstance(entry, Picture):
            pictures.append((entry.camera, len(entry.jpeg), entry.start_byte))
        elif isinstance(entry, EpisodeEnd):
            end = entry
        elif notes:
            notes.add(entry, pictures)
            pictures = []
    if notes is None or not notes.places:
        why = reader.damage or "the episode ended before its first"
        raise NothingRecordedError(f"{journal.name} holds no tick: {why}", damaged=reader.damage is not None)
    return noted(notes, end or otherwise or _cut_off(notes, reader.damage))


def _cut_off(notes: Notes, damage: str | None) -> EpisodeEnd:
    detail = f" (journal {damage})" if damage else ""
    last = decode(bytes(notes.ticks), notes.layout, notes.info.robot)[-1]
    return EpisodeEnd(Outcome.UNKNOWN, True, f"recovered after a crash{detail}", frames_dropped=int(last["dropped"]))


def columns(contents: Contents) -> dict[str, Array]:
    """Every dataset but the pictures, by path."""
    ticks, images = contents.ticks, contents.ticks["images"]
    found: dict[str, Array] = {
        "/action": ticks["sent"],
        "/action_requested": ticks["requested"],
        "/observations/qpos": ticks["joints"],
        "/observations/qvel": _velocity(ticks),
        "/held": ticks["held"],
        "/intervention": ticks["intervention"],
        "/time/inference_ns": ticks["inference_ns"],
        "/time/lateness_ns": ticks["lateness_ns"],
        "/time/monotonic_ns": ticks["tick_monotonic_ns"],
        "/time/observed_ns": ticks["observed_ns"],
        "/time/preprocess_ns": ticks["preprocess_ns"],
        "/time/read_ns": ticks["read_ns"],
        "/time/read_monotonic_ns": ticks["read_monotonic_ns"],
        "/time/send_ns": ticks["send_ns"],
        "/time/wall_ns": ticks["tick_wall_ns"],
    }
    if contents.info.robot.environment_size:
        found["/observations/environment"] = ticks["environment"]
    if contents.info.robot.cameras:
        found["/compress_len"] = contents.image_bytes.T.astype("<f4")
    for index, camera in enumerate(contents.info.robot.cameras):
        found[f"/observations/image_bytes/{camera}"] = contents.image_bytes[:, index].astype("<u4")
        found[f"/observations/image_seq/{camera}"] = images["seq"][:, index]
        found[f"/observations/image_monotonic_ns/{camera}"] = images["taken_monotonic_ns"][:, index]
        found[f"/observations/image_wall_ns/{camera}"] = images["taken_wall_ns"][:, index]
    return found


def _velocity(ticks: npt.NDArray[np.void]) -> Array:
    """Difference quotient of the joints to the tick before, a second; no sensor. ALOHA's readers ask for it."""
    velocity = np.zeros(ticks["joints"].shape, "f8")
    seconds = np.diff(ticks["read_monotonic_ns"])[:, np.newaxis] * 1e-9
    with np.errstate(all="ignore"):  # a robot that reads inf or NaN is recorded as it is
        moved = np.diff(ticks["joints"].astype("f8"), axis=0)
        np.divide(moved, seconds, out=velocity[1:], where=seconds > 0)
        return velocity.astype("<f4")


def stretches(marked: npt.NDArray[np.generic]) -> int:
    """How many unbroken runs of marked ticks there are."""
    return int((np.diff(marked.astype(np.int8), prepend=0) == 1).sum())


def hz_held(ticks: npt.NDArray[np.void]) -> float:
    """Control ticks a second from the first recorded to the last, the dropped ones counted; 0 for a single tick."""
    first, last = ticks[0], ticks[-1]
    seconds = (int(last["tick_monotonic_ns"]) - int(first["tick_monotonic_ns"])) * 1e-9
    return (int(last["number"]) - int(first["number"])) / seconds if seconds > 0 else 0.0
