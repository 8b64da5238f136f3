"""`lefleet audit` and `lefleet jobs`: what was changed by whom, and what work waits."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from lefleet_server.cli.client import Pages
from lefleet_server.cli.failures import usage
from lefleet_server.cli.options import (
    JsonOption,
    LimitOption,
    ProfileOption,
    SinceOption,
    UntilOption,
    YesOption,
    confirm,
    connect,
    examples,
    moment,
)
from lefleet_server.cli.output import Column, answer, local, note, show_items, word
from lefleet_server.units import lasting

jobs = typer.Typer(no_args_is_help=True, help="Work that is done to episodes after their receipt.")


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DEAD = "dead"


def audit(
    actor: Annotated[str | None, typer.Option(help="Only what this one did: user:NAME, robot:ID, console.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, or with `user` also `user.added`.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only what was done to this: robot:ID, user:NAME.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 50,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List who changed what, newest first; for administrators."""
    which = {"actor": actor, "action": action, "subject": subject, "since": moment(since), "until": moment(until)}
    columns: list[Column] = [
        ("WHEN", lambda entry: local(entry["at"])),
        ("WHO", lambda entry: entry["actor"]),
        ("DID", lambda entry: entry["action"]),
        ("TO", lambda entry: entry["subject"]),
        ("DETAIL", lambda entry: json.dumps(entry["detail"], ensure_ascii=False) if entry["detail"] else ""),
        ("FROM", lambda entry: entry["address"] or ""),
        ("BY", lambda entry: entry["via"] or ""),
    ]
    with connect(profile) as api:
        pages = Pages(api, "/audit", which, limit)
        show_items(as_json, pages, columns, "no entries match", ["WHO", "TO", "DETAIL"])
    if pages.more:
        note(f"There are more; --limit {limit} was reached.")


@jobs.command("list", epilog=examples("lefleet jobs list --dead"))
def list_jobs(
    dead: Annotated[bool, typer.Option("--dead", help="Only those that were given up; as `--state dead`.")] = False,
    state: Annotated[State | None, typer.Option(help="Only those in it.")] = None,
    limit: LimitOption = 50,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs that are not done, oldest first, with why the last attempt failed."""
    if dead and state is not None:
        raise usage("--dead, --state: give one of the two")
    columns: list[Column] = [
        ("JOB", lambda job: str(job["id"])),
        ("KIND", lambda job: job["queue"]),
        ("EPISODE", lambda job: job["episode_id"]),
        ("STATE", lambda job: word(job["state"])),
        ("TRIED", lambda job: str(job["attempts"])),
        ("REASON", lambda job: job["reason"] or ""),
        ("SINCE", lambda job: local(job["created_at"])),
    ]
    with connect(profile) as api:
        pages = Pages(api, "/jobs", {"state": "dead" if dead else state}, limit)
        show_items(as_json, pages, columns, "no jobs wait", ["REASON"])
    if pages.more:
        note(f"There are more; --limit {limit} was reached.")


@jobs.command("queues", epilog=examples("lefleet jobs queues"))
def queues(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Show for each kind of work how much waits, runs and was given up, and since when the oldest waits."""
    columns: list[Column] = [
        ("KIND", lambda queue: queue["queue"]),
        ("WAITING", lambda queue: str(queue["waiting"] - queue["running"])),
        ("RUNNING", lambda queue: str(queue["running"])),
        ("DEAD", lambda queue: str(queue["dead"])),
        ("OLDEST", lambda queue: lasting(queue["oldest_age_s"]) if queue["waiting"] else ""),
    ]
    with connect(profile) as api:
        show_items(
            as_json, api.get("/jobs", {"limit": 1})["queues"], columns, "nothing waits, and nothing was given up"
        )


@jobs.command("retry", epilog=examples("lefleet jobs retry 17 18", "lefleet jobs retry --yes"))
def retry(
    ids: Annotated[list[int] | None, typer.Argument(metavar="ID", min=1, help="Left out: all dead jobs.")] = None,
    profile: ProfileOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give dead jobs (those with ID, or all) all their attempts again."""
    if not ids:
        confirm("Retry all dead jobs?", yes)
    with connect(profile) as api:
        done = api.post("/jobs/retry", {"ids": ids or None})
    answer(as_json, done, f"{done['retried']} jobs are queued again")
