"""Fixtures for tests on simulated hosts. `make test-fleet` runs them; they need root and Docker."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
KEEP = bool(os.environ.get("LEFLEET_FLEET_KEEP"))
_BEGUN_S = time.monotonic()

sys.path.insert(0, str(HERE))  # this folder's modules: pytest's importlib mode puts nothing there
import fleet as simulated  # noqa: E402


class Fleet:
    """Makes hosts and removes them again."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def host(self, name: str, kind: str = "jetson", drives: Sequence[tuple[int, str]] = ()) -> Any:
        """A fresh host; one of that name that was left behind is removed first."""
        simulated.down([name])
        self._names.append(name)
        return simulated.up(name, kind, drives)

    def close(self) -> None:
        if not KEEP:
            simulated.down(self._names)


@dataclass(frozen=True, slots=True)
class Play:
    """What a run of ansible-playbook did."""

    rc: int
    output: str
    stats: dict[str, dict[str, int]]

    def _counts(self, name: str) -> dict[str, int]:
        return {host: counts.get(name, 0) for host, counts in self.stats.items()}

    @property
    def changed(self) -> dict[str, int]:
        return self._counts("changed")

    @property
    def failed(self) -> dict[str, int]:
        return self._counts("failures")

    @property
    def unreachable(self) -> dict[str, int]:
        return self._counts("unreachable")


def pytest_addoption(parser: pytest.Parser) -> None:
    words = "begin no further test after so many minutes: what is left is skipped"
    parser.addoption("--minutes", type=float, default=float("inf"), help=words)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The whole floor first: it holds most of what the roles promise."""
    items.sort(key=lambda item: item.path.stem != "test_fleet")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before its fixtures, which may take longer than the test."""
    minutes = item.config.getoption("--minutes")
    if time.monotonic() - _BEGUN_S > minutes * 60:
        pytest.skip(f"--minutes {minutes:g} are over; `make test-fleet` runs it all")


@pytest.fixture(scope="session", autouse=True)
def engine() -> Iterator[None]:
    """A Docker engine; one that had to be started ends with the tests."""
    started = simulated.ensure_engine()
    yield
    if started and not KEEP:
        started.terminate()
        started.wait(60)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    made = Fleet()
    yield made
    made.close()


@pytest.fixture(scope="session")
def playbook(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Play]:
    """Runs a playbook of ansible/ (a name) or of one's own (a list of plays) on hosts; see `play`."""

    def run(
        plays: str | list[dict[str, Any]],
        inventory: Path | dict[str, Any],
        *words: str,
        environment: dict[str, str] | None = None,
        timeout_s: float = 1800,
    ) -> Play:
        folder = tmp_path_factory.mktemp("play")
        if not isinstance(inventory, Path):
            (folder / "hosts.yml").write_text(yaml.safe_dump(inventory, sort_keys=False))
            inventory = folder / "hosts.yml"
        if not isinstance(plays, str):
            (folder / "play.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
            plays = str(folder / "play.yml")
        done = subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, plays, *words],
            cwd=REPO / "ansible",
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "ANSIBLE_CONFIG": str(REPO / "ansible" / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "LEFLEET_FLEET_STATS": str(folder / "stats.json"),
                "ANSIBLE_CALLBACK_PLUGINS": f"{HERE / 'callbacks'}:{REPO / 'ansible' / 'plugins' / 'callback'}",
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        stats = folder / "stats.json"
        output = done.stdout + done.stderr
        (folder / "output.txt").write_text(output)
        print(output)  # pytest shows it when the test fails
        return Play(done.returncode, output, json.loads(stats.read_text()) if stats.exists() else {})

    return run


@pytest.fixture(scope="session")
def play(playbook: Callable[..., Play]) -> Callable[..., Play]:
    """Applies roles to hosts: `play(["swap"], [host], {"swap_size_mb": 512}, check=True)`."""

    def run(
        roles: Sequence[str],
        hosts: Sequence[Any],
        variables: dict[str, Any] | None = None,
        *,
        check: bool = False,
        diff: bool = False,
        tags: Sequence[str] = (),
        tasks_from: str | None = None,
        environment: dict[str, str] | None = None,
        timeout_s: float = 1800,
    ) -> Play:
        if tasks_from:
            names = [{"ansible.builtin.include_role": {"name": role, "tasks_from": tasks_from}} for role in roles]
            what: dict[str, Any] = {"tasks": names}
        else:
            what = {"roles": [{"role": role, "tags": [role]} for role in roles]}
        words = [*(["--check"] if check else []), *(["--diff"] if diff else []), *(f"--tags={tag}" for tag in tags)]
        plays = [{"name": "Test", "hosts": "all", "become": True, "gather_facts": True, **what}]
        return playbook(
            plays, simulated.inventory(hosts, variables), *words, environment=environment, timeout_s=timeout_s
        )

    return run
