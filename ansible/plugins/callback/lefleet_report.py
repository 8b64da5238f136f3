"""The end of a run as a table: each host, what changed on it, what failed and why."""

import json
import os
import shutil
import tempfile
import textwrap
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible.utils.color import stringc

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: lefleet_report
type: aggregate
short_description: the end of a run as a table
description:
  - After the run, a table with each host, what changed on it, what failed and why.
  - At the start of each play every host gets the variable C(lefleet_changed_roles), the roles that changed something
    on it so far.
options:
  report_json:
    description: File that gets the same as JSON; empty for none.
    env: [{name: LEFLEET_REPORT_JSON}]
    ini: [{section: callback_lefleet_report, key: report_json}]
    type: str
    default: ""
"""

PLAYBOOK = "playbook"
REASON_LINES = 6
REASON_COLUMNS = 400
TASKS_OF_A_ROLE = 4
RESULT_COLOURS = {"ok": "green", "changed": "yellow", "differs": "yellow", "unreachable": "bright red", "failed": "red"}
RESULTS = list(RESULT_COLOURS)


@dataclass(frozen=True, slots=True)
class Event:
    """A task that changed something, or failed."""

    role: str
    task: str
    message: str = ""


@dataclass(slots=True)
class HostReport:
    host: str
    result: str = "ok"
    ok: int = 0
    changed: int = 0
    failed: int = 0
    busy_s: float = 0.0
    roles: dict[str, str] = field(default_factory=dict)
    """What became of each role that began: `ok`, `changed` or `failed`; in check mode all but `ok` is drift."""
    changes: list[Event] = field(default_factory=list)
    failures: list[Event] = field(default_factory=list)

    def changed_roles(self) -> list[str]:
        return list(dict.fromkeys(event.role for event in self.changes))


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "lefleet_report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._hosts: dict[str, HostReport] = {}
        self._begun: dict[tuple[str, str], float] = {}
        self._item: dict[tuple[str, str], str] = {}
        self._started_s = time.monotonic()

    # --- what happens ---

    def v2_playbook_on_play_start(self, play: Any) -> None:
        manager = play.get_variable_manager()
        for name, report in self._hosts.items():
            manager.set_nonpersistent_facts(name, {"lefleet_changed_roles": report.changed_roles()})

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._begun[host.get_name(), task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        report = self._of(result)
        if result.result.get("changed"):
            report.changes.append(event(result.task))

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._of(result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """The result of a whole loop says only that items failed, and not which."""
        self._item.setdefault((result.host.get_name(), result.task._uuid), reason(result.result))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        report = self._of(result)
        item = self._item.pop((report.host, result.task._uuid), None)
        if not ignore_errors:
            report.failures.append(event(result.task, item or reason(result.result)))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        report = self._of(result)
        through = result.task.delegate_to if result.task.delegate_to != report.host else None
        told = reason(result.result)
        message = f"{through}, which this task needs, does not answer: {told}" if through else told
        report.failures.append(event(result.task, message))
        report.result = "failed" if through else "unreachable"

    def _of(self, result: Any) -> HostReport:
        name = result.host.get_name()
        report = self._hosts.setdefault(name, HostReport(name))
        begun_s = self._begun.pop((name, result.task._uuid), None)
        if begun_s is not None:
            report.busy_s += time.monotonic() - begun_s
        seen = event(result.task)
        # A preflight runs for every role before any begins.
        if seen.role != PLAYBOOK and not seen.task.startswith(("Preflight |", "Validating arguments")):
            report.roles.setdefault(seen.role, "ok")
        return report

    # --- what is told ---

    def v2_playbook_on_stats(self, stats: Any) -> None:
        checked = bool(context.CLIARGS.get("check"))
        for name in stats.processed:
            self._close(self._hosts.setdefault(name, HostReport(name)), stats.summarize(name), checked)
        reports = [self._hosts[name] for name in sorted(self._hosts)]
        duration_s = time.monotonic() - self._started_s
        if path := self.get_option("report_json"):
            write_whole(Path(path).expanduser(), as_dict(reports, checked, duration_s))
        width = shutil.get_terminal_size((100, 24)).columns
        for line in table(reports, checked, duration_s, width):
            self._display.display(line)

    @staticmethod
    def _close(report: HostReport, counts: dict[str, int], checked: bool) -> None:
        report.ok, report.changed = counts["ok"], counts["changed"]
        report.failed = counts["failures"] + counts["unreachable"]
        # A failure that the playbook dealt with is none.
        report.failures = report.failures[-report.failed :] if report.failed else []
        report.roles |= dict.fromkeys(report.changed_roles(), "changed")
        report.roles |= {failure.role: "failed" for failure in report.failures if failure.role != PLAYBOOK}
        if report.result == "ok" and report.failed:
            report.result = "failed"
        elif report.result == "ok" and report.changed:
            report.result = "differs" if checked else "changed"


def event(task: Any, message: str = "") -> Event:
    return Event(role_of(task), task.get_name().rpartition(" : ")[2], message)


def role_of(task: Any) -> str:
    """The role that the playbook called, also for a task of a role that this one includes."""
    name, node = "", task
    while node is not None:
        if getattr(node, "_role", None):
            name = node._role.get_name()
        node = getattr(node, "_parent", None)
    return name or PLAYBOOK


def reason(result: dict[str, Any]) -> str:
    """The first lines of what a failed task said, with the program's own words where it has any."""
    said = str(result.get("msg") or result.get("module_stderr") or "no reason given").strip()
    for noise in ("Task failed: ", "EOF on stream; last 100 lines received:"):  # Ansible's own, Mitogen's own
        said = said.removeprefix(noise).strip()
    if said.startswith("non-zero return code"):
        words = [line for key in ("stderr", "stdout") for line in str(result.get(key) or "").strip().splitlines()]
        said = "\n".join([f"it ended with {result.get('rc')}", *words[-REASON_LINES + 1 :]])
    lines = [textwrap.shorten(line, REASON_COLUMNS, placeholder=" …") for line in said.splitlines() if line.strip()]
    if len(lines) > REASON_LINES:
        lines = [*lines[: REASON_LINES - 1], f"… {len(lines) - REASON_LINES + 1} more lines above"]
    return "\n".join(lines)


def condensed(changes: list[Event]) -> list[str]:
    """One line a role: its changed tasks, as far as they are few."""
    lines = []
    for role in dict.fromkeys(change.role for change in changes):
        tasks = list(dict.fromkeys(change.task.rpartition(" | ")[2] for change in changes if change.role == role))
        more = f" and {len(tasks) - TASKS_OF_A_ROLE} more" if len(tasks) > TASKS_OF_A_ROLE else ""
        lines.append(f"{role} · {', '.join(tasks[:TASKS_OF_A_ROLE])}{more}")
    return lines


def table(reports: list[HostReport], checked: bool, duration_s: float, width: int) -> list[str]:
    """The lines of the report, none wider than `width` (at least 70): what needs a look comes last, near the prompt."""
    if not reports:
        return []
    reports = sorted(reports, key=lambda report: (RESULTS.index(report.result), report.host))
    names = max(len("host"), *(len(report.host) for report in reports))
    results = max(len("result"), *(len(report.result) for report in reports))
    head = f"{'host':<{names}}  {'result':<{results}}  changed    time  "
    room = max(width, 70) - len(head)
    rule = "─" * (len(head) + room)
    title = "What would change" if checked else "What was done"
    lines = ["", f"{stringc(title, 'bright blue')} in {clock(duration_s)}", f"{head}what, and why", rule]
    for report in reports:
        told = [shown for line, colour in said(report) for shown in coloured(wrap(line, room), colour)]
        result = stringc(f"{report.result:<{results}}", RESULT_COLOURS[report.result])
        first = f"{report.host:<{names}}  {result}  {report.changed:>7}  {clock(report.busy_s):>6}  "
        lines.append((first + "".join(told[:1])).rstrip())
        lines += [" " * len(head) + line for line in told[1:]]
    return [*lines, rule, totals(reports)]


def said(report: HostReport) -> list[tuple[str, str | None]]:
    """What is to be said of a host, with its colour."""
    lines: list[tuple[str, str | None]] = [(line, None) for line in condensed(report.changes)]
    for failure in report.failures:
        reasons = failure.message.splitlines()
        lines += [(f"{failure.role} · {failure.task}", "red"), *((f"  {line}", "red") for line in reasons)]
    return lines


def coloured(lines: list[str], colour: str | None) -> list[str]:
    return [stringc(line, colour) for line in lines] if colour else lines


def wrap(line: str, room: int) -> list[str]:
    """Lines of at most `room` characters, indented like the first and a little more."""
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(line, room, subsequent_indent=indent + "  ", break_on_hyphens=False) or [""]


def totals(reports: list[HostReport]) -> str:
    counted = {result: sum(report.result == result for report in reports) for result in RESULTS}
    hosts = "1 host" if len(reports) == 1 else f"{len(reports)} hosts"
    return f"{hosts}: " + ", ".join(f"{count} {result}" for result, count in counted.items() if count)


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{seconds:.1f}s"


def as_dict(reports: list[HostReport], checked: bool, duration_s: float) -> dict[str, Any]:
    hosts = {
        report.host: {
            **({"drift": {role: became != "ok" for role, became in report.roles.items()}} if checked else {}),
            **{key: value for key, value in asdict(report).items() if key != "host"},
            "busy_s": round(report.busy_s, 3),
        }
        for report in reports
    }
    return {
        "checked_unix_s": int(time.time()),
        "check_mode": checked,
        "duration_s": round(duration_s, 3),
        "hosts": hosts,
    }


def write_whole(path: Path, document: dict[str, Any]) -> None:
    """Readers see the whole file or the one before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
        json.dump(document, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).rename(path)
