"""What `lefleet-server fsck` shows."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.progress import Progress

from lefleet_server.audit.service import audit
from lefleet_server.config import Settings
from lefleet_server.db import Database
from lefleet_server.episodes import stores
from lefleet_server.episodes.fsck import FOLDERS, Finding, Fsck
from lefleet_server.episodes.usage import CHECKED, STORE


@dataclass(frozen=True, slots=True)
class Report:
    findings: list[Finding]

    @property
    def remaining(self) -> int:
        return sum(finding.remains for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        return {
            "clean": not self.findings,
            "remaining": self.remaining,
            "counts": dict(Counter(finding.fault.value for finding in self.findings)),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def as_entry(self) -> dict[str, Any]:
        """For the audit log: how many of what, not which."""
        said = self.as_json()
        return {"found": len(self.findings), "remaining": said["remaining"], "counts": said["counts"]}

    def as_text(self) -> str:
        if not self.findings:
            return "clean: every episode has its file, every file its episode"
        lines = [_line(finding) for finding in self.findings]
        return "\n".join([*lines, f"{len(self.findings)} found, {self.remaining} still wrong"])


async def run(settings: Settings, db: Database, *, repair: bool, deep: bool, quiet: bool) -> Report:
    """Looks through everything, with a progress bar on a terminal unless `quiet`."""
    stores.prepare(settings)
    blobs = stores.build(settings, db, "fsck").blobs
    check = Fsck(settings, db, blobs, repair=repair, deep=deep)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("comparing", total=len(FOLDERS))
        findings = [finding async for finding in check.findings(lambda _: progress.advance(task))]
    report = Report(findings)
    async with db.transaction() as session:
        audit(session, "console", CHECKED, STORE, report.as_entry() | {"repair": repair, "deep": deep})
    return report


def _line(finding: Finding) -> str:
    whose = f" episode {finding.episode_id} of {finding.robot_id}" if finding.episode_id else ""
    return f"{finding.fault}: {finding.name}{whose}" + (f": {finding.done}" if finding.done else "")
