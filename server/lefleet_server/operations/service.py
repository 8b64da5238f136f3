"""Whether the server can do its work, and its numbers."""

import structlog
from sqlalchemy.exc import SQLAlchemyError

from lefleet_server import schema
from lefleet_server.db import why_not
from lefleet_server.jobs import queue
from lefleet_server.robots.service import count
from lefleet_server.services import Services

log = structlog.get_logger()


async def readiness(services: Services) -> dict[str, str]:
    """`ok` or what is wrong, for each thing the server needs."""
    return {
        "database": await _database(services),
        "blobs": await services.blobs.check(),
        "incoming": await services.incoming.check(),
    }


async def render_metrics(services: Services) -> bytes:
    """The server's metrics. Without the database the robots are left out, the rest still says how the server is."""
    metrics = services.metrics
    for gauge in (metrics.robots, metrics.jobs_queue_depth, metrics.job_oldest_age, metrics.jobs_dead):
        gauge.clear()
    try:
        async with services.db.session() as session:
            robots = await count(session, services.settings.offline_after_s)
            depths = await queue.depths(session)
    except (SQLAlchemyError, OSError) as error:
        log.warning("no robots in the metrics: the database does not answer", error=str(error)[:200])
    else:
        for (state, site), number in robots.items():
            metrics.robots.labels(state, site).set(number)
        for depth in depths:
            metrics.jobs_queue_depth.labels(depth.queue).set(depth.waiting)
            metrics.job_oldest_age.labels(depth.queue).set(depth.oldest_age_s)
            metrics.jobs_dead.labels(depth.queue).set(depth.dead)
    services.metrics.db_pool_in_use.set(services.db.in_use())
    return services.metrics.render()


async def _database(services: Services) -> str:
    try:
        await schema.require_current(services.db.engine, or_newer=True)
        await services.db.require_space()
    except (schema.SchemaError, SQLAlchemyError, OSError) as error:
        log.warning("not ready", database=str(error)[:300])
        return str(error) if isinstance(error, schema.SchemaError) else why_not(error)
    return "ok"
