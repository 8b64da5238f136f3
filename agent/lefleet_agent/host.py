"""The machine that the agent runs on: its heat, its software, and where it differed from its roles."""

import math
import os
import re
import stat
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import structlog
from prometheus_client.parser import text_string_to_metric_families

log = structlog.get_logger()

ZONES = Path("/sys/class/thermal")
JETSON_LINUX = Path("/etc/nv_tegra_release")
"""NVIDIA's runtime shows it to containers too."""
MOST_BYTES = 64 * 1024
MOST_ROLES = 64
_ROLE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_JETSON_LINUX = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")
_YEAR_10000_S = 253_402_300_800


def temperatures(zones: Path = ZONES) -> dict[str, float]:
    """Degrees Celsius by thermal zone; zones that are switched off give no number."""
    found: dict[str, float] = {}
    for zone in sorted(zones.glob("thermal_zone*")):
        try:
            found[(zone / "type").read_text().strip()] = int((zone / "temp").read_text()) / 1000
        except (OSError, ValueError):
            continue
    return found


def hottest(found: dict[str, float]) -> str | None:
    return max(found, key=lambda zone: found[zone], default=None)


def versions(jetson_linux: Path = JETSON_LINUX) -> dict[str, str]:
    """Of what policies and the arm depend on; what is not there is left out."""
    found = {name: _package(name) for name in ("lerobot", "torch")}
    found |= {"jetson_linux": _jetson_linux(jetson_linux), "kernel": os.uname().release}
    return {name: version for name, version in found.items() if version}


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _jetson_linux(file: Path) -> str:
    """`36.4.3` of `# R36 (release), REVISION: 4.3, ...`."""
    try:
        found = _JETSON_LINUX.match(file.read_text(errors="replace"))
    except OSError:
        return ""
    return f"{found[1]}.{found[2]}" if found else ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `make drift` wrote down."""

    differs: dict[str, bool]
    """By role: whether the host differed from what it says."""
    checked_unix_s: int


class DriftError(ValueError):
    """The file is not one that `make drift` wrote."""


class Drift:
    """The file that `make drift` leaves on the host for node exporter, read again when it has changed."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._seen: tuple[int, ...] = ()
        self._found: Comparison | None = None
        self._told = ""

    def read(self) -> Comparison | None:
        """None where there is no such file, or it cannot be used: the log says why, once."""
        if self._file is None:
            return None
        try:
            about = self._file.stat()
            seen = about.st_ino, about.st_mtime_ns, about.st_size
            if seen != self._seen:
                self._found = parse(_content(self._file))
                self._seen = seen
            self._told = ""
        except (OSError, DriftError) as error:
            self._seen, self._found = (), None
            self._tell(getattr(error, "strerror", None) or str(error))
        return self._found

    def _tell(self, why: str) -> None:
        if why != self._told:
            self._told = why
            log.warning("nothing is known of drift; `make drift` writes this file", file=str(self._file), error=why)


def parse(text: str) -> Comparison:
    """What a file of `make drift` says, in Prometheus' text format. Raises DriftError."""
    differs: dict[str, bool] = {}
    checked = math.nan
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "lefleet_drift":
                    differs[sample.labels["role"]] = sample.value != 0
                elif sample.name == "lefleet_drift_checked_timestamp_seconds":
                    checked = sample.value
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise DriftError(f"not in Prometheus' text format: {str(error)[:200]}") from error
    if not 0 <= checked < _YEAR_10000_S:
        raise DriftError("lefleet_drift_checked_timestamp_seconds is missing, or no time")
    if not differs or len(differs) > MOST_ROLES or not all(map(_ROLE.fullmatch, differs)):
        raise DriftError(f"lefleet_drift must name 1 to {MOST_ROLES} roles")
    return Comparison(differs, int(checked))


def _content(file: Path) -> str:
    """Raises OSError, DriftError."""
    # What is no file could keep the heartbeat waiting: a named pipe does.
    with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise DriftError("not a file")
        data = opened.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise DriftError(f"larger than {MOST_BYTES} bytes")
    return data.decode(errors="replace")
