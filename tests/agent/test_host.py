"""What the robot's computer is found to be: how hot, and where it differs from its roles."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lefleet_agent import host
from lefleet_agent.courier.heartbeat import Report
from lefleet_agent.host import MOST_BYTES, Comparison, Drift
from lefleet_agent.metrics import HostMetrics, exposition, new_registry
from lefleet_agent.spool import Spool

AT_S = 1_780_000_000


def written(**differs: bool) -> str:
    lines = [f'lefleet_drift{{role="{role}"}} {int(value)}' for role, value in differs.items()]
    return "\n".join([*lines, f"lefleet_drift_checked_timestamp_seconds {AT_S}", ""])


def zones(folder: Path, **celsius: float) -> Path:
    for number, (name, value) in enumerate(celsius.items()):
        zone = folder / f"thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(f"{name}\n")
        (zone / "temp").write_text(f"{value * 1000:.0f}\n")
    return folder


def replace(file: Path, text: str) -> None:
    """As Ansible's `template` does it."""
    part = file.with_name("part")
    part.write_text(text)
    part.rename(file)


def said(tmp_path: Path, drift: Drift | None = None, heat: Path = Path("/none")) -> dict:
    return Report(tmp_path, Spool(tmp_path / "spool"), 10**9, drift=drift, zones=heat).heartbeat("")


def test_the_heartbeat_names_the_hottest_zone_and_the_roles_that_differ(tmp_path):
    file = tmp_path / "lefleet_drift.prom"
    replace(file, written(swap=True, docker=False, agent=True))
    told = said(tmp_path, Drift(file), zones(tmp_path / "thermal", cpu=61.5, gpu=64, soc=63.2))
    assert told["temperature"] == {"zone": "gpu", "celsius": 64.0}
    assert told["drift"] == {"roles": ["swap", "agent"], "checked_unix_s": AT_S}


def test_a_machine_without_zones_that_was_never_compared_says_nothing(tmp_path):
    told = said(tmp_path)
    assert told["temperature"] is told["drift"] is None


def test_what_this_computer_does_not_have_is_left_out_of_its_versions(tmp_path):
    assert "jetson_linux" not in host.versions(tmp_path / "none")
    assert "jetson_linux" not in host.versions(tmp_path)
    (tmp_path / "release").write_text("Debian")
    found = host.versions(tmp_path / "release")
    assert "jetson_linux" not in found and found["kernel"] == os.uname().release


def test_a_new_comparison_takes_the_place_of_the_old_one(tmp_path):
    file = tmp_path / "lefleet_drift.prom"
    replace(file, written(swap=True))
    drift = Drift(file)
    assert drift.read() == Comparison({"swap": True}, AT_S)
    assert drift.read() is drift.read(), "it was read again without need"
    replace(file, written(swap=False))
    assert drift.read() == Comparison({"swap": False}, AT_S)
    file.unlink()
    assert drift.read() is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "lefleet_drift_checked_timestamp_seconds is missing"),
        ("lefleet_drift{role=", "not in Prometheus' text format"),
        ("<html>no</html>", "not in Prometheus' text format"),
        ('lefleet_drift{role="swap"} 1\n', "lefleet_drift_checked_timestamp_seconds is missing"),
        (f'lefleet_drift{{part="swap"}} 1\nlefleet_drift_checked_timestamp_seconds {AT_S}\n', "not in Prometheus'"),
        ('lefleet_drift{role="swap"} 1\nlefleet_drift_checked_timestamp_seconds NaN\n', "or no time"),
        ('lefleet_drift{role="swap"} 1\nlefleet_drift_checked_timestamp_seconds -3\n', "or no time"),
        ('lefleet_drift{role="swap"} 1\nlefleet_drift_checked_timestamp_seconds 1e300\n', "or no time"),
        (written(), "must name 1 to 64 roles"),
        (written(**{f"role{n}": True for n in range(65)}), "must name 1 to 64 roles"),
        (written(**{"<b>": True}), "must name 1 to 64 roles"),
        (written(swap=True) + "#" * MOST_BYTES, f"larger than {MOST_BYTES} bytes"),
        ("\x00" * 500, "not in Prometheus' text format"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_says_nothing_is_told_in_the_log_once(tmp_path, content, why):
    file = tmp_path / "lefleet_drift.prom"
    if content is not None:
        file.write_text(content)
    drift = Drift(file)
    with capture_logs() as logs:
        told = [said(tmp_path, drift)["drift"] for _ in range(3)]
    assert told == [None] * 3
    assert len(logs) == 1 and why in logs[0]["error"] and logs[0]["file"] == str(file)
    replace(file, written(swap=True))
    assert drift.read() == Comparison({"swap": True}, AT_S), "it is known again"


def test_bytes_that_are_no_text_say_nothing(tmp_path):
    file = tmp_path / "lefleet_drift.prom"
    file.write_bytes(os.urandom(2000))
    assert Drift(file).read() is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_keeps_nobody_waiting(tmp_path, make):
    make(tmp_path / "drift")
    with capture_logs() as logs:
        assert Drift(tmp_path / "drift").read() is None
    assert len(logs) == 1


def test_the_metrics_say_every_zone_and_role(tmp_path):
    file = tmp_path / "lefleet_drift.prom"
    registry, heat = new_registry(), zones(tmp_path / "thermal", cpu=61.5, gpu=64)
    registry.register(HostMetrics(lambda: host.temperatures(heat), Drift(file).read))
    assert "lefleet_drift" not in exposition(registry)
    replace(file, written(swap=True, docker=False))
    lines = [line for line in exposition(registry).splitlines() if not line.startswith("#")]
    assert lines == [
        'lefleet_temperature_celsius{zone="cpu"} 61.5',
        'lefleet_temperature_celsius{zone="gpu"} 64.0',
        'lefleet_drift{role="swap"} 1.0',
        'lefleet_drift{role="docker"} 0.0',
        f"lefleet_drift_checked_timestamp_seconds {AT_S / 1e9}e+09",
    ]
