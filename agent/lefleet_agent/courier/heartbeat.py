"""What the robot tells the server about itself every few seconds. No disk's trouble keeps it from that."""

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

from lefleet_agent import __version__, host
from lefleet_agent.courier.silence import Silence
from lefleet_agent.host import Drift
from lefleet_agent.liveness import UNTIL
from lefleet_agent.obeyed import ESTOP, REBOOT, REST, TASK, Obeyed
from lefleet_agent.requests import DASHBOARD, drain, emergency_stop
from lefleet_agent.spool import Spool, SpoolError, SpoolStats

CONTROL_SILENT_S = 5.0
DOWN: dict[str, Any] = {"state": "control_down", "joints": None}  # nobody knows where the arm is now


class Report:
    """Puts a heartbeat together from what the control side last wrote and from the spool."""

    def __init__(
        self,
        state_dir: Path,
        spool: Spool,
        budget_bytes: int,
        host_reboots: bool = False,
        drift: Drift | None = None,
        zones: Path = host.ZONES,
        jetson_linux: Path = host.JETSON_LINUX,
    ) -> None:
        self._run = state_dir / "run"
        self._state_dir = state_dir
        self._spool = spool
        self._budget_bytes = budget_bytes
        self._host_reboots = host_reboots
        self._drift = drift or Drift(None)
        self._zones = zones
        self._versions = host.versions(jetson_linux)  # none of them changes while this process lives
        self._obeyed = Obeyed(state_dir)
        self._emergency = emergency_stop(state_dir)
        self._drain = drain(state_dir)
        self._stats: SpoolStats | None = None
        self._silence = Silence(self._run / "control.json")

    def heartbeat(self, metrics: str) -> dict[str, Any]:
        control = self.control()
        spool, trouble = self._spool_use()
        return {
            "state": control.get("state", "offline"),
            "detail": "; ".join(filter(None, (control.get("detail", ""), trouble)))[:4000],
            "policy": control.get("policy"),
            "loop": control.get("loop"),
            "episode_id": control.get("episode_id"),
            "task": control.get("task", ""),
            "calibration_fingerprint": control.get("calibration_fingerprint", ""),
            "joints": control.get("joints"),
            "cameras": sorted(path.stem for path in self._run.glob("preview/*.jpg")),
            "spool": spool,
            "disk": self._disk(),
            "temperature": self._temperature(),
            "drift": self._compared(),
            "estop": self._estop(),
            "orders": self._orders(),
            "courier": self._courier(),
            "agent_version": __version__,
            "versions": self._versions,
            "metrics": metrics,
            "uptime_s": time.clock_gettime(time.CLOCK_BOOTTIME),
            "wall_ns": time.time_ns(),
        }

    def control(self) -> dict[str, Any]:
        """The control side's own words; state `control_down` when it has been silent for five seconds."""
        path = self._run / "control.json"
        try:
            silent_s = self._silence.seconds()
            values: dict[str, Any] = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return {"state": "control_down", "detail": "the control process has not started yet"}
        except OSError as error:
            return {"state": "control_down", "detail": f"{path}: {error.strerror}; look whether its disk is there"}
        if silent_s > CONTROL_SILENT_S:
            values |= DOWN | {"detail": f"the control process is silent for {silent_s:.0f} s"}
        elif time.monotonic_ns() > values.get(UNTIL, math.inf):
            # Its recorder lives and writes, but hears nothing from it.
            values |= DOWN | {"detail": "the control process hangs"}
        return values

    def running(self) -> bool:
        """Whether an episode runs, as far as control says."""
        return bool(self.control().get("state") == "running")

    def control_metrics(self) -> str:
        """The control side's metrics in Prometheus' text format; empty while it is down.

        They are written more seldom than control.json, by the same process: that one says whether it lives.
        """
        try:
            return (self._run / "control.prom").read_text() if self._silence.seconds() <= CONTROL_SILENT_S else ""
        except OSError:
            return ""

    def previews(self) -> dict[str, bytes]:
        """The newest picture of each camera, JPEG."""
        return {path.stem: path.read_bytes() for path in self._run.glob("preview/*.jpg")}

    def _spool_use(self) -> tuple[dict[str, Any] | None, str]:
        """As last seen, None when it never was; and why it cannot be seen now."""
        error = ""
        try:
            self._stats = self._spool.stats()
        except SpoolError as trouble:
            error = str(trouble)
        if self._stats is None:
            return None, error
        use = {
            "episodes": self._stats.waiting_episodes,
            "bytes": self._stats.bytes,
            "budget_bytes": self._budget_bytes,
            "lost_episodes": self._stats.lost_episodes,
            "refused_episodes": self._stats.refused_episodes,
            "error": error,
        }
        return use, error

    def _estop(self) -> dict[str, Any] | None:
        """Which wish for an emergency stop was obeyed last, and whether that stop still holds; None without a disk."""
        try:
            # In this order: a stop's file is made before its number is kept, so a missing one was cleared here.
            return {"wish": self._obeyed.numbers()[ESTOP], "holds": DASHBOARD in self._emergency.asked_by()}
        except OSError:
            return None

    def _orders(self) -> dict[str, Any] | None:
        """Which words about its rest, its task and its host were obeyed last, and whether that rest still holds."""
        try:
            known = self._obeyed.numbers()  # before the rest: one obeyed in between is not told as ended
            return {
                "rest": known[REST],
                "task": known[TASK],
                "reboot": known[REBOOT] if self._host_reboots else None,
                "rests": DASHBOARD in self._drain.asked_by(),
            }
        except OSError:
            return None

    def _disk(self) -> dict[str, int] | None:
        try:
            disk = shutil.disk_usage(self._state_dir)
        except OSError:  # gone; what is on it says so
            return None
        return {"free_bytes": disk.free, "total_bytes": disk.total}

    def _temperature(self) -> dict[str, Any] | None:
        """The host's hottest zone; None where it shows none."""
        found = host.temperatures(self._zones)
        zone = host.hottest(found)
        return None if zone is None else {"zone": zone, "celsius": found[zone]}

    def _compared(self) -> dict[str, Any] | None:
        """From which roles the host differed when it was last compared; None when it never was."""
        known = self._drift.read()
        if known is None:
            return None
        roles = [role for role, differs in known.differs.items() if differs]
        return {"roles": roles, "checked_unix_s": known.checked_unix_s}

    def _courier(self) -> dict[str, Any] | None:
        """What the courier says of itself: the clock's offset, and what fails now."""
        try:
            values: dict[str, Any] = json.loads((self._run / "courier.json").read_text())
        except (OSError, ValueError):
            return None
        return {name: values.get(name) for name in ("clock_offset_s", "trouble")}
