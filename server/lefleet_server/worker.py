"""`lefleet-server worker`: builds a worker from the settings and runs it until SIGTERM or SIGINT."""

import asyncio
import signal
from contextlib import suppress

from prometheus_client import start_http_server

from lefleet_server import analysis, housekeeping, previews
from lefleet_server.analysis.service import Analyser
from lefleet_server.config import Settings
from lefleet_server.db import Database
from lefleet_server.episodes import stores
from lefleet_server.jobs.worker import Handler, Worker
from lefleet_server.metrics import Metrics
from lefleet_server.previews.service import Previewer
from lefleet_server.storage import BlobStore
from lefleet_server.threads import in_thread


class MetricsPortError(Exception):
    """The metrics cannot be shown at their port; the message says why and what to do."""


async def run(settings: Settings, db: Database, blobs: BlobStore, concurrency: int, metrics_port: int) -> None:
    """Does `concurrency` jobs at a time; `metrics_port` 0: shows no metrics. Raises MetricsPortError."""
    metrics = Metrics()
    await in_thread(stores.prepare, settings)
    handlers: dict[str, Handler] = {
        analysis.QUEUE: Analyser(db, blobs, settings.analysis_timeout_s),
        previews.QUEUE: Previewer(db, blobs, stores.making(settings), settings.preview_timeout_s),
    }
    worker = Worker(settings, db, handlers, metrics, concurrency)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    if metrics_port:
        _show(metrics, settings.worker_metrics_host, metrics_port)
    keeper = asyncio.create_task(housekeeping.keep(settings, db, blobs, worker.name))
    # It ends before it is told to only by a fault of ours: the process ends then and is started again.
    keeper.add_done_callback(lambda _: worker.stop())
    try:
        await worker.run()
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper


def _show(metrics: Metrics, host: str, port: int) -> None:
    try:
        start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise MetricsPortError(
            f"worker_metrics_port: {port} on {host}: {error.strerror}; choose another one, or 0 for none"
        ) from error
