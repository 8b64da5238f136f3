"""The agent and its server: credential, connection, the two processes, what waits for the server."""

from pathlib import Path

from lefleet_agent import liveness
from lefleet_agent.doctor.finding import Findings, bad, good, warning
from lefleet_agent.spool import Spool, SpoolError

NAMED = 5
"""Refused episodes that are told one by one."""
RESTART = "`systemctl status lefleet-*` on the host and their logs say more; systemd starts them again"


def server(url: str, trouble: str | None) -> Findings:
    """`trouble`: why it cannot be spoken to with the robot's credential; None where it can."""
    if trouble is None:
        yield good("server", f"{url} answers and knows this robot")
    else:
        yield bad("server", f"{url}: {trouble}", "the robot goes on alone meanwhile and catches up later")


def processes(run: Path, now_ns: int) -> Findings:
    for part in liveness.PARTS:
        found = liveness.health(run, part, now_ns)
        if found.alive:
            yield good(part, f"alive{f', {found.state}' if found.state else ''}")
        else:
            yield bad(part, found.detail, RESTART)


def spool(spool: Spool, budget_bytes: int) -> Findings:
    try:
        stats, refused = spool.stats(), spool.refused()
    except SpoolError as error:
        yield bad("spool", str(error), "see the disk above")
        return
    told = f"{stats.waiting_episodes} episodes wait, {stats.bytes / 1e9:.1f} of {budget_bytes / 1e9:.1f} GB used"
    if refused:
        named = "; ".join(f"{each.episode_id}: {each.reason}" for each in refused[:NAMED])
        more = f"; and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
        yield warning("spool", f"{told}; the server refused {len(refused)}, which stay here: {named}{more}",
                      "mend what it says, then `lefleet-agent retry-refused` offers them again")  # fmt: skip
    elif stats.unacknowledged_bytes > 0.8 * budget_bytes:
        yield warning("spool", told, "the server has not taken them for long; recording stops when it is full")
    else:
        yield good("spool", told)
