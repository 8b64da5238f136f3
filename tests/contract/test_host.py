"""What a robot tells of its computer is what the server understands."""

import os
from importlib import metadata

from lefleet_agent.courier.heartbeat import Report
from lefleet_agent.host import Drift
from lefleet_agent.spool import Spool
from lefleet_server.robots.schemas import Heartbeat
from lefleet_server.robots.state import RobotState
from lefleet_server.robots.stops import Stop, StopState

DRIFT = (
    'lefleet_drift{role="swap"} 1\nlefleet_drift{role="docker"} 0\nlefleet_drift_checked_timestamp_seconds 1780000000\n'
)
RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8\n"


def test_heat_drift_and_versions_arrive_as_they_were_told(tmp_path):
    zone = tmp_path / "thermal" / "thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("tj-thermal\n")
    (zone / "temp").write_text("97531\n")
    (tmp_path / "lefleet_drift.prom").write_text(DRIFT)
    drift, release = Drift(tmp_path / "lefleet_drift.prom"), tmp_path / "nv_tegra_release"
    release.write_text(RELEASE)
    report = Report(tmp_path, Spool(tmp_path / "spool"), 10**9, drift=drift, zones=zone.parent, jetson_linux=release)
    heard = Heartbeat.model_validate(report.heartbeat("")).model_dump(mode="json")
    robot = RobotState("robot-1", "", "running", True, None, (), Stop(StopState.FREE), heard)
    assert (robot.host_zone, robot.host_celsius, robot.host_tone) == ("tj-thermal", 97.531, "bad")
    assert robot.drift == ["swap"]
    assert robot.libraries == f"LeRobot {metadata.version('lerobot')} · torch {metadata.version('torch')}"
    assert robot.system == f"Jetson Linux 36.4.3 · Linux {os.uname().release}"
