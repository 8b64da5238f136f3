"""`lefleet robots`, what is no looking (look.py): credentials, and in a hurry `emergency-stop` and `clear`."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from lefleet_server.cli import complete, files, look
from lefleet_server.cli.client import Api, Pages
from lefleet_server.cli.failures import Failure, Refused, Status, usage
from lefleet_server.cli.options import (
    JsonOption,
    ProfileOption,
    Robot,
    Robots,
    ToOption,
    YesOption,
    confirm,
    connect,
    each,
    ended,
    examples,
)
from lefleet_server.cli.output import Cell, Item, answer, local, note, print_json, say, show, word

app = look.app

AllOption = Annotated[bool, typer.Option("--all", help="Every robot.")]
WaitOption = Annotated[float, typer.Option(min=0, help="Seconds to wait until the robots say that they obeyed.")]
_LOOK_S = 0.5


@app.command("picture", epilog=examples("lefleet robots picture robot-1 wrist --to wrist.jpg"))
def picture(
    robot: Robot,
    camera: Annotated[
        str, typer.Argument(help="As `lefleet robots show` names it.", autocompletion=complete.robot_cameras)
    ],
    to: ToOption,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the newest picture of one of the robot's cameras, JPEG."""
    files.require_apart(to, as_json)
    with connect(profile) as api:
        jpeg = api.image("/robots/{robot_id}/cameras/{name}.jpg", robot_id=robot, name=camera)
    files.tell(as_json, files.save(to, jpeg))


@app.command("register", epilog=examples("lefleet robots register robot-7 --site lab"))
def register(
    robot: Annotated[str, typer.Argument(metavar="ROBOT")],
    site: Annotated[str, typer.Option(help="Where the robot stands; a label in lists and metrics.")] = "",
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a one-time code with which a new ROBOT, or one that was revoked, gets its credential."""
    with connect(profile) as api:
        if (there := _known(api, robot)) is not None and there["state"] != "retired":
            raise Failure(f"{robot} is registered; `lefleet robots rotate {robot}` gives it another credential")
        _code(api, robot, site, as_json)


@app.command("rotate", epilog=examples("lefleet robots rotate robot-7"))
def rotate(robot: Robot, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Print a one-time code with which ROBOT gets another credential; the one it has ends when the code is used."""
    with connect(profile) as api:
        found = api.get("/robots/{robot_id}", robot_id=robot)
        _code(api, robot, found["site"], as_json)


@app.command("credential", epilog=examples("lefleet robots credential robot-7"))
def credential(robot: Robot, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Show how it stands with ROBOT's credential: since when it is used, and whether another one is on its way."""
    with connect(profile) as api:
        found = api.get("/robots/{robot_id}/credential", robot_id=robot)
    if found["since"] is None:
        state = word("revoked")
    else:
        state = word("rotating" if found["renewed_at"] or found["code_until"] else "valid")
    rows: list[tuple[str, Cell]] = [
        ("robot", robot),
        ("credential", state),
        ("in use since", local(found["since"], "")),
        ("last used", local(found["used_at"], "not yet" if found["since"] else "")),
        ("next one given out", local(found["renewed_at"], "")),
        ("code valid until", local(found["code_until"], "")),
    ]
    show(as_json, found, [(name, cell) for name, cell in rows if str(cell)])


@app.command("revoke", epilog=examples("lefleet robots revoke robot-7"))
def revoke(robot: Robot, profile: ProfileOption = None, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Take ROBOT's credential away at once; its episodes stay, and a new code brings it back."""
    with connect(profile) as api:
        confirm(f"Revoke {robot}? Nobody reaches it through the server afterwards.", yes)
        done = api.delete("/robots/{robot_id}/credential", robot_id=robot)
    answer(as_json, done, f"{robot} is retired" if done["changed"] else f"{robot} was retired already")


def emergency_stop(
    robots: Robots = None,
    everyone: AllOption = False,
    wait: WaitOption = 10.0,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop ROBOTs at once, or all: the arms hold still, torque on. Asks nothing; exit status 3: not all said so yet."""
    names = which(robots, everyone)
    with connect(profile) as api:
        if everyone:
            names = api.put("/estop")["robots"]
        asked, failed = list(names), 0
        for robot in [] if everyone else names:
            try:
                api.put("/robots/{robot_id}/estop", robot_id=robot)
            except Refused as error:
                note(f"{robot}: {error.message}")
                asked.remove(robot)
                failed += 1
        _told(api, asked, "stopped", wait, as_json, failed)


def clear(
    robots: Robots = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every robot that is stopped.")] = False,
    wait: WaitOption = 10.0,
    yes: YesOption = False,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """End the emergency stop of ROBOTs: their arms may move again. Exit status 3: not all said so yet."""
    names = which(robots, everyone)
    with connect(profile) as api:
        found = {robot["id"]: robot for robot in Pages(api, "/robots", {}, None)}
        if unknown := [name for name in names if name not in found]:
            raise Failure(f"no robot {unknown[0]!r}; `lefleet robots list` names them")
        stops = {name: found[name]["estop"] for name in (found if everyone else names)}
        held = {name: stop for name, stop in stops.items() if stop["state"] != "free"}
        for name in names:
            if name not in held:
                note(f"{name}: nobody stopped it through the server")
                if as_json:
                    _print_json(found[name])
        if not held:
            if everyone:
                note("nobody stopped a robot through the server")
            return
        words = ", ".join(
            f"{name} (stopped by {stop['asked_by']} at {local(stop['asked_at'])})" for name, stop in held.items()
        )
        # A question that stands for a minute is about the stop that was seen, so the answer names that one.
        confirm(f"Let these arms move again: {words}?", yes)
        cleared: list[str] = []

        def release(name: str) -> None:
            api.delete("/robots/{robot_id}/estop", {"number": held[name]["number"]}, robot_id=name)
            cleared.append(name)

        failed = 0
        try:
            each(held, release)
        except typer.Exit:
            failed = len(held) - len(cleared)
        _told(api, cleared, "free", wait, as_json, failed)


def _told(api: Api, names: Sequence[str], goal: str, wait_s: float, as_json: bool, failed: int) -> None:
    """Waits until the robots themselves say so: what was asked for is not yet what an arm does."""
    until, found = time.monotonic() + wait_s, dict[str, Item]()
    wanted = set(names)
    while wanted:
        found = {robot["id"]: robot for robot in Pages(api, "/robots", {}, None) if robot["id"] in wanted}
        # One that is offline cannot say anything, however long one waits.
        open_ = [robot for robot in found.values() if robot["estop"]["state"] != goal and robot["online"]]
        if not open_ or time.monotonic() >= until:
            break
        time.sleep(_LOOK_S)
    late = 0
    for name, robot in sorted(found.items()):
        state = robot["estop"]["state"]
        late += state != goal
        if as_json:
            _print_json(robot)
        else:
            say(Text.assemble(f"{name}  ", word(state), "" if state == goal else f"  {_why(robot)}"))
    if late:
        raise typer.Exit(Status.PARTLY)
    ended(len(found), failed)


def _print_json(robot: Item) -> None:
    print_json({"robot_id": robot["id"], "online": robot["online"], **robot["estop"]})


def _why(robot: Item) -> str:
    if not robot["online"]:
        return "it is offline, and obeys when it is back; stop it at the robot (`lefleet-agent estop`)"
    return "it has not said so yet; look at the arm"


def which(robots: Sequence[str] | None, everyone: bool) -> list[str]:
    if bool(robots) == everyone:
        raise usage("ROBOT: name the robots, or give --all (one of the two)")
    return list(dict.fromkeys(robots or []))


def _known(api: Api, robot: str) -> Item | None:
    try:
        return dict(api.get("/robots/{robot_id}", robot_id=robot))
    except Refused as error:
        if error.code == 404:
            return None
        raise


def _code(api: Api, robot: str, site: str, as_json: bool) -> None:
    made = api.post("/robots/{robot_id}/enrolment-code", params={"site": site}, robot_id=robot)
    if not as_json:
        note(f"On {robot}, within {made['ttl_s'] / 60:.0f} minutes, give this code to `lefleet-agent enrol`:")
    answer(as_json, made, made["code"])
