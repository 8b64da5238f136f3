"""A real Prometheus in a process of its own, with rules of a test's."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

CONFIG = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": ["rules.yml"]}


def fires(name: str, expr: str = "vector(1)", summary: str = "", **labels: str) -> dict[str, Any]:
    """A rule whose alert fires at once."""
    annotations = {"summary": summary} if summary else {}
    return {"alert": name, "expr": expr, "labels": labels, "annotations": annotations}


class Prometheus:
    """May be stopped and started again; keeps its port."""

    def __init__(self, folder: Path, rules: list[dict[str, Any]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.port = _free_port()
        self._wanted = {rule["alert"] for rule in rules if "for" not in rule}
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "prometheus.yml").write_text(yaml.safe_dump(CONFIG))
        (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "test", "rules": rules}]}))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = ["prometheus", f"--config.file={self._folder}/prometheus.yml", "--log.level=warn"]
        command += [f"--storage.tsdb.path={self._folder}/data", f"--web.listen-address=127.0.0.1:{self.port}"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self.names() >= self._wanted:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, f"not all of {self._wanted} fire: {self.names()}"
            time.sleep(0.1)

    def names(self) -> set[str]:
        """Of the alerts that fire; none while it does not answer."""
        try:
            found = httpx.get(f"{self.url}/api/v1/alerts", timeout=2).raise_for_status().json()["data"]["alerts"]
        except httpx.HTTPError:
            return set()
        return {each["labels"]["alertname"] for each in found if each["state"] == "firing"}

    def stop(self) -> None:
        assert self._process
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def running(folder: Path, *rules: dict[str, Any]) -> Iterator[Prometheus]:
    """With these rules, once all of them fire that need not wait."""
    made = Prometheus(folder, list(rules))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
