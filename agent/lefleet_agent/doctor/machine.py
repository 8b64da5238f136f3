"""The machine: disk, memory, clock, temperature, and whether the policy's device is really used."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lefleet_agent import host
from lefleet_agent.doctor.finding import Finding, Findings, bad, good, unknown, warning
from lefleet_agent.release import ReleaseError, ReleaseStore

GB = 10**9
LEAST_FREE_BYTES = 2 * GB
LEAST_MEMORY_BYTES = 500 * 10**6
LARGEST_OFFSET_S = 5.0
HOT_CELSIUS, TOO_HOT_CELSIUS = 85.0, 97.0  # an Orin throttles at 99
DEVICE_TIMEOUT_S = 120.0


def disk(state_dir: Path, budget_bytes: int) -> Findings:
    """Free space, and whether a file can be written and synced."""
    try:
        usage = shutil.disk_usage(state_dir)
        with tempfile.NamedTemporaryFile(dir=state_dir, prefix="doctor-") as file:
            file.write(b"lefleet")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield bad("disk", f"{state_dir}: {error.strerror}", "mount its disk, or free space: nothing can be recorded")
        return
    told = f"{state_dir}: {usage.free / GB:.1f} of {usage.total / GB:.1f} GB free, writable"
    if usage.free < LEAST_FREE_BYTES:
        yield bad("disk", told, "free space, or set recording.spool_budget_bytes lower")
    elif budget_bytes > usage.total:
        yield warning("disk", f"{told}; less than recording.spool_budget_bytes = {budget_bytes / GB:.1f} GB",
                      "set it below the disk's size: a full disk stops recording before the budget does")  # fmt: skip
    else:
        yield good("disk", told)


def memory(meminfo: str) -> Findings:
    """`meminfo`: the content of /proc/meminfo."""
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in meminfo.splitlines() if ":" in line}
    free = kilobytes["MemAvailable"] * 1024
    swap_used = (kilobytes["SwapTotal"] - kilobytes["SwapFree"]) * 1024
    told = (
        f"{free / GB:.1f} of {kilobytes['MemTotal'] * 1024 / GB:.1f} GB available, {swap_used / GB:.1f} GB swapped out"
    )
    if free < LEAST_MEMORY_BYTES:
        yield bad("memory", told, "a smaller policy, no desktop (role base), swap on NVMe (role swap); "
                  "`lefleet-agent fit` says what the policy takes")  # fmt: skip
    else:
        yield good("memory", told)


def temperatures(zones: Path = host.ZONES) -> Findings:
    """The hottest zone."""
    found = host.temperatures(zones)
    hottest = host.hottest(found)
    if hottest is None:
        yield unknown("temperature", "this machine shows no temperatures")
        return
    told = f"{hottest} {found[hottest]:.0f} °C, the hottest of {len(found)}"
    if found[hottest] >= TOO_HOT_CELSIUS:
        yield bad("temperature", told, "the machine slows itself down: clean the fan, or a lower power mode")
    elif found[hottest] >= HOT_CELSIUS:
        yield warning("temperature", told, "look at the fan before it throttles at 99 °C")
    else:
        yield good("temperature", told)


def clock(offset_s: float | None) -> Findings:
    """`offset_s`: how far the server's clock is ahead, from its last answer."""
    if offset_s is None:
        yield unknown("clock", "nothing to compare it with: the server did not answer")
    elif abs(offset_s) > LARGEST_OFFSET_S:
        yield warning("clock", f"{abs(offset_s):.0f} s {'behind' if offset_s > 0 else 'ahead of'} the server's",
                      "time sync (role base); nothing is lost, but episodes carry a wrong date")  # fmt: skip
    else:
        yield good("clock", f"within {LARGEST_OFFSET_S:.0f} s of the server's")


def policy(releases: ReleaseStore) -> Findings:
    try:
        _, info = releases.active()
    except ReleaseError as error:
        yield bad("policy", str(error), "docs/operations.md, `change the policy`")
        return
    yield good("policy", f"{info.repo} {info.digest[:12]} ({info.type}), every file as it was installed")


def device(wanted: str) -> Findings:
    """What a policy would compute on, tried in a process of its own. `wanted`: the setting policy.device."""
    command = [sys.executable, "-m", "lefleet_agent.policies.device", wanted]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEVICE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        yield bad("device", f"trying {wanted} took over {DEVICE_TIMEOUT_S:.0f} s", "reboot: the GPU's driver hangs")
        return
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        yield bad("device", f"torch cannot compute on {wanted}: {last}", "the container needs the NVIDIA runtime "
                  "(role docker) and a torch built for this JetPack (docker/agent.Dockerfile)")  # fmt: skip
        return
    yield _device(wanted, json.loads(done.stdout))


def _device(wanted: str, found: dict[str, object]) -> Finding:
    told = f"{found['device']}: {found['name']}, torch {found['torch']}"
    on_a_jetson = Path("/etc/nv_tegra_release").exists()
    if found["device"] == "cpu" and wanted == "auto" and on_a_jetson:
        return bad("device", f"{told}; this is a Jetson, and its GPU is not used", "the container needs the NVIDIA "
                   "runtime (role docker) and a torch built for this JetPack (docker/agent.Dockerfile)")  # fmt: skip
    return good("device", told)
