"""What stays and what goes: holds, deletion, retention rules, and what the store holds."""

from typing import Annotated

import typer

from lefleet_server.cli import episodes, robots
from lefleet_server.cli.client import Pages
from lefleet_server.cli.options import (
    JsonOption,
    ProfileOption,
    Robot,
    YesOption,
    confirm,
    connect,
    each,
    episode_ids,
    examples,
)
from lefleet_server.cli.output import Cell, Column, Item, answer, local, show, show_items, size, word

Reason = Annotated[str, typer.Option(help="Why; kept in the audit log.")]


@episodes.app.command("hold", epilog=examples("lefleet episodes hold ID --reason 'claim 17'"))
def hold_episodes(
    ids: episodes.Ids, reason: Reason, profile: ProfileOption = None, as_json: JsonOption = False
) -> None:
    """Hold episodes: nothing deletes them until an administrator releases them."""
    named = episode_ids(ids)
    with connect(profile) as api:

        def put(episode_id: str) -> None:
            held = api.put("/episodes/{episode_id}/hold", {"reason": reason}, episode_id=episode_id)
            answer(as_json, held, f"{episode_id}  is held")

        each(named, put)


@episodes.app.command("release", epilog=examples("lefleet episodes release ID"))
def release_episodes(
    ids: episodes.Ids, profile: ProfileOption = None, yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """End episodes' own holds; one on their robot stays. For administrators."""
    named = episode_ids(ids)
    confirm(f"Release {len(named)} episodes? Rules may delete them then.", yes)
    with connect(profile) as api:

        def end(episode_id: str) -> None:
            api.delete("/episodes/{episode_id}/hold", episode_id=episode_id)
            answer(as_json, {"episode_id": episode_id, "held": False}, f"{episode_id}  is released")

        each(named, end)


@robots.app.command("hold", epilog=examples("lefleet robots hold robot-1 --reason 'under investigation'"))
def hold_robot(robot: Robot, reason: Reason, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Hold all episodes of ROBOT, those to come included, until an administrator releases it."""
    with connect(profile) as api:
        held = api.put("/robots/{robot_id}/hold", {"reason": reason}, robot_id=robot)
    answer(as_json, held, f"{robot}: all its episodes are held")


@robots.app.command("release", epilog=examples("lefleet robots release robot-1"))
def release_robot(
    robot: Robot, profile: ProfileOption = None, yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """End ROBOT's hold; those on single episodes stay. For administrators."""
    confirm(f"Release the episodes of {robot}? Rules may delete them then.", yes)
    with connect(profile) as api:
        api.delete("/robots/{robot_id}/hold", robot_id=robot)
    answer(as_json, {"robot_id": robot, "held": False}, f"{robot} is released")


def holds(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List what is held, newest first, by whom and why."""
    columns: list[Column] = [
        ("HELD", lambda hold: hold["episode_id"] or f"all of {hold['robot_id']}"),
        ("SINCE", lambda hold: local(hold["placed_at"])),
        ("BY", lambda hold: hold["placed_by"]),
        ("REASON", lambda hold: hold["reason"]),
    ]
    with connect(profile) as api:
        show_items(as_json, list(Pages(api, "/holds", {}, None)), columns, "nothing is held", ["REASON"])


@episodes.app.command("delete", epilog=examples("lefleet episodes delete ID --reason 'a person is in the picture'"))
def delete(
    ids: episodes.Ids,
    reason: Reason,
    profile: ProfileOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete episodes for good, files included; one that is held is refused. For administrators."""
    named = episode_ids(ids)
    confirm(f"Delete {len(named)} episodes for good?", yes)
    with connect(profile) as api:

        def remove(episode_id: str) -> None:
            gone = api.delete("/episodes/{episode_id}", {"reason": reason}, episode_id=episode_id)
            answer(as_json, gone, f"{episode_id}  is deleted ({size(gone['bytes'])})")

        each(named, remove)


def storage(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Show what the store holds, for whom, what is on its way in and what is wrong."""
    with connect(profile) as api:
        found = api.get("/storage")
    place = found["place"]
    room = "" if place["free_bytes"] is None else f"{size(place['free_bytes'])} of {size(place['total_bytes'])} free"
    rows: list[tuple[str, Cell]] = [
        ("store", f"{place['kind']}: {place['state']}"),
        ("room", room),
        ("episodes", f"{found['episodes']} ({size(found['bytes'])})"),
        ("quarantined", str(found["quarantined"])),
        ("without a file", str(found["lost"])),
        ("on their way in", str(found["uploads_open"])),
        *((f"  {upload['robot_id']}", _upload(upload)) for upload in found["uploads"]),
        ("last fsck", _check(found["last_check"])),
        *((robot["robot_id"], _usage(robot)) for robot in found["robots"]),
    ]
    show(as_json, found, [(name, cell) for name, cell in rows if cell])


def _check(check: Item | None) -> Cell:
    if check is None:
        return "never"
    return word(f"{local(check['at'])}: {check['found']} found wrong, {check['remaining']} still")


def _upload(upload: Item) -> str:
    part = upload["arrived_bytes"] / upload["bytes"]
    return f"{upload['episode_id']}: {part:.0%} of {size(upload['bytes'])}, since {local(upload['began_at'])}"


def _usage(robot: Item) -> str:
    lost = f", {robot['lost']} without a file" if robot["lost"] else ""
    return f"{robot['episodes']} episodes ({size(robot['bytes'])}{lost}), newest {local(robot['newest_at'])}"
