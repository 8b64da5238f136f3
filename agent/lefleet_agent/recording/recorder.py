"""The recorder process: drains the ring into a journal, hands finished journals to its publisher, tells how the robot
is. Nothing it waits for (a disk, HDF5, SQLite) reaches control; when it is slow, the ring fills and ticks are counted
as dropped.

It ends when control asks for it or is gone, however that came about: it drains what is in the ring, publishes, exits.
A signal to the process group must not cost an episode, so it ignores SIGINT, SIGTERM and SIGHUP.
"""

import json
import multiprocessing
import select
import signal
import time
from dataclasses import replace
from pathlib import Path

import cv2
import structlog

from lefleet_agent.episode import EpisodeInfo, Outcome, Pixels
from lefleet_agent.metrics import RecorderMetrics, new_registry
from lefleet_agent.recording.before import Before, Kept, missing
from lefleet_agent.recording.events import EventCounter
from lefleet_agent.recording.handle import RecorderConfig
from lefleet_agent.recording.journal import JournalError, JournalWriter, Picture, remove_unborn
from lefleet_agent.recording.messages import EVENT, EpisodeEnd, decode_end, decode_info
from lefleet_agent.recording.publisher import Job, Publisher
from lefleet_agent.recording.ring import Kind, Ring, Slot
from lefleet_agent.recording.telemetry import Telemetry
from lefleet_agent.spool import Spool

log = structlog.get_logger()

TELEMETRY_PERIOD_S = 1.0
DRAIN_PERIOD_S = 0.1
"""Ticks are taken a few at a time: waking up for each costs a tenth of encoding it. Shorter where the ring would be
more than a quarter full by then."""


def run(config: RecorderConfig, ring: Ring, stop: EventCounter, ready: EventCounter) -> None:
    """The process's main function; returns when all is published."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)
    for folder in ("journal", "spool", "run/preview"):
        (config.state_dir / folder).mkdir(parents=True, exist_ok=True)
    registry = new_registry()
    metrics = RecorderMetrics(registry)
    journals = config.state_dir / "journal"
    remove_unborn(journals)
    publisher = Publisher(journals, Spool(config.state_dir / "spool"), metrics.episode, config.retry_period_s)
    telemetry = Telemetry(config.state_dir / "run", config.robot, registry, metrics, config.hung_after_s)
    recorder = Recorder(journals, config, publisher, telemetry)
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("the recorder follows its parent; start it through RecorderHandle")
    publisher.start()
    ready.add()
    asked = _drain_until_over(ring, recorder, stop, parent.sentinel)
    recorder.finish("the recorder was told to stop" if asked else "the control process died")
    log.info("recorder ends", asked=asked)


def _drain_until_over(ring: Ring, recorder: "Recorder", stop: EventCounter, parent_gone: int) -> bool:
    """Record until control stops or is gone; True when it asked for the end. The ring is empty then."""
    poll = select.poll()
    for fd in (stop.fileno(), parent_gone):
        poll.register(fd, select.POLLIN)
    ends: set[int] = set()
    behind = False
    while not ends:
        # Looked at before draining: what control committed before it ended is drained after.
        wait_s = min(DRAIN_PERIOD_S, ring.slots / 4 / recorder.fps)
        ends = {fd for fd, _ in poll.poll(0 if behind else wait_s * 1000)}
        behind = _drain(ring, recorder) > ring.slots // 4
        recorder.keep_time()
    return stop.fileno() in ends


def _drain(ring: Ring, recorder: "Recorder") -> int:
    """Record what the ring holds; returns how many slots that were."""
    count = 0
    while (slot := ring.take()) is not None:
        recorder.handle(slot)
        ring.release()
        recorder.keep_time()
        count += 1
    return count


class Recorder:
    """What the ring's slots mean, and what is due in between."""

    def __init__(self, journals: Path, config: RecorderConfig, publisher: Publisher, telemetry: Telemetry) -> None:
        self._journals = journals
        self._config = config
        self._publisher = publisher
        self._telemetry = telemetry
        self._before = Before(config.before_event_s)
        self.fps = 1.0
        """Ticks a second of the episode that began last."""
        self._episode: _Episode | None = None
        self._error: str | None = None
        self._sync_due = self._telemetry_due = time.monotonic()

    def handle(self, slot: Slot) -> None:
        """Take one slot in. Never raises for a disk's sake."""
        self._telemetry.heard(int(slot.header["dropped_total"]))
        match slot.kind:
            case Kind.TICK:
                self._tick(slot)
            case Kind.BEGIN:
                self._begin(decode_info(slot.message))
            case Kind.END:
                self._end(decode_end(slot.message))
            case Kind.STATUS:
                self._telemetry.status(json.loads(slot.message))
            case Kind.PREVIEW:
                self._preview(slot)
            case Kind.WATCH:
                self._watch(slot)
            case Kind.SAVE:
                self._save(decode_info(slot.message))

    def keep_time(self) -> None:
        """Sync and tell, if it is time."""
        now = time.monotonic()
        if now >= self._sync_due:
            self._sync_due = now + self._config.sync_period_s
            self._sync()
        if now >= self._telemetry_due:
            self._telemetry_due = now + TELEMETRY_PERIOD_S
            self._tell()

    def finish(self, reason: str) -> None:
        """Publish an episode that did not end as interrupted, and everything else, then return."""
        self._interrupt(reason)
        self._telemetry.status({"state": "stopped", "detail": reason})
        self._tell(last=True)
        self._publisher.finish()

    def _begin(self, info: EpisodeInfo) -> None:
        self._interrupt("the next episode began")
        self._before.forget()
        self._telemetry.begin(info)
        self.fps = info.fps
        try:
            self._episode = _Episode(JournalWriter.create(self._journals, info))
            self._error = None
        except JournalError as error:
            self._fail(error, info.episode_id)

    def _tick(self, slot: Slot) -> None:
        pictures, tick = self._pictures(slot), slot.tick.tobytes()
        if not self._write(slot, tick, pictures):
            self._telemetry.lost()
        self._telemetry.note(tick)
        for picture in pictures:
            self._telemetry.preview(picture.camera, picture.jpeg)

    def _write(self, slot: Slot, tick: bytes, pictures: list[Picture]) -> bool:
        """Into the journal; False when there is none that can be written."""
        episode = self._episode
        if episode is None:  # its journal could not be created
            return False
        if not episode.failed:
            try:
                episode.writer.add(tick, int(slot.tick["tick_wall_ns"]), pictures)
                episode.dropped = int(slot.tick["dropped"])
            except JournalError as error:
                self._lose(episode, error)
        episode.lost += bool(episode.failed)
        return not episode.failed

    def _end(self, end: EpisodeEnd) -> None:
        self._telemetry.end()
        episode, self._episode = self._episode, None
        if episode is None:  # its beginning failed; said so then
            return
        end = replace(end, frames_dropped=end.frames_dropped + episode.lost, ended_wall_ns=time.time_ns())
        if episode.failed:
            end = replace(end, interrupted=True, reason=f"recording failed: {episode.failed}")
        try:
            episode.writer.end(end)
        except JournalError as error:
            self._lose(episode, error)
            end = replace(end, interrupted=True, reason=f"recording failed: {episode.failed}")
        self._publisher.submit(Job(episode.writer.journal, end, None if episode.failed else episode.writer.notes))

    def _interrupt(self, reason: str) -> None:
        if self._episode:
            self._end(EpisodeEnd(Outcome.UNKNOWN, True, reason, frames_dropped=self._episode.dropped))

    def _watch(self, slot: Slot) -> None:
        pictures, tick = self._pictures(slot), slot.tick
        number, monotonic_ns, wall_ns = (int(tick[name]) for name in ("number", "tick_monotonic_ns", "tick_wall_ns"))
        self._before.add(Kept(tick.tobytes(), number, monotonic_ns, wall_ns, pictures))
        self._telemetry.see(tick["joints"])
        for picture in pictures:
            self._telemetry.preview(picture.camera, picture.jpeg)

    def _save(self, info: EpisodeInfo) -> None:
        """What was watched, as an episode: written at once, published like any other."""
        kept = self._before.take()
        if not kept:
            log.warning("nothing was watched before the event", event_name=info.extra[EVENT])
            return
        info = replace(info, started_wall_ns=kept[0].wall_ns, started_monotonic_ns=kept[0].monotonic_ns)
        end = EpisodeEnd(Outcome.UNKNOWN, False, f"the seconds before: {info.extra[EVENT]}", missing(kept))
        try:
            writer = JournalWriter.create(self._journals, info)
        except JournalError as error:
            self._fail(error, info.episode_id)
            return
        try:
            for tick in kept:
                writer.add(tick.tick, tick.wall_ns, tick.pictures)
            writer.end(end)
        except JournalError as error:
            self._fail(error, info.episode_id)
            end = replace(end, interrupted=True, reason=f"recording failed: {error}")
        self._publisher.submit(Job(writer.journal, end))

    def _preview(self, slot: Slot) -> None:
        self._telemetry.see(slot.tick["joints"])
        for index, image in enumerate(slot.images):
            if int(slot.header["new_images"]) >> index & 1 and self._telemetry.wants_preview(index):
                self._telemetry.preview(index, encode(image, self._config.jpeg_quality))

    def _pictures(self, slot: Slot) -> list[Picture]:
        """The slot's new images as JPEG."""
        new, stamps = int(slot.header["new_images"]), slot.tick["images"]
        return [
            Picture(
                index,
                int(stamps[index]["seq"]),
                int(stamps[index]["taken_wall_ns"]),
                encode(image, self._config.jpeg_quality),
            )
            for index, image in enumerate(slot.images)
            if new >> index & 1
        ]

    def _sync(self) -> None:
        if self._episode and not self._episode.failed:
            try:
                self._episode.writer.sync()
            except JournalError as error:
                self._lose(self._episode, error)

    def _tell(self, last: bool = False) -> None:
        if not self._publisher.alive:  # its traceback is in the log; control starts another recorder
            raise RuntimeError("the publisher thread ended")
        self._telemetry.write(self._error or self._publisher.error, self._publisher.stats, last)

    def _lose(self, episode: "_Episode", error: JournalError) -> None:
        """The rest of this episode cannot be recorded; what was, is kept."""
        episode.failed = str(error)
        self._fail(error, episode.writer.journal.episode_id)

    def _fail(self, error: JournalError, episode_id: str) -> None:
        self._error = str(error)
        log.error("recording failed, the rest of the episode is lost", episode_id=episode_id, reason=self._error)


class _Episode:
    """The episode being recorded."""

    def __init__(self, writer: JournalWriter) -> None:
        self.writer = writer
        self.failed = ""
        """Why its ticks no longer reach the disk."""
        self.dropped = 0
        """Ticks that control dropped, as the last recorded tick knew."""
        self.lost = 0
        """Ticks that came here and could not be written."""


def encode(image: Pixels, quality: int) -> memoryview:
    """JPEG of an RGB image, as every reader expects it (OpenCV's own order is BGR)."""
    done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"OpenCV cannot encode an image of shape {image.shape}, {image.dtype}")
    return jpeg.data
