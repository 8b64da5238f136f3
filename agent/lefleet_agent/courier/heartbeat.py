"""What the robot tells the server about itself every few seconds."""

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

from lefleet_agent import __version__
from lefleet_agent.liveness import UNTIL
from lefleet_agent.spool import Spool

CONTROL_SILENT_S = 5.0


class Report:
    """Puts a heartbeat together from what the control side last wrote and from the spool."""

    def __init__(self, state_dir: Path, spool: Spool, budget_bytes: int) -> None:
        self._run = state_dir / "run"
        self._state_dir = state_dir
        self._spool = spool
        self._budget_bytes = budget_bytes

    def heartbeat(self, metrics: str) -> dict[str, Any]:
        control = self.control()
        disk = shutil.disk_usage(self._state_dir)
        waiting = self._spool.stats()
        return {
            "state": control.get("state", "offline"),
            "detail": control.get("detail", ""),
            "policy": control.get("policy"),
            "loop": control.get("loop"),
            "episode_id": control.get("episode_id"),
            "task": control.get("task", ""),
            "cameras": sorted(path.stem for path in self._run.glob("preview/*.jpg")),
            "spool": {
                "episodes": waiting.waiting_episodes,
                "bytes": waiting.bytes,
                "budget_bytes": self._budget_bytes,
            },
            "disk": {"free_bytes": disk.free, "total_bytes": disk.total},
            "agent_version": __version__,
            "metrics": metrics,
            "wall_ns": time.time_ns(),
        }

    def control(self) -> dict[str, Any]:
        """The control side's own words; state `control_down` when it has been silent for five seconds."""
        path = self._run / "control.json"
        try:
            age_s = time.time() - path.stat().st_mtime
            values: dict[str, Any] = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return {"state": "control_down", "detail": "the control process has not started yet"}
        if age_s > CONTROL_SILENT_S:
            values |= {"state": "control_down", "detail": f"the control process is silent for {age_s:.0f} s"}
        elif time.monotonic_ns() > values.get(UNTIL, math.inf):
            # Its recorder lives and writes, but hears nothing from it.
            values |= {"state": "control_down", "detail": "the control process hangs"}
        return values

    def control_metrics(self) -> str:
        """The control side's metrics in Prometheus' text format; empty while it is down."""
        path = self._run / "control.prom"
        try:
            fresh = time.time() - path.stat().st_mtime <= CONTROL_SILENT_S
            return path.read_text() if fresh else ""
        except FileNotFoundError:
            return ""

    def previews(self) -> dict[str, bytes]:
        """The newest picture of each camera, JPEG."""
        return {path.stem: path.read_bytes() for path in self._run.glob("preview/*.jpg")}
