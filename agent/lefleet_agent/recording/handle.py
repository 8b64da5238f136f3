"""Control's hold on its recorder: start it, start it again when it died, let it finish."""

import atexit
import multiprocessing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import structlog

from lefleet_agent.episode import EpisodeInfo, Frame, Observation, RobotInfo
from lefleet_agent.recording.events import EventCounter
from lefleet_agent.recording.ring import Ring
from lefleet_agent.recording.sink import RecorderError, Sink

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RecorderConfig:
    state_dir: Path
    """The robot's state folder; the recorder uses journal/, spool/ and run/ in it."""
    robot: RobotInfo
    jpeg_quality: int = 90
    ring_slots: int = 32
    sync_period_s: float = 0.7
    """How often the journal goes to the disk: so far below 1 s that a power cut costs a second with the wait in the
    ring and the sync itself included."""
    retry_period_s: float = 10.0
    """How long until a publication that failed (a full disk) is tried again."""
    before_event_s: float = 0.0
    """How many seconds of `Sink.watch` are kept in memory for `Sink.save_before`; 0: none."""
    hung_after_s: float = 60.0
    """Silence after which control counts as hung."""


class RecorderHandle:
    """Owned by the control process. Not thread-safe: the thread that ticks calls everything but `alive`."""

    def __init__(self, config: RecorderConfig, setup: Callable[[], None] | None = None) -> None:
        """`setup` runs first in the recorder process: a module-level function, for instance to configure logging."""
        self._config = config
        self._setup = setup
        self._process: SpawnProcess | None = None
        self._ring: Ring | None = None
        self._stop: EventCounter | None = None
        self.sink = Sink(config.robot, watches=config.before_event_s > 0)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, wait_s: float = 60.0) -> None:
        """Spawn the recorder and wait until it takes frames; it recovers journals meanwhile. Raises RecorderError."""
        from lefleet_agent.recording.child import child_main

        ring = Ring.create(self._config.robot, self._config.ring_slots)
        stop, ready = EventCounter.create(), EventCounter.create()
        process = multiprocessing.get_context("spawn").Process(
            target=child_main, args=(self._config, self._setup, ring, stop, ready), name="lefleet-recorder"
        )
        process.start()
        self._process, self._ring, self._stop = process, ring, stop
        started = wait([ready.fileno(), process.sentinel], wait_s)
        is_ready = ready.fileno() in started
        ready.close()
        if not is_ready:
            process.kill()
            process.join()
            why = f"exited with {process.exitcode}" if started else f"was not ready within {wait_s} s"
            raise RecorderError(f"the recorder process {why}; its log says more")
        self.sink.attach(ring, process.sentinel)
        # Interpreter exit joins child processes, and the recorder ends only when it is told to or its parent is gone.
        atexit.register(self.close)

    def ensure_alive(self) -> None:
        """Between episodes: start the recorder again if it died. Raises RecorderError."""
        if self.alive:
            return
        log.error("recorder died, starting it again", exitcode=self._process.exitcode if self._process else None)
        self._discard()
        self.start()

    def status(self, values: Mapping[str, object]) -> bool:
        """As `Sink.status`."""
        return self.sink.status(values)

    def preview(self, seen: Observation) -> bool:
        """As `Sink.preview`."""
        return self.sink.preview(seen)

    def watch(self, frame: Frame) -> bool:
        """As `Sink.watch`."""
        return self.sink.watch(frame)

    def save_before(self, event: str, info: EpisodeInfo) -> bool:
        """As `Sink.save_before`."""
        return self.sink.save_before(event, info)

    def close(self, wait_s: float = 60.0) -> None:
        """Let the recorder drain the ring and publish, then end it. An episode that did not end becomes interrupted."""
        atexit.unregister(self.close)
        if self._process is None or self._stop is None:
            return
        self._stop.add()
        self._process.join(wait_s)
        if self._process.is_alive():
            raise RecorderError(f"the recorder (process {self.pid}) still publishes after {wait_s} s; it goes on alone")
        self._discard()

    def _discard(self) -> None:
        self.sink.detach()
        if self._ring and self._stop:
            self._ring.close()
            self._stop.close()
        self._process = self._ring = self._stop = None
