"""`lefleet-server worker`: builds a worker from the settings and runs it until SIGTERM or SIGINT."""

import asyncio
import signal

from prometheus_client import start_http_server

from lefleet_server import analysis
from lefleet_server.analysis.service import Analyser
from lefleet_server.config import Settings
from lefleet_server.db import Database
from lefleet_server.jobs.worker import Worker
from lefleet_server.metrics import Metrics
from lefleet_server.storage import BlobStore


async def run(settings: Settings, db: Database, blobs: BlobStore, concurrency: int) -> None:
    metrics = Metrics()
    handlers = {analysis.QUEUE: Analyser(db, blobs, settings.analysis_timeout_s)}
    worker = Worker(settings, db, handlers, metrics, concurrency)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    if settings.worker_metrics_port:
        start_http_server(settings.worker_metrics_port, settings.worker_metrics_host, metrics.registry)
    await worker.run()
