"""Puts the dashboard on the application. The only place that touches NiceGUI's process-wide state."""

from fastapi import FastAPI
from nicegui import app as nicegui_app
from nicegui import ui

from lefleet_server.dashboard import (
    account,
    assets,
    audit,
    compare,
    ending,
    episode,
    episodes,
    errors,
    fleet,
    holds,
    jobs,
    login,
    people,
    person,
    robot,
    sets,
    storage,
    tokens,
)
from lefleet_server.dashboard.fleet_feed import FleetFeed
from lefleet_server.dashboard.guard import LoginRequired
from lefleet_server.dashboard.headers import ContentPolicy
from lefleet_server.services import Services


def mount(app: FastAPI, services: Services) -> None:
    """Adds every page below `/`; the API's routes must be there already. Does no I/O but reading its own files.

    Once per process: NiceGUI has one application per process.
    """
    assets.serve()
    login.register(services)
    errors.register()
    ending.register(services)
    feed = FleetFeed(services)  # one for all pages: the fleet is read once
    fleet.register(services, feed)
    robot.register(services, feed)
    for module in (episodes, episode, compare, sets, storage, holds, jobs, tokens, people, person, audit, account):
        module.register(services)
    nicegui_app.add_middleware(LoginRequired, services=services)
    nicegui_app.add_middleware(ContentPolicy)
    ui.run_with(
        app,
        title="LeFleet",
        favicon=assets.STATIC / "logo.svg",
        dark=True,
        language="en-US",
        reconnect_timeout=20,
        binding_refresh_interval=None,
        tailwind=False,
        show_welcome_message=False,
    )
