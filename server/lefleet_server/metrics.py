"""The server's own metrics, each declared once. One registry per app, so that tests can build many."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Everything /metrics shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.robots = Gauge(
            "lefleet_robots",
            "Robots by state as people see it, and site.",
            ["state", "site"],
            registry=self.registry,
        )
        self.episodes_received = Counter(
            "lefleet_episodes_received",
            "Episodes stored since this process started.",
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "lefleet_http_request_seconds",
            "Seconds from a request's first byte to its answer's last.",
            ["route", "code"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
            registry=self.registry,
        )
        self.db_pool_in_use = Gauge(
            "lefleet_db_pool_in_use", "Database connections checked out now.", registry=self.registry
        )

        self.jobs_queue_depth = Gauge(
            "lefleet_jobs_queue_depth", "Jobs queued or running.", ["queue"], registry=self.registry
        )
        self.job_oldest_age = Gauge(
            "lefleet_job_oldest_age_seconds",
            "Seconds since the oldest job that is queued or running was queued.",
            ["queue"],
            registry=self.registry,
        )
        self.jobs_dead = Gauge(
            "lefleet_jobs_dead", "Jobs given up, waiting for a person.", ["queue"], registry=self.registry
        )
        self.jobs_ended = Counter(
            "lefleet_jobs_ended",
            "Attempts at jobs since this worker started: done, failed (tried again later), put_off (not counted: the "
            "server's own trouble), dead, lost, handed_back.",
            ["queue", "result"],
            registry=self.registry,
        )
        self.job_seconds = Histogram(
            "lefleet_job_seconds",
            "Seconds that attempts at jobs took in this worker.",
            ["queue"],
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
            registry=self.registry,
        )

    def render(self) -> bytes:
        return generate_latest(self.registry)
