"""`lefleet episodes`: finding and looking at what the robots recorded."""

from typing import Annotated, Any

import typer

from lefleet_server.cli import complete, files
from lefleet_server.cli.client import Api, Pages
from lefleet_server.cli.failures import Refused
from lefleet_server.cli.filters import RobotFilter, filtered
from lefleet_server.cli.options import (
    JsonOption,
    LimitOption,
    ProfileOption,
    ToOption,
    connect,
    each,
    episode_ids,
    examples,
)
from lefleet_server.cli.output import Column, Item, answer, local, note, print_json, show, show_items, size, word

app = typer.Typer(no_args_is_help=True, help="Episodes: find, look, label, download.")


Ids = Annotated[
    list[str],
    typer.Argument(metavar="ID", help="`-`: from standard input, one a line.", autocompletion=complete.episodes),
]
Id = Annotated[str, typer.Argument(metavar="ID", autocompletion=complete.episodes)]

COLUMNS: list[Column] = [
    ("EPISODE", lambda e: e["id"]),
    ("STARTED", lambda e: local(e["started_at"])),
    ("ROBOT", lambda e: e["robot_id"]),
    ("RESULT", lambda e: word(e["result"])),
    ("LABEL", lambda e: word(e["label_outcome"] or "")),
    ("CUT", lambda e: "yes" if e["interrupted"] else ""),
    ("SECONDS", lambda e: f"{e['duration_s']:.1f}"),
    ("SIZE", lambda e: size(e["bytes"])),
    ("POLICY", lambda e: e["policy_repo"]),
]


@app.command(
    "list",
    epilog=examples(
        "lefleet episodes list --robot robot-1 --outcome failure --since 2d",
        "lefleet episodes list --since 2026-11-01 --limit 5000 --json | jq -r .policy_repo | sort | uniq -c",
        "lefleet episodes list --quarantined --ids",
        "lefleet episodes list --flag stall --unlabelled",
    ),
)
@filtered
def list_episodes(
    which: dict[str, Any],
    limit: LimitOption = 50,
    ids: Annotated[bool, typer.Option("--ids", help="Print nothing but the ids, for other commands.")] = False,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List episodes, newest first."""
    with connect(profile) as api:
        pages = Pages(api, "/episodes", which, limit)
        if ids:
            for item in pages:
                typer.echo(item["id"])
        else:
            show_items(as_json, pages, COLUMNS, "no episodes match")
    if pages.more:
        note(f"There are more; --limit {limit} was reached.")


@app.command("show", epilog=examples("lefleet episodes show 0c1d0d6e4f0f4d0c9b6f2f1f4a3b2c1d"))
def show_episode(episode: Id, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Show one episode: what made it, how it ended, and what is remarkable about its quality."""
    (episode_id,) = episode_ids([episode])
    with connect(profile) as api:
        found = api.get("/episodes/{episode_id}", episode_id=episode_id)
        analysis = _analysis(api, episode_id)
    meta = found["meta"]
    rows = [
        ("episode", found["id"]),
        ("robot", f"{found['robot_id']} {meta.get('robot_type') or ''}"),
        ("task", found["task"]),
        ("started", local(found["started_at"])),
        (
            "lasted",
            f"{found['duration_s']:.1f} s, {found['frames']} frames at {found['hz_held']:.2f} of {found['fps']:g} Hz",
        ),
        ("dropped", f"{found['frames_dropped']} frames"),
        ("outcome", word(found["outcome"])),
        ("label", word(found["label_outcome"] or "none")),
        ("note", found["label_note"] or ""),
        ("labelled", _labelled(found)),
        ("ended", found["end_reason"] + (" (interrupted)" if found["interrupted"] else "")),
        ("policy", f"{found['policy_repo']} {found['policy_commit']}"),
        ("policy digest", found["policy_digest"]),
        ("agent", str(meta.get("agent_version") or "")),
        ("calibration", str(meta.get("calibration_fingerprint") or "")),
        ("seed", "" if meta.get("seed") is None else str(meta["seed"])),
        ("cameras", ", ".join(found["cameras"])),
        ("file", f"{size(found['bytes'])}, SHA-256 {found['sha256']}"),
        ("received", local(found["received_at"])),
        ("quality", word(analysis["state"]) if analysis else "not analysed yet"),
        ("reason", (analysis or {}).get("reason") or ""),
        ("flags", "; ".join(map(_flag, (analysis or {}).get("flags", [])))),
    ]
    show(as_json, {**found, "analysis": analysis}, [(name, cell) for name, cell in rows if str(cell).strip()])


@app.command("signals", epilog=examples("lefleet episodes signals ID | jq '.lateness_ms | max'"))
def signals(
    episode: Id,
    profile: ProfileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Changes nothing: it is JSON.")] = False,
) -> None:
    """Print an episode's numbers (joints, actions, lateness) by column, one JSON document.

    They hold the events of the dashboard's time line. A person led: `intervention` is 1. Held: `held` is 1. Limited:
    `action` is not `action_requested`, by more than 0.5 units. Late: `lateness_ms` above 10. Ticks missing: a step of
    `time_s` of more than 1.5 periods. No new picture: `image_seq` stays for a second. What the server noted meanwhile,
    emergency stops too: `lefleet robots events`.
    """
    (episode_id,) = episode_ids([episode])
    with connect(profile) as api:
        print_json(api.get("/episodes/{episode_id}/signals", episode_id=episode_id))


@app.command("picture", epilog=examples("lefleet episodes picture ID wrist 120 --to frame.jpg"))
def picture(
    episode: Id,
    camera: Annotated[
        str, typer.Argument(help="As `lefleet episodes show` names it.", autocompletion=complete.episode_cameras)
    ],
    index: Annotated[int, typer.Argument(min=0, help="Number of the frame, from 0.")],
    to: ToOption,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch what a camera saw at a frame, JPEG."""
    files.require_apart(to, as_json)
    (episode_id,) = episode_ids([episode])
    with connect(profile) as api:
        jpeg = api.image(
            "/episodes/{episode_id}/frames/{camera}/{index}.jpg", episode_id=episode_id, camera=camera, index=index
        )
    files.tell(as_json, files.save(to, jpeg))


@app.command(
    "analyse",
    epilog=examples(
        "lefleet episodes analyse ID", "lefleet episodes list --quarantined --ids | lefleet episodes analyse -"
    ),
)
def analyse(episodes: Ids, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Have a worker look at episodes' files again; what was found before stays until then."""
    ids = episode_ids(episodes)
    with connect(profile) as api:

        def again(episode_id: str) -> None:
            api.post("/episodes/{episode_id}/analysis", episode_id=episode_id)
            answer(as_json, {"episode_id": episode_id, "queued": True}, f"{episode_id}  is queued")

        each(ids, again)


def quarantine(
    robot: RobotFilter = None,
    limit: LimitOption = 50,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List episodes whose file was found to be invalid, with the reason, newest first."""
    with connect(profile) as api:
        pages = Pages(api, "/episodes", {"robot": robot, "quarantined": True}, limit)
        found = ({**item, "reason": (_analysis(api, item["id"]) or {}).get("reason")} for item in pages)
        show_items(
            as_json,
            found,
            [*COLUMNS[:3], ("REASON", lambda e: e["reason"] or "")],
            "nothing is quarantined",
            ["REASON"],
        )
    if pages.more:
        note(f"There are more; --limit {limit} was reached.")


def _analysis(api: Api, episode_id: str) -> Item | None:
    """None until a worker has looked at the file."""
    try:
        return dict(api.get("/episodes/{episode_id}/analysis", episode_id=episode_id))
    except Refused as error:
        if error.code == 404:
            return None
        raise


def _labelled(episode: Item) -> str:
    by = episode.get("labelled_by")  # a server of the release before tells none
    return f"by {by}, {local(episode['labelled_at'])}" if by else ""


def _flag(flag: Item) -> str:
    where = f" {flag['where']}" if flag["where"] else ""
    return f"{flag['name']}{where}: {flag['value']:.3g} {flag['unit']} (limit {flag['threshold']:.3g})"
