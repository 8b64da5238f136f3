"""How long a run takes that finds nothing to change: 3, 10 and 30 hosts, with our settings of Ansible and with its own.

The hosts are simulated ones with SSH and Python alone, on this machine; forty tasks in the proportions of our roles.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from figure import Column, Comparison, Figure, Row, Sample, compare
from options import REPO, Options
from processes import BenchError, Unavailable

NAME = "noop"
SIZES = (3, 10, 30)
OURS, PIPELINED, DEFAULTS = "LeFleet's", "LeFleet's without Mitogen", "Ansible's defaults"
WALL = Column("wall_s", "s")
COLUMNS = (WALL, Column("each_s", "s/host", 2), Column("cpu_s", "CPU s of the controller"))
ANSIBLE_CFG = REPO / "ansible" / "ansible.cfg"
SETTINGS: dict[str, dict[str, str]] = {
    OURS: {"ANSIBLE_CONFIG": str(ANSIBLE_CFG)},
    PIPELINED: {"ANSIBLE_CONFIG": str(ANSIBLE_CFG), "ANSIBLE_STRATEGY": "linear"},
    DEFAULTS: {"ANSIBLE_CONFIG": "empty.cfg"},
}
# How often our roles use each module, scaled to forty tasks: counted over roles/*/tasks. Modules that need systemd or
# Docker are left to others of their cost.
TASKS: tuple[tuple[int, str, dict[str, Any]], ...] = (
    (12, "command", {"argv": ["cat", "/proc/uptime"]}),
    (10, "assert", {"that": "ansible_facts['system'] == 'Linux'", "quiet": True}),
    (6, "file", {"path": "/etc/lefleet-{n}", "state": "directory", "mode": "0755"}),
    (4, "copy", {"content": "value = {n}\n", "dest": "/etc/lefleet-copied-{n}", "mode": "0644"}),
    (3, "template", {"src": "noop.j2", "dest": "/etc/lefleet-rendered-{n}", "mode": "0644"}),
    (3, "stat", {"path": "/etc/passwd"}),
    (1, "getent", {"database": "passwd", "key": "operator"}),
    (1, "lineinfile", {"path": "/etc/lefleet-copied-0", "line": "another = 1", "mode": "0644", "create": True}),
)


def sizes(options: Options) -> tuple[int, ...]:
    return (2,) if options.quick else SIZES


def steps(options: Options) -> int:
    return 1 + len(sizes(options)) * (1 + options.rounds * len(SETTINGS))


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    simulated = fleet_module()
    write_play(options.folder)
    found: dict[str, list[Sample]] = {row(name, size): [] for size in sizes(options) for name in SETTINGS}
    with ExitStack() as stack:
        members: list[Any] = []
        tell(f"starting {max(sizes(options))} hosts")
        for size in sizes(options):
            while len(members) < size:
                members.append(stack.enter_context(light_host(simulated, f"bench-{len(members)}")))
            inventory = options.folder / f"{size}.yml"
            inventory.write_text(yaml.safe_dump(simulated.inventory(members)))
            tell(f"{size} hosts, first run")
            run(options.folder, inventory, SETTINGS[OURS], changes=True)
            for _ in range(options.rounds):
                for name, settings in SETTINGS.items():
                    tell(row(name, size))
                    found[row(name, size)].append(sample(run(options.folder, inventory, settings), size))
    rows = tuple(Row(name, tuple(rounds)) for name, rounds in found.items())
    return Figure(
        NAME,
        f"A run that changes nothing, {sum(count for count, _, _ in TASKS)} tasks, median of {options.rounds}",
        COLUMNS,
        rows,
        tuple(comparison for size in sizes(options) for comparison in comparisons(rows, size)),
        (
            "Real SSH to simulated hosts that share this machine's cores with the controller, connections cold at the "
            f"start. LeFleet's: {', '.join(our_settings())}. Ansible's defaults: 5 forks, no pipelining.",
        ),
    )


def row(name: str, size: int) -> str:
    return f"{size} hosts, {name}"


def comparisons(rows: tuple[Row, ...], size: int) -> Iterator[Comparison]:
    for peer in (DEFAULTS, PIPELINED):
        yield from compare(f"{size} hosts", rows, row(OURS, size), row(peer, size), WALL, lower_is_better=True)


@dataclass(frozen=True, slots=True)
class Cost:
    wall_s: float
    cpu_s: float


def sample(cost: Cost, size: int) -> Sample:
    return {"wall_s": cost.wall_s, "each_s": cost.wall_s / size, "cpu_s": cost.cpu_s}


def run(folder: Path, inventory: Path, settings: dict[str, str], *, changes: bool = False) -> Cost:
    """One run of the playbook; raises BenchError when it does not end as it should."""
    sockets, stats = folder / "ssh", folder / "stats.json"
    sockets.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment = {
        **kept,
        **settings,
        "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),  # nobody's open connections make a run quicker
        "ANSIBLE_CALLBACK_PLUGINS": f"{REPO}/tests/fleet/callbacks:{REPO}/ansible/plugins/callback",
        "LEFLEET_FLEET_STATS": str(stats),
    }
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, folder / "noop.yml"]
    before = os.times()
    begun_s = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    wall_s, after = time.monotonic() - begun_s, os.times()
    close(sockets)
    if done.returncode:
        raise BenchError(f"ansible-playbook ended with {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}")
    changed = sum(counts["changed"] for counts in json.loads(stats.read_text()).values())
    if changed and not changes:
        raise BenchError(f"the run changed {changed} things where it was to change none")
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(wall_s, cpu_s)


def close(sockets: Path) -> None:
    """End the connections that SSH keeps."""
    for socket in sockets.iterdir():
        words = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "host"]
        subprocess.run(words, capture_output=True, check=False)
        socket.unlink(missing_ok=True)


def write_play(folder: Path) -> None:
    """The forty tasks, with facts gathered first as our playbooks do."""
    tasks = [
        {
            "name": f"{module} {number}",
            f"ansible.builtin.{module}": json.loads(json.dumps(words).replace("{n}", str(number))),
            **({"changed_when": False} if module == "command" else {}),
        }
        for count, module, words in TASKS
        for number in range(count)
    ]
    last = next(task for task in tasks if task["name"] == "copy 0")
    last["ansible.builtin.copy"]["force"] = False  # lineinfile adds to it
    play = [{"name": "Nothing to do", "hosts": "all", "become": True, "gather_facts": True, "tasks": tasks}]
    (folder / "noop.yml").write_text(yaml.safe_dump(play, sort_keys=False))
    (folder / "empty.cfg").write_text("[defaults]\n")
    (folder / "noop.j2").write_text("# {{ ansible_facts['hostname'] }}\nvalue = {{ ansible_host }}\n")


def our_settings() -> list[str]:
    """What ansible.cfg chooses, in words."""
    lines = dict(line.split(" = ", 1) for line in ANSIBLE_CFG.read_text().splitlines() if " = " in line)
    return [f"strategy {lines['strategy']}", f"{lines['forks']} forks", f"pipelining {lines['pipelining']}"]


def fleet_module() -> Any:
    """tests/fleet/fleet.py, if hosts can be had here."""
    path = REPO / "tests" / "fleet" / "fleet.py"
    spec = importlib.util.spec_from_file_location("fleet", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["fleet"] = module
    spec.loader.exec_module(module)
    try:
        module.ensure_engine()
    except module.FleetError as error:
        raise Unavailable(str(error)) from error
    return module


@contextmanager
def light_host(simulated: Any, name: str) -> Iterator[Any]:
    simulated.down([name])  # one that a killed run left
    try:
        yield simulated.up(name, "light")
    finally:
        simulated.down([name])
