"""What the control thread calls to be recorded. `add` never waits."""

import json
import select
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

import numpy as np

from lefleet_agent.episode import CameraImage, EpisodeInfo, Frame, Observation, Outcome, RobotInfo
from lefleet_agent.recording.messages import EVENT, EpisodeEnd, encode_end, encode_info
from lefleet_agent.recording.ring import Kind, Ring, Slot


class RecorderError(Exception):
    """Nothing can be recorded now: the message says why and what helps."""


class RobotState(StrEnum):
    """What the robot is doing, as control tells it."""

    CONNECTING = "connecting"
    LOADING = "loading"
    RESETTING = "resetting"
    RUNNING = "running"
    IDLE = "idle"
    SPOOL_FULL = "spool_full"
    DRAINED = "drained"
    PARKING = "parking"
    ESTOPPED = "estopped"
    ERROR = "error"
    STOPPED = "stopped"


class Sink:
    """The writer's end of the ring. One thread only."""

    def __init__(self, robot: RobotInfo, watches: bool = False) -> None:
        """`watches`: the recorder keeps what `watch` tells it."""
        self._robot = robot
        self._cameras = tuple(enumerate(robot.cameras))
        self._ring: Ring | None = None
        self._recorder_gone = -1
        self._sent_seq: list[int | None] = [None] * len(self._cameras)
        self._watches = watches
        self._watched = 0
        self._number = 0
        self._dropped = 0
        self._dropped_total = 0

    @property
    def dropped_total(self) -> int:
        """Ticks dropped since the process started."""
        return self._dropped_total

    def attach(self, ring: Ring, recorder_gone: int) -> None:
        """Write into this ring from now on; the file descriptor `recorder_gone` turns readable when its reader died."""
        self._ring = ring
        self._recorder_gone = recorder_gone
        self._forget_images()

    def detach(self) -> None:
        """There is no ring any more; whatever must be recorded raises RecorderError from now on."""
        self._ring = None

    def begin(self, info: EpisodeInfo, wait_s: float = 5.0) -> None:
        """Start an episode. Waits for a slot: call it while the arm rests. Raises RecorderError, then nothing began."""
        if info.robot != self._robot:
            raise ValueError(f"the episode is of {info.robot}, but this sink was made for {self._robot}")
        self._message(Kind.BEGIN, encode_info(info), wait_s)
        self._number = self._dropped = 0
        self._forget_images()

    def add(self, frame: Frame) -> bool:
        """Record one tick; False when the ring was full and the tick is dropped and counted. Never waits.

        Copies what it keeps: the frame's arrays may be used again at once."""
        number = self._number
        self._number += 1
        slot = self._attached.claim()
        if slot is None:
            self._dropped += 1
            self._dropped_total += 1
            return False
        self._fill(slot, frame, number)
        self._commit(slot, Kind.TICK)
        return True

    def end(self, outcome: Outcome, interrupted: bool, reason: str, wait_s: float = 5.0) -> None:
        """End the episode. Waits for a slot. Raises RecorderError; the episode is then recovered as interrupted."""
        end = EpisodeEnd(outcome, interrupted, reason, frames_dropped=self._dropped)
        self._message(Kind.END, encode_end(end), wait_s)
        self._dropped = 0
        self._forget_images()

    def watch(self, frame: Frame) -> bool:
        """While no episode runs, instead of `preview`: keep this tick in memory for a while, see `save_before`. False
        when it cannot be now or nothing is kept (`recording.before_event_s` is 0). Never waits; copies like `add`."""
        slot = self._room() if self._watches else None
        self._watched += 1
        if slot is None:
            return False
        self._fill(slot, frame, self._watched - 1)
        self._commit(slot, Kind.WATCH)
        return True

    def save_before(self, event: str, info: EpisodeInfo) -> bool:
        """Record what was watched last as an episode of its own: `info`'s, begun at its first tick, outcome unknown,
        `extra` saying `before_event`. False when that cannot be asked for now; never waits."""
        slot = self._room() if self._watches else None
        if slot is None:
            return False
        marked = replace(info, extra=info.extra | {EVENT: event})
        self._write(slot, Kind.SAVE, encode_info(marked))
        self._forget_images()
        return True

    def status(self, values: Mapping[str, object]) -> bool:
        """Tell what no frame tells: `state` (a RobotState), `detail`, `task`, `policy` (repo, commit, digest, type) or
        None, `arm` (an ArmHealth's fields). Replaces what was told before, by name. False when it cannot be told now;
        never waits. Raises ValueError for an unknown state."""
        if "state" in values:
            RobotState(str(values["state"]))
        slot = self._room()
        if slot is None:
            return False
        self._write(slot, Kind.STATUS, json.dumps(dict(values)).encode())
        return True

    def preview(self, seen: Observation) -> bool:
        """Show pictures and joints without recording them, while no episode runs; False when they cannot be now."""
        slot = self._room()
        if slot is None:
            return False
        slot.tick["joints"] = seen.joints
        self._copy_images(slot, seen.images)
        self._commit(slot, Kind.PREVIEW)
        if self._watches:  # a tick that is watched must find its pictures among those that were
            self._forget_images()
        return True

    def _room(self) -> Slot | None:
        """The slot to fill next; None when the ring is full or there is none."""
        return self._ring.claim() if self._ring else None

    def _fill(self, slot: Slot, frame: Frame, number: int) -> None:
        tick, seen = slot.tick, frame.observation
        tick["number"] = number
        tick["dropped"] = self._dropped
        tick["tick_monotonic_ns"] = frame.tick_monotonic_ns
        tick["tick_wall_ns"] = frame.tick_wall_ns
        tick["read_monotonic_ns"] = seen.read_monotonic_ns
        tick["lateness_ns"] = frame.lateness_ns
        tick["inference_ns"] = frame.inference_ns
        tick["preprocess_ns"] = frame.preprocess_ns
        tick["read_ns"] = frame.read_ns
        tick["send_ns"] = frame.send_ns
        tick["observed_ns"] = frame.observed_ns
        tick["held"] = frame.held
        tick["intervention"] = frame.intervention
        tick["joints"] = seen.joints
        tick["environment"] = np.nan if seen.environment is None else seen.environment
        tick["requested"] = frame.requested
        tick["sent"] = frame.sent
        self._copy_images(slot, seen.images)

    def _copy_images(self, slot: Slot, images: dict[str, CameraImage]) -> None:
        """Pictures the recorder has not got yet. One that a dropped tick would have carried goes with the next."""
        new = 0
        sent = list(self._sent_seq)
        stamps = slot.tick["images"]
        for index, camera in self._cameras:
            image = images.get(camera)
            if image is None:
                stamps[index] = (0, 0, 0, 0)
                continue
            stamps[index] = (1, image.seq, image.taken_monotonic_ns, image.taken_wall_ns)
            if image.seq != self._sent_seq[index]:
                np.copyto(slot.images[index], image.rgb)
                sent[index] = image.seq
                new |= 1 << index
        slot.header["new_images"] = new
        self._sent_seq = sent

    def _forget_images(self) -> None:
        """The next tick carries every camera's picture: a journal refers to no other journal's."""
        self._sent_seq = [None] * len(self._cameras)

    def _message(self, kind: Kind, message: bytes, wait_s: float) -> None:
        self._wait_for_slot(wait_s)
        slot = self._attached.claim()
        if slot is None:
            raise RecorderError("the ring filled up again at once; call from one thread only")
        self._write(slot, kind, message)

    def _write(self, slot: Slot, kind: Kind, message: bytes) -> None:
        if len(message) > len(slot.payload):
            raise ValueError(f"a {kind.name} message of {len(message)} bytes does not fit {len(slot.payload)} bytes")
        slot.payload[: len(message)] = np.frombuffer(message, np.uint8)
        slot.header["payload_bytes"] = len(message)
        self._commit(slot, kind)

    def _commit(self, slot: Slot, kind: Kind) -> None:
        slot.header["kind"] = kind
        slot.header["dropped_total"] = self._dropped_total
        self._attached.commit()

    @property
    def _attached(self) -> Ring:
        if self._ring is None:
            raise RecorderError("the recorder does not run; call RecorderHandle.start() first")
        return self._ring

    def _wait_for_slot(self, wait_s: float) -> None:
        ring = self._attached
        poll = select.poll()
        poll.register(ring.free, select.POLLIN)
        poll.register(self._recorder_gone, select.POLLIN)
        ready = dict(poll.poll(0 if ring.has_room else wait_s * 1000))
        if self._recorder_gone in ready:
            raise RecorderError("the recorder process died; RecorderHandle.ensure_alive() starts it again")
        if not ring.has_room:
            raise RecorderError(f"the recorder took nothing for {wait_s} s; its disk may hang, see its log")
