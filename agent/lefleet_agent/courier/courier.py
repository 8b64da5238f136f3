"""The courier process: everything that talks to the server, each talk in a thread of its own."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from functools import partial

import structlog

from lefleet_agent.config import Courier as CourierSettings
from lefleet_agent.courier.api import ServerApi
from lefleet_agent.courier.errors import ServerError
from lefleet_agent.courier.exposition import metrics_server
from lefleet_agent.courier.heartbeat import Report
from lefleet_agent.courier.losses import LossCheck
from lefleet_agent.courier.pace import backoff_s
from lefleet_agent.courier.renewal import Renewal
from lefleet_agent.courier.room import Room
from lefleet_agent.courier.state import CourierFile
from lefleet_agent.courier.uploads import Uploader
from lefleet_agent.courier.wishes import Wishes
from lefleet_agent.metrics import CourierMetrics
from lefleet_agent.spool import SpoolError

log = structlog.get_logger()

UPLOAD_POLL_S = 0.5
TALK_S = 600.0
"""Longest silence of a thread that talks to the server: many requests, each with a limit of its own."""
RETRY_FIRST_S = 0.5
LOOK_UP_S = 0.5
GRACE_S = 3.0
"""When it is told to end: first for what is under way, then for what was cut off."""


class Courier:
    """Runs until `stop` is set. One thread's failure ends them all, so that the supervisor sees it."""

    def __init__(
        self,
        api: ServerApi,
        uploader: Uploader,
        losses: LossCheck,
        wishes: Wishes,
        renewal: Renewal,
        room: Room,
        report: Report,
        metrics: CourierMetrics,
        tell: CourierFile,
        settings: CourierSettings,
        stop: threading.Event,
    ) -> None:
        self._api = api
        self._uploader = uploader
        self._losses = losses
        self._wishes = wishes
        self._renewal = renewal
        self._room = room
        self._report = report
        self._metrics = metrics
        self._tell = tell
        self._settings = settings
        self._stop = stop
        self._watched = False
        self._pictures_due_s = 0.0

    def run(self) -> None:
        """Ends within ten seconds of `stop`, whatever the server does: what is cut off goes on at the next start."""
        tasks: dict[str, Callable[[], float]] = {
            "heartbeat": self._heartbeat,
            "wishes": self._obey,
            "pictures": self._pictures,
            "upload": self._uploads,
            "receipts": self._receipts,
            "credential": self._renewal,
            "spool": self._room,
            "tell": self._tell,
        }
        web = metrics_server(self._settings.metrics_host, self._settings.metrics_port, self.exposition)
        log.info("courier runs", metrics_port=web.server_address[1])
        ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        threads = [self._thread("web", partial(web.serve_forever, 0.2), ended)]
        threads += [self._thread(what, partial(self._repeat, what, task), ended) for what, task in tasks.items()]
        failure = _first(ended)
        self._stop.set()
        web.shutdown()
        self._end(threads)
        web.server_close()
        if failure:
            raise failure

    def exposition(self) -> str:
        """Every metric of this robot, Prometheus text format."""
        if self._api.clock_offset_s is not None:
            self._metrics.clock_offset.set(self._api.clock_offset_s)
        return self._report.control_metrics() + self._metrics.exposition()

    def _heartbeat(self) -> float:
        reply = self._api.heartbeat(self._report.heartbeat(self.exposition()))
        self._losses.heard(reply.instance)
        self._watched = reply.watched
        return reply.interval_s

    def _obey(self) -> float:
        pause_s = self._wishes()
        if self._wishes.settling:  # somebody looks at the dashboard to see the arm hold still
            self._api.heartbeat(self._report.heartbeat(self.exposition()))
        return pause_s

    def _pictures(self) -> float:
        if not self._quiet() and (self._watched or time.monotonic() >= self._pictures_due_s):
            for name, jpeg in self._report.previews().items():
                self._api.put_camera(name, jpeg)
                self._pictures_due_s = time.monotonic() + self._settings.camera_unwatched_s
        return self._settings.camera_s

    def _uploads(self) -> float:
        return 0.0 if not self._quiet() and self._uploader.step() else UPLOAD_POLL_S

    def _receipts(self) -> float:
        return UPLOAD_POLL_S if self._quiet() else self._losses()

    def _quiet(self) -> bool:
        return self._settings.quiet_while_running and self._report.running()

    def _repeat(self, what: str, action: Callable[[], float]) -> None:
        """Call again and again with the pause that it asks for.

        Trouble with the server or the disk lengthens it, up to `retry_max_s` or as long as the server asks.
        """
        failures = 0
        while not self._stop.is_set():
            self._tell.pulse.expect(what, TALK_S)
            try:
                pause_s = action()
                if failures:
                    log.info("it works again", what=what, failures=failures)
                failures = 0
                self._tell.trouble.pop(what, None)
            except (ServerError, SpoolError, OSError) as error:
                failures += 1
                pause_s = self._failed(what, failures, error)
            self._tell.pulse.expect(what, pause_s + TALK_S)
            self._stop.wait(pause_s)

    def _failed(self, what: str, failures: int, error: Exception) -> float:
        """How long to wait after a failure."""
        pause_s = backoff_s(failures, RETRY_FIRST_S, self._settings.retry_max_s)
        if isinstance(error, ServerError) and error.retry_after_s is not None:
            pause_s += error.retry_after_s  # the jitter stays: all robots were told the same
        self._tell.trouble[what] = str(error)
        self._metrics.retries.labels(what).inc()
        if not self._stop.is_set():
            log.warning("will try again", what=what, failures=failures, pause_s=round(pause_s, 1), error=str(error))
        return pause_s

    def _thread(
        self, what: str, work: Callable[[], None], ended: "queue.SimpleQueue[BaseException | None]"
    ) -> threading.Thread:
        def guarded() -> None:
            failure = None
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - top of the thread: raised again where the process ends
                failure = error
            ended.put(failure)

        # A daemon: the process must be able to end while a name server, say, keeps one waiting.
        thread = threading.Thread(target=guarded, name=f"courier-{what}", daemon=True)
        thread.start()
        return thread

    def _end(self, threads: list[threading.Thread]) -> None:
        self._wishes.hang_up()  # the server keeps that question as long as it may
        for hang_up in (self._hang_up, lambda: None):
            until_s = time.monotonic() + GRACE_S
            for thread in threads:
                thread.join(max(0.0, until_s - time.monotonic()))
            hang_up()
        if left := [thread.name for thread in threads if thread.is_alive()]:
            log.warning("ends without waiting any longer", threads=left)

    def _hang_up(self) -> None:
        self._api.hang_up()
        self._wishes.hang_up()


def _first(ended: "queue.SimpleQueue[BaseException | None]") -> BaseException | None:
    """How the first thread ended. Looks up now and then: Python's handler of a signal that comes between its last look
    and the system call that waits would only run when the wait is over."""
    while True:
        with contextlib.suppress(queue.Empty):
            return ended.get(timeout=LOOK_UP_S)
