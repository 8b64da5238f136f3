"""The courier process: everything that talks to the server, each talk in a thread of its own."""

import json
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import structlog

from lefleet_agent.config import Courier as CourierSettings
from lefleet_agent.courier.api import Rejected, Retryable, ServerApi, Unauthorised, UploadGone
from lefleet_agent.courier.heartbeat import Report
from lefleet_agent.courier.uploads import Uploader
from lefleet_agent.files import replace
from lefleet_agent.liveness import UNTIL, Pulse

log = structlog.get_logger()

UPLOAD_POLL_S = 0.5
TELL_S = 1.0
SILENT_S = 30.0
TALK_S = 600.0
"""Longest silence of a thread that talks to the server: many requests, each with a limit of its own."""
RETRY_FIRST_S = 0.5


class Courier:
    """Runs until `stop` is set. One thread's failure ends them all, so that the supervisor sees it."""

    def __init__(
        self,
        api: ServerApi,
        uploader: Uploader,
        report: Report,
        metrics: Callable[[], str],
        tell: "CourierFile",
        settings: CourierSettings,
        stop: threading.Event,
    ) -> None:
        self._api = api
        self._uploader = uploader
        self._report = report
        self._metrics = metrics
        self._tell = tell
        self._settings = settings
        self._stop = stop

    def run(self) -> None:
        tasks: dict[str, Callable[[], float]] = {
            "heartbeat": self._heartbeat,
            "pictures": self._pictures,
            "upload": self._uploads,
            "tell": self._tell,
        }
        web = metrics_server(self._settings.metrics_host, self._settings.metrics_port, self.exposition)
        log.info("courier runs", metrics_port=web.server_address[1])
        with ThreadPoolExecutor(len(tasks) + 1, "courier") as pool:
            served = pool.submit(web.serve_forever, 0.2)
            try:
                done, _ = wait(
                    [served, *(pool.submit(self._repeat, what, task) for what, task in tasks.items())],
                    return_when=FIRST_COMPLETED,
                )
            finally:
                self._stop.set()
                web.shutdown()
            for task in done:
                task.result()
        web.server_close()

    def exposition(self) -> str:
        """Every metric of this robot, Prometheus text format."""
        return self._report.control_metrics() + self._metrics()

    def _heartbeat(self) -> float:
        reply = self._api.heartbeat(self._report.heartbeat(self.exposition()))
        return float(reply["interval_s"])

    def _pictures(self) -> float:
        for name, jpeg in self._report.previews().items():
            self._api.put_camera(name, jpeg)
        return self._settings.camera_s

    def _uploads(self) -> float:
        return 0.0 if self._uploader.step() else UPLOAD_POLL_S

    def _repeat(self, what: str, action: Callable[[], float]) -> None:
        """Call again and again with the pause that it asks for; the server's troubles lengthen it to `retry_max_s`."""
        failures = 0
        while not self._stop.is_set():
            self._tell.pulse.expect(what, TALK_S)
            try:
                pause_s = action()
                if failures:
                    log.info("the server answers again", what=what, failures=failures)
                failures = 0
            except (Retryable, Unauthorised, UploadGone, Rejected) as error:
                failures += 1
                pause_s = backoff_s(failures, RETRY_FIRST_S, self._settings.retry_max_s)
                log.warning("will try again", what=what, failures=failures, pause_s=round(pause_s, 1), error=str(error))
            self._tell.pulse.expect(what, pause_s + TALK_S)
            self._stop.wait(pause_s)


class CourierFile:
    """`run/courier.json`: courier_pid, wall_ns, and until when the courier counts as alive (lefleet_agent.liveness)."""

    def __init__(self, path: Path, pulse: Pulse) -> None:
        self.pulse = pulse
        self._path = path
        self._trouble = ""

    def __call__(self) -> float:
        """Write it; returns when to write it again, seconds."""
        values = {"courier_pid": os.getpid(), "wall_ns": time.time_ns(), UNTIL: self.pulse.until_ns(SILENT_S)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace(self._path, json.dumps(values).encode())
            self._trouble = ""
        except OSError as error:
            trouble = str(error.strerror)
            if trouble != self._trouble:  # once, not every second: a full disk must not end the uploads that free it
                log.error("cannot write how the courier is", path=str(self._path), reason=trouble)
            self._trouble = trouble
        return TELL_S


def backoff_s(failures: int, first_s: float, longest_s: float) -> float:
    """Full jitter: thirty robots that lost the server together must not come back together."""
    return random.uniform(0.5, 1.0) * min(longest_s, first_s * 2.0 ** min(failures, 16))  # noqa: S311 - no secret


def metrics_server(host: str, port: int, exposition: Callable[[], str]) -> ThreadingHTTPServer:
    """A server for /metrics, and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.split("?")[0] == "/metrics"
            body = exposition().encode() if found else b"only /metrics is here\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            log.debug("metrics served", request=format % args)

    return ThreadingHTTPServer((host, port), Handler)
