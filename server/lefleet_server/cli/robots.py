"""`lefleet robots`, and the two commands that may be needed in a hurry: `emergency-stop` and `clear`."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from lefleet_server.cli.client import Api
from lefleet_server.cli.failures import Failure, Refused, Status, usage
from lefleet_server.cli.files import save
from lefleet_server.cli.options import (
    JsonOption,
    ProfileOption,
    Robot,
    Robots,
    YesOption,
    confirm,
    connect,
    each,
    ended,
    examples,
)
from lefleet_server.cli.output import (
    Cell,
    Item,
    answer,
    clean,
    local,
    note,
    print_json,
    say,
    show,
    show_items,
    size,
    word,
)

app = typer.Typer(no_args_is_help=True, help="Robots: how they are, and their credentials.")

AllOption = Annotated[bool, typer.Option("--all", help="Every robot.")]
WaitOption = Annotated[float, typer.Option(min=0, help="Seconds to wait until the robots say that they obeyed.")]
_LOOK_S = 0.5


@app.command("list", epilog=examples("lefleet robots list --state offline", "lefleet robots list --json | jq -r .id"))
def list_robots(
    state: Annotated[str | None, typer.Option(help="Only those in it: running, offline, estopped...")] = None,
    site: Annotated[str | None, typer.Option(help="Only those that stand there.")] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the robots: how each is, and what it said last."""
    with connect(profile) as api:
        found = [
            robot
            for robot in api.get("/robots")["items"]
            if state in {None, robot["state"]}
            if site in {None, robot["site"]}
        ]
    columns: list[tuple[str, Callable[[Item], Cell]]] = [
        ("ROBOT", lambda robot: robot["id"]),
        ("STATE", _state),
        ("SEEN", lambda robot: local(robot["last_seen_at"])),
        ("HZ", lambda robot: _of(robot, "loop", "hz", "{:.1f}")),
        ("WAITING", lambda robot: _of(robot, "spool", "episodes", "{}")),
        ("DISK FREE", _free),
        ("POLICY", lambda robot: _of(robot, "policy", "repo", "{}")),
        ("SITE", lambda robot: robot["site"]),
    ]
    show_items(as_json, found, columns, "no robots; `lefleet robots register NAME` brings the first", ["STATE"])


@app.command("show", epilog=examples("lefleet robots show robot-1"))
def show_robot(robot: Robot, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Show one robot: what it does, what it runs, what waits on it."""
    with connect(profile) as api:
        found = api.get("/robots/{robot_id}", robot_id=robot)
    said: Item = found["heartbeat"] or {}
    rows: list[tuple[str, Cell]] = [
        ("robot", found["id"]),
        ("state", _state(found)),
        ("detail", said.get("detail", "")),
        ("emergency stop", _stop(found["estop"])),
        ("seen", local(found["last_seen_at"])),
        ("rest", _rest(found["rest"])),
        ("reboot", _reboot(found.get("reboot"))),
        ("task", said.get("task", "")),
        ("next task", _next_task(found["task"])),
        ("policy", " ".join(filter(None, ((said.get("policy") or {}).get(k, "") for k in ("repo", "commit", "type"))))),
        ("rate held", _of(found, "loop", "hz", "{:.1f} Hz")),
        ("lateness p99", _of(found, "loop", "lateness_ms_p99", "{:.1f} ms")),
        ("waiting", f"{_of(found, 'spool', 'episodes', '{} episodes')} {_spool(found)}"),
        ("disk free", _free(found)),
        ("cameras", ", ".join(found["cameras"])),
        ("agent", found["agent_version"]),
        ("hardware", found["hw"]),
        ("site", found["site"]),
        ("enrolled", local(found["enrolled_at"])),
    ]
    show(as_json, found, [(name, cell) for name, cell in rows if str(cell).strip()])


@app.command("picture", epilog=examples("lefleet robots picture robot-1 wrist --to wrist.jpg"))
def picture(
    robot: Robot,
    camera: Annotated[str, typer.Argument(help="As `lefleet robots show` names it.")],
    to: Annotated[Path, typer.Option(help="File to write; `-`: standard output.")],
    profile: ProfileOption = None,
) -> None:
    """Fetch the newest picture of one of the robot's cameras, JPEG."""
    with connect(profile) as api:
        save(to, api.image("/robots/{robot_id}/cameras/{name}.jpg", robot_id=robot, name=camera))


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
        found = {robot["id"]: robot["estop"] for robot in api.get("/robots")["items"]}
        if unknown := [name for name in names if name not in found]:
            raise Failure(f"no robot {unknown[0]!r}; `lefleet robots list` names them")
        held = {name: found[name] for name in (found if everyone else names) if found[name]["state"] != "free"}
        for name in names:
            if name not in held:
                note(f"{name}: nobody stopped it through the server")
        if not held:
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
        found = {robot["id"]: robot for robot in api.get("/robots")["items"] if robot["id"] in wanted}
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
            print_json({"robot_id": name, "online": robot["online"], **robot["estop"]})
        else:
            say(Text.assemble(f"{name}  ", word(state), "" if state == goal else f"  {_why(robot)}"))
    if late:
        raise typer.Exit(Status.PARTLY)
    ended(len(found), failed)


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


def _state(robot: Item) -> Text:
    shown = word(robot["state"])
    stop = robot["estop"]["state"]
    return shown if stop == "free" else Text.assemble(shown, " ", word(stop))


def _stop(stop: Item) -> Cell:
    if stop["asked_by"] is None:
        return word(stop["state"])
    return Text.assemble(word(stop["state"]), clean(f" (last word: {stop['asked_by']}, {local(stop['asked_at'])})"))


def _rest(rest: Item | None) -> Cell:
    if not rest or not rest["wanted"]:
        return ""
    why = f": {rest['reason']}" if rest.get("reason") else ""  # a server of the release before tells none
    return clean(f"asked for by {rest['said_by']}, {local(rest['said_at'])}{why}")


def _reboot(reboot: Item | None) -> Cell:
    if reboot is None or reboot["state"] == "done":
        return ""
    why = f": {reboot['reason']}" if reboot["reason"] else ""
    said = f" by {reboot['said_by']}, {local(reboot['said_at'])}{why}"
    return Text.assemble(word(reboot["state"]), clean(said))


def _next_task(task: Item | None) -> Cell:
    """What the robot has not heard of yet."""
    if task is None or task["heard"]:
        return ""
    return clean(f"{task['text'] or 'what its settings say'} ({task['said_by']}, {local(task['said_at'])})")


def _of(robot: Item, part: str, name: str, form: str) -> str:
    """A number of the last heartbeat; empty when the robot said none."""
    value = ((robot["heartbeat"] or {}).get(part) or {}).get(name)
    return "" if value is None else form.format(value)


def _free(robot: Item) -> str:
    disk = (robot["heartbeat"] or {}).get("disk")
    return size(disk["free_bytes"]) if disk else ""


def _spool(robot: Item) -> str:
    spool = (robot["heartbeat"] or {}).get("spool")
    if not spool:
        return ""
    lost = f", {spool['lost_episodes']} lost" if spool.get("lost_episodes") else ""
    return f"({size(spool['bytes'])} of {size(spool['budget_bytes'])}{lost})"
