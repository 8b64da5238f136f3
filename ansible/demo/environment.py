"""Create the environment, or bring it up to date, when its pinned requirements changed; otherwise return at once."""

import hashlib
import os
import re
import subprocess
import sys

from here import OWN_VENV, REPO, VENV, refuse, say

REQUIREMENTS = REPO / "tests" / "requirements.txt"
PARTS = "agent", "server"
STAMP = VENV / ".lefleet-stamp"


def wanted() -> str:
    """A digest of everything that decides what the environment holds."""
    digest = hashlib.sha256()
    for path in (REQUIREMENTS, *(REPO / part / "pyproject.toml" for part in PARTS)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def uv_pin() -> str:
    found = re.search(r"^uv==\S+", REQUIREMENTS.read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{REQUIREMENTS}: uv is not pinned; run `make requirements`")
    return found.group()


def build() -> None:
    """Every step may be repeated, so an interrupted build goes on where it stopped."""
    python = VENV / "bin" / "python"
    say(f"Environment: installing into {VENV} (6 GB; some minutes the first time)")
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", uv_pin()], check=True)
    environment = {"UV_HTTP_TIMEOUT": "600", **os.environ}  # wheels of 800 MB
    install = [str(VENV / "bin" / "uv"), "pip", "install", "--python", str(python)]
    subprocess.run([*install, "--requirements", str(REQUIREMENTS)], check=True, env=environment)
    editable = [word for part in PARTS for word in ("--editable", str(REPO / part))]
    subprocess.run([*install, "--no-deps", *editable], check=True, env=environment)
    say("Environment: compiling")
    # Takes an agent's imports from 16 to 6 s of processor time, also for users who forbid Python to write bytecode.
    # Unchecked: some packages hold templates that are no Python.
    subprocess.run([python, "-W", "ignore", "-m", "compileall", "-qq", "-j", "0", VENV / "lib"], check=False)


def main() -> int:
    stamp = STAMP.read_text() if STAMP.is_file() else ""
    if stamp == wanted():
        return 0
    if VENV != OWN_VENV:
        # It belongs to another copy of the repository, whose installed programs it must go on pointing at.
        if (VENV / "bin" / "python").exists():
            say(f"Environment: {VENV} was made for other requirements and is used as it is")
            return 0
        return refuse(f"VENV={VENV} holds no environment; leave VENV out and this copy makes its own")
    try:
        build()
    except subprocess.CalledProcessError as error:
        return refuse(
            f"`{' '.join(map(str, error.cmd))}` ended with {error.returncode}; its output above says why. "
            "Call make again to go on from there"
        )
    STAMP.write_text(wanted())
    return 0


if __name__ == "__main__":
    sys.exit(main())
