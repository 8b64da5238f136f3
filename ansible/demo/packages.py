"""Install the Debian packages that the environment cannot bring, or say the one command that does.

Whether a package is needed is found by using what it brings, so any way of having it will do.
"""

import argparse
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from here import refuse, say


class Need(NamedTuple):
    packages: tuple[str, ...]
    reason: str
    present: Callable[[], bool]
    required: bool


def loads(*libraries: str) -> bool:
    for library in libraries:
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return False


def finds(*programs: str) -> bool:
    places = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    return any(shutil.which(program, path=places) for program in programs)


RENDERING = Need(
    ("libosmesa6",), "MuJoCo renders the cameras with it", lambda: loads("libOSMesa.so.8", "libOSMesa.so.6"), True
)
BROWSER = Need(
    ("chromium", "fonts-dejavu-core"),
    "the browser tests drive it",
    lambda: finds("chromium", "chromium-browser"),
    False,
)
WEB_SERVER = Need(("nginx-light",), "it sends files, and uploads are compared with it", lambda: finds("nginx"), False)
PROXY = Need(("caddy",), "it stands before the server and sends files", lambda: finds("caddy"), False)
ALERTING = Need(
    ("prometheus",), "its alerts are shown, and its promtool tries the rules", lambda: finds("prometheus"), False
)
CLOCK = Need(
    ("libfaketime",),
    "the server's clock jumps by it",
    lambda: any(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")),
    False,
)
ENGINE = Need(("docker.io",), "the simulated hosts are its containers", lambda: finds("dockerd"), True)
BOOTSTRAP = Need(("debootstrap",), "the simulated hosts are built with it", lambda: finds("debootstrap"), True)
NEEDS = {
    "demo": (RENDERING,),
    "test": (RENDERING, BROWSER, WEB_SERVER, PROXY, ALERTING, CLOCK),
    "bench": (RENDERING, WEB_SERVER, PROXY),
    "fleet": (ENGINE, BOOTSTRAP),
}


def privilege() -> "list[str] | None":
    """What to put before apt-get, or None where this user may not install."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    if (
        shutil.which("sudo")
        and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    ):
        return ["sudo", "-n"]
    return None


def install(packages: list[str], prefix: list[str]) -> bool:
    say(f"Packages: installing {' '.join(packages)}")
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    subprocess.run([*apt, "update", "--quiet"], stdin=subprocess.DEVNULL, check=False)
    wanted = [*apt, "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    return subprocess.run(wanted, stdin=subprocess.DEVNULL, check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("purpose", choices=NEEDS)
    purpose = parser.parse_args().purpose
    missing = [need for need in NEEDS[purpose] if not need.present()]
    if not missing:
        return 0
    packages = [package for need in missing for package in need.packages]
    prefix = privilege()
    if prefix is not None and install(packages, prefix):
        missing = [need for need in missing if not need.present()]
    sentences = [f"{need.packages[0]} is missing: {need.reason}" for need in missing]
    if missing:
        sentences.append(f"install it with: sudo apt-get install {' '.join(packages)}")
        refuse(*sentences)
    return 1 if any(need.required for need in missing) else 0


if __name__ == "__main__":
    sys.exit(main())
