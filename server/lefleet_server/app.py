"""Builds the whole server from its settings. Building touches nothing; the lifespan does."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog
from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from lefleet_server import __version__, problems
from lefleet_server.accounts import oidc_routes as oidc
from lefleet_server.accounts import people_routes as people
from lefleet_server.accounts import routes as accounts
from lefleet_server.accounts.provider import Provider
from lefleet_server.alerts import Alerts
from lefleet_server.audit import routes as audit
from lefleet_server.comparison import routes as comparison
from lefleet_server.config import Settings
from lefleet_server.db import FAILURES, Database
from lefleet_server.deletion import files
from lefleet_server.deletion import routes as deletion
from lefleet_server.episodes import ingest, stores, uploads
from lefleet_server.episodes import routes as episodes
from lefleet_server.episodes import usage_routes as storage
from lefleet_server.episodes.readers import Readers
from lefleet_server.episodes.reception import Reception
from lefleet_server.episodes.validation import READER
from lefleet_server.exports import routes as exports
from lefleet_server.exports.exporter import Exporter
from lefleet_server.jobs import routes as jobs
from lefleet_server.limits import API, Limits
from lefleet_server.metrics import Metrics
from lefleet_server.middleware import Observed
from lefleet_server.operations import routes as operations
from lefleet_server.previews import routes as previews
from lefleet_server.retention import routes as retention
from lefleet_server.robots import notes_routes as notes
from lefleet_server.robots import routes as robots
from lefleet_server.robots.beats import Beats
from lefleet_server.robots.exposition import Lines
from lefleet_server.robots.fleet import Fleet
from lefleet_server.robots.shortcut import Shortcut
from lefleet_server.robots.watches import Watches
from lefleet_server.robots.wishes import Wishes
from lefleet_server.services import Services
from lefleet_server.sets import routes as sets
from lefleet_server.threads import in_thread
from lefleet_server.views import routes as views

_SWEEP_S = 3600
log = structlog.get_logger()


def build_services(settings: Settings) -> Services:
    db, instance = Database(settings), uuid.uuid4().hex
    place = stores.build(settings, db, instance)
    return Services(
        settings=settings,
        db=db,
        blobs=place.blobs,
        incoming=place.incoming,
        reception=Reception(settings.upload_memory_bytes),
        reader=Readers(READER),
        exports=Exporter(place.blobs, stores.making(settings), settings.exports_at_once, settings.export_timeout_s),
        metrics=Metrics(),
        wishes=Wishes(db),
        watches=Watches(db, settings.heartbeat_interval_s),
        beats=Beats(db),
        robot_lines=Lines(),
        alerts=Alerts(settings.prometheus_url),
        fleet=Fleet(settings.offline_after_s),
        oidc=Provider(settings) if settings.oidc_issuer else None,
        instance=instance,
    )


class _App(FastAPI):
    """FastAPI behind a way in that may answer by itself."""

    way_in: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.way_in(scope, receive, send)

    async def ordinary_way(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)


def create_app(settings: Settings, *, dashboard: bool = True) -> FastAPI:
    """The application. With `dashboard` once per process only: NiceGUI keeps its app in the module."""
    services = build_services(settings)
    app = _App(
        title="LeFleet",
        version=__version__,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        responses={
            "default": {
                "description": "A problem (RFC 9457)",
                "model": problems.ProblemDocument,
                "content": {problems.MEDIA_TYPE: {}},
            },
            422: {
                "description": "A field is wrong; `errors` names it",
                "model": problems.ProblemDocument,
                "content": {problems.MEDIA_TYPE: {}},
            },
        },
    )
    app.state.services = services
    problems.install(app)
    app.add_middleware(Limits, idle_s=settings.request_idle_s)
    app.add_middleware(Observed, metrics=services.metrics, https=settings.secure_cookies)
    app.way_in = Shortcut(
        app.ordinary_way,
        beats=services.beats,
        watches=services.watches,
        metrics=services.metrics,
        https=settings.secure_cookies,
        idle_s=settings.request_idle_s,
        instance=services.instance,
    )
    app.include_router(_api())
    app.include_router(operations.root)
    if dashboard:
        # Here, because the pages bring NiceGUI, which the API and its tests do without.
        from lefleet_server.dashboard import mount  # noqa: PLC0415

        mount(app, services)
    return app


def openapi_document() -> str:
    """The API's description as committed in docs/openapi.json."""
    app = create_app(Settings(state_dir=Path("state")), dashboard=False)
    return json.dumps(app.openapi(), indent=2, sort_keys=True) + "\n"


def _api() -> APIRouter:
    api = APIRouter(prefix=API)
    for part in (
        accounts.router,
        views.router,
        oidc.router,
        people.router,
        audit.router,
        robots.router,
        notes.router,
        episodes.router,
        comparison.router,
        sets.router,
        uploads.router,
        storage.router,
        jobs.router,
        previews.router,
        exports.router,
        deletion.router,
        retention.router,
        operations.router,
    ):
        api.include_router(part)
    return api


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    await in_thread(stores.prepare, services.settings)
    learner = asyncio.create_task(_learn(services))
    sweeper = asyncio.create_task(_sweep(services))
    try:
        yield
    finally:
        for task in (learner, sweeper):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await services.alerts.close()
        await services.reader.close()
        await services.db.close()


async def _learn(services: Services) -> None:
    try:
        await services.beats.learn()
    except FAILURES as error:
        log.warning("robots are known one by one, as they speak", error=str(error)[:200])


async def _sweep(services: Services) -> None:
    while True:
        try:
            await ingest.sweep(services)
            await files.remove_due(services.db, services.blobs)
        except Exception as error:  # Top of a task: if it ended, nobody would notice until the disk is full.
            log.error("uploads and superfluous files not looked through; next try in an hour", exc_info=error)
        await asyncio.sleep(_SWEEP_S)
