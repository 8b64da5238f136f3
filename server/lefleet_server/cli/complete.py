"""What Tab offers. The server is asked for names; none, and no word, when it does not answer soon."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import typer

from lefleet_server.cli import fleet, profiles
from lefleet_server.cli.client import Api
from lefleet_server.cli.failures import Failure
from lefleet_server.cli.output import Item, clean, local

_WAIT_S = 1.5
"""A person who pressed Tab waits no longer."""
_EPISODES = 50
"""The newest, of which one is most often meant; more would fill the screen."""


def robots(ctx: typer.Context, incomplete: str) -> list[str]:
    return _names(ctx, incomplete, "/robots", lambda robot: robot["id"])


def sites(ctx: typer.Context, incomplete: str) -> list[str]:
    return _names(ctx, incomplete, "/robots", lambda robot: robot["site"])


def states(ctx: typer.Context, incomplete: str) -> list[str]:
    return _names(ctx, incomplete, "/robots", lambda robot: robot["state"])


def running(ctx: typer.Context, incomplete: str) -> list[str]:
    """Policies that robots run now."""
    return _names(ctx, incomplete, "/robots", fleet.repo)


def releases(ctx: typer.Context, incomplete: str) -> list[str]:
    """Releases that robots run now."""
    return _names(ctx, incomplete, "/robots", lambda robot: fleet.release(robot) if fleet.repo(robot) else "")


def policies(ctx: typer.Context, incomplete: str) -> list[str]:
    """Those of which there are episodes."""
    return _names(ctx, incomplete, "/policies", lambda policy: policy["name"])


def sets(ctx: typer.Context, incomplete: str) -> list[str]:
    return _names(ctx, incomplete, "/sets", lambda made: made["name"])


def views(ctx: typer.Context, incomplete: str) -> list[str]:
    return _names(ctx, incomplete, "/me/views", lambda view: view["name"])


def rules(ctx: typer.Context, incomplete: str) -> list[str]:
    return _names(ctx, incomplete, "/retention/rules", lambda rule: rule["name"])


def people(ctx: typer.Context, incomplete: str) -> list[str]:
    return _names(ctx, incomplete, "/users", lambda user: user["username"])


def robot_cameras(ctx: typer.Context, incomplete: str) -> list[str]:
    """Of the robot that stands before it."""
    return _cameras(ctx, incomplete, "/robots/{name}", "robot")


def episode_cameras(ctx: typer.Context, incomplete: str) -> list[str]:
    """Of the episode that stands before it."""
    return _cameras(ctx, incomplete, "/episodes/{name}", "episode")


def episodes(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The newest ones, with what they are where a shell shows that."""
    found = _asked(ctx, lambda api: api.get("/episodes", {"limit": _EPISODES})["items"])
    return [(each["id"], _about(each)) for each in found if each["id"].startswith(incomplete)]


def orders(incomplete: str) -> list[str]:
    return [name for name in fleet.ORDERS if name.startswith(incomplete)]


def profile_names(incomplete: str) -> list[str]:
    try:
        return [name for name in profiles.Profiles.load(profiles.place()).profiles if name.startswith(incomplete)]
    except Failure:
        return []


def _names(ctx: typer.Context, incomplete: str, path: str, name: Callable[[Item], str]) -> list[str]:
    names = sorted({name(each) for each in _asked(ctx, lambda api: api.get(path)["items"])})
    return [each for each in names if each and each.startswith(incomplete)]


def _cameras(ctx: typer.Context, incomplete: str, path: str, before: str) -> list[str]:
    found = _asked(ctx, lambda api: [api.get(path, name=ctx.params.get(before) or "")])
    return [camera for each in found for camera in each["cameras"] if camera.startswith(incomplete)]


def _asked(ctx: typer.Context, ask: Callable[[Api], Iterable[Mapping[str, Any]]]) -> list[Item]:
    try:
        with Api(profiles.chosen(ctx.params.get("profile")), _WAIT_S) as api:
            return [dict(each) for each in ask(api)]
    except Failure:
        return []


def _about(episode: Item) -> str:
    return clean(f"{episode['robot_id']} {episode['result']} {local(episode['started_at'])} {episode['task']}")
