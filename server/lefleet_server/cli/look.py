"""`lefleet robots list` and `show`: how robots are, as the dashboard's fleet and robot pages have it."""

from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from lefleet_server.cli import complete, fleet
from lefleet_server.cli.client import Api, Pages
from lefleet_server.cli.failures import Failure
from lefleet_server.cli.fleet import Criteria, disk_free, told
from lefleet_server.cli.options import JsonOption, ProfileOption, Robot, connect, examples
from lefleet_server.cli.output import Cell, Column, Item, clean, local, note, say, show, show_items, size, word
from lefleet_server.units import lasting

app = typer.Typer(no_args_is_help=True, help="Robots: how they are, and their credentials.")


class Health(StrEnum):
    """The fleet page's Attention, Warnings, Well and Retired."""

    BAD = "bad"
    WARN = "warn"
    GOOD = "good"
    OFF = "off"


SearchOption = Annotated[str | None, typer.Option(help="Only those of which all these words are shown.")]
HealthOption = Annotated[
    Health | None, typer.Option(help="Only those that need attention, have warnings, are well, or are retired.")
]
PolicyOption = Annotated[
    str | None, typer.Option(help="Only those that run this policy, as `org/name`.", autocompletion=complete.running)
]
ReleaseOption = Annotated[
    str | None,
    typer.Option(
        help="Only those that run this commit of it, as `name@` and seven letters.", autocompletion=complete.releases
    ),
]
SiteOption = Annotated[str | None, typer.Option(help="Only those that stand there.", autocompletion=complete.sites)]
SortOption = Annotated[
    str | None,
    typer.Option(
        callback=fleet.sort_option,
        autocompletion=complete.orders,
        help=f"By {', '.join(fleet.ORDERS)}; with `-` before it downwards.",
    ),
]


def narrowed(
    criteria: Criteria,
    search: str | None,
    health: Health | None,
    policy: str | None,
    release: str | None,
    site: str | None,
    sort: str | None,
) -> Criteria:
    """With what the options say in the place of what `criteria` has."""
    said = {"q": search, "health": health, "policy": policy, "release": release, "site": site, "sort": sort}
    return replace(criteria, **{name: str(value) for name, value in said.items() if value is not None})


@app.command(
    "list",
    epilog=examples(
        "lefleet robots list --health bad",
        "lefleet robots list --policy lab/act-cube --sort -late",
        "lefleet robots list --view 'Night shift'",
        "lefleet robots list --state offline --json | jq -r .id",
    ),
)
def list_robots(
    state: Annotated[
        str | None, typer.Option(help="Only those in it: running, offline, estopped...", autocompletion=complete.states)
    ] = None,
    search: SearchOption = None,
    health: HealthOption = None,
    policy: PolicyOption = None,
    release: ReleaseOption = None,
    site: SiteOption = None,
    sort: SortOption = None,
    view: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="As this view of yours has it (`lefleet views list`); other options go before what it says.",
            autocompletion=complete.views,
        ),
    ] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the robots: how each is, what to see to, and what it said last."""
    with connect(profile) as api:
        kept = Criteria.parse(_view(api, view)) if view is not None else Criteria()
        criteria = narrowed(kept, search, health, policy, release, site, sort)
        asked = {"state": state, "site": criteria.site or None}
        found = fleet.chosen(Pages(api, "/robots", asked, None), criteria)
    columns: list[Column] = [
        ("ROBOT", lambda robot: robot["id"]),
        ("STATE", fleet.state),
        ("HEALTH", fleet.health),
        ("SEEN", lambda robot: local(robot["last_seen_at"])),
        ("HZ", lambda robot: told(robot, "loop", "hz", "{:.1f}")),
        ("WAITING", lambda robot: told(robot, "spool", "episodes", "{}")),
        ("DISK FREE", disk_free),
        ("POLICY", fleet.repo),
        ("SITE", lambda robot: robot["site"]),
    ]
    none = "no robots; `lefleet robots register NAME` brings the first"
    if (state, criteria) != (None, Criteria()):
        none = "no robots match"
    shown = [robot for robot in found if state in {None, robot["state"]}]
    show_items(as_json, shown, columns, none, ["STATE", "HEALTH"])


@app.command("show", epilog=examples("lefleet robots show robot-1"))
def show_robot(robot: Robot, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Show one robot: what it does, what to see to, what it runs, what waits on it, its joints and servos."""
    with connect(profile) as api:
        found = api.get("/robots/{robot_id}", robot_id=robot)
    said: Item = found["heartbeat"] or {}
    up_s = said.get("uptime_s") if found["online"] else None
    rows: list[tuple[str, Cell]] = [
        ("robot", found["id"]),
        ("state", fleet.state(found)),
        ("health", fleet.health(found)),
        ("detail", said.get("detail", "")),
        ("emergency stop", _stop(found["estop"])),
        ("seen", local(found["last_seen_at"])),
        ("episode", (said.get("episode_id") or "") if found["online"] else ""),
        ("ends with", _verdict(found.get("verdict"))),
        ("rest", _rest(found["rest"])),
        ("reboot", _reboot(found.get("reboot"))),
        ("task", said.get("task", "")),
        ("next task", _next_task(found["task"])),
        ("policy", " ".join(filter(None, ((said.get("policy") or {}).get(k, "") for k in ("repo", "commit", "type"))))),
        ("rate held", told(found, "loop", "hz", "{:.1f} Hz")),
        ("lateness p99", told(found, "loop", "lateness_ms_p99", "{:.1f} ms")),
        ("waiting", f"{told(found, 'spool', 'episodes', '{} episodes')} {_spool(found)}"),
        ("disk free", disk_free(found)),
        ("host at", _heat(found)),
        ("drift", _drift(found)),
        ("alerts", _alerts(found) or _unknown(found)),
        ("cameras", ", ".join(found["cameras"])),
        ("joints", _joints(said.get("joints") if found["online"] else None)),
        ("calibration", said.get("calibration_fingerprint", "")),
        ("agent", said.get("agent_version") or found["agent_version"]),
        ("lerobot", told(found, "versions", "lerobot", "{}")),
        ("torch", told(found, "versions", "torch", "{}")),
        ("hardware", found["hw"]),
        ("jetson linux", told(found, "versions", "jetson_linux", "{}")),
        ("kernel", told(found, "versions", "kernel", "{}")),
        ("host up for", "" if up_s is None else lasting(up_s)),
        ("site", found["site"]),
        ("enrolled", local(found["enrolled_at"])),
    ]
    show(as_json, found, [(name, cell) for name, cell in rows if str(cell).strip()])
    if not as_json:
        _show_servos(found.get("arm") or {})


def _show_servos(arm: Item) -> None:
    """Nothing of a simulated arm, which has none."""
    if not arm.get("motors"):
        return
    columns: list[Column] = [
        ("SERVO", lambda motor: motor["joint"]),
        ("TEMPERATURE", lambda motor: _number(motor, "temperature_celsius", "{:.0f} °C")),
        ("VOLTAGE", lambda motor: _number(motor, "voltage_volts", "{:.1f} V")),
        ("CURRENT", lambda motor: _number(motor, "current_amperes", "{:.2f} A")),
        ("LOAD", lambda motor: _number(motor, "load_ratio", "{:.0%}")),
        ("ERRORS", lambda motor: _number(motor, "errors_total", "{:.0f}")),
    ]
    say("")
    show_items(False, [{"joint": joint, **motor} for joint, motor in arm["motors"].items()], columns, "")
    if arm["reads"]:
        note(f"{arm['reads_failed']} of {arm['reads']} readings of the arm failed and were tried again.")


def _view(api: Api, name: str) -> str:
    views: list[Item] = api.get("/me/views", {"page": "fleet"})["items"]
    found = next((view["query"] for view in views if view["name"] == name), None)
    if found is None:
        raise Failure(f"no view {name!r} of yours; `lefleet views list` names them")
    return str(found)


def _stop(stop: Item) -> Cell:
    if stop["asked_by"] is None:
        return word(stop["state"])
    return Text.assemble(word(stop["state"]), clean(f" (last word: {stop['asked_by']}, {local(stop['asked_at'])})"))


def _verdict(verdict: Item | None) -> Cell:
    """What somebody said about the episode that still runs."""
    if verdict is None:
        return ""
    return Text.assemble(word(verdict["word"]), clean(f" by {verdict['said_by']}, {local(verdict['said_at'])}"))


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


def _spool(robot: Item) -> str:
    spool = (robot["heartbeat"] or {}).get("spool")
    if not spool:
        return ""
    lost = f", {spool['lost_episodes']} lost" if spool.get("lost_episodes") else ""
    refused = f", {spool['refused_episodes']} refused" if spool.get("refused_episodes") else ""
    return f"({size(spool['bytes'])} of {size(spool['budget_bytes'])}{lost}{refused})"


def _heat(robot: Item) -> str:
    heat = (robot["heartbeat"] or {}).get("temperature")
    return f"{heat['celsius']:.0f} °C ({heat['zone']})" if heat else ""


def _drift(robot: Item) -> str:
    """From which of its roles the host differed; empty when it was never compared."""
    drift = (robot["heartbeat"] or {}).get("drift")
    if not drift:
        return ""
    at = local(datetime.fromtimestamp(drift["checked_unix_s"], UTC).isoformat())
    return f"{', '.join(drift['roles']) or 'none'} (compared {at})"


def _alerts(robot: Item) -> str:
    """Names of those that fire; a server of the release before tells none."""
    return ", ".join(dict.fromkeys(alert["name"] for alert in robot.get("alerts") or ()))


def _unknown(robot: Item) -> str:
    since = robot.get("alerts_unknown_since")
    return f"unknown since {local(since)}: Prometheus does not answer" if since else ""


def _joints(joints: Item | None) -> str:
    if not joints:
        return ""
    values = zip(joints["names"], joints["values"], joints["units"], strict=True)
    return ", ".join(f"{name} {value:.1f} {unit}" for name, value, unit in values)


def _number(motor: Item, name: str, form: str) -> str:
    return "" if motor[name] is None else form.format(motor[name])
