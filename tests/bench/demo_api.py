"""A person's view of a demo: log in with a one-time link, list episodes, read their signals."""

import json
import subprocess
import sys
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import numpy as np
import numpy.typing as npt
import yaml
from processes import BenchError
from upload_servers import answers

API = "/api/v1"
PAGE = 200


@dataclass(frozen=True, slots=True)
class DemoApi:
    port: int
    cookie: str

    @staticmethod
    def runs(checkout: Path) -> bool:
        config = config_file(checkout)
        return config.is_file() and answers(port_of(config), "/readyz")

    @classmethod
    def log_in(cls, checkout: Path) -> Self:
        config = config_file(checkout)
        command = [sys.executable, "-m", "lefleet_server", "login-link", "--config", str(config), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"lefleet-server login-link: {done.stderr.strip()}")
        code = parse_qs(urlsplit(json.loads(done.stdout)["url"]).query)["code"][0]
        port = port_of(config)
        answer, _ = call(port, "POST", f"{API}/login", {"Content-Type": "application/json"}, json.dumps({"code": code}))
        return cls(port, str(answer.getheader("Set-Cookie")).split(";", 1)[0])

    def episodes(self) -> list[dict[str, Any]]:
        """The newest ones, as the dashboard lists them."""
        found: list[dict[str, Any]] = self._get(f"/episodes?limit={PAGE}")["items"]
        return found

    def lateness_ms(self, episode_id: str) -> npt.NDArray[np.float64]:
        """Of every tick of an episode."""
        return np.array(self._get(f"/episodes/{episode_id}/signals")["lateness_ms"], np.float64)

    def _get(self, path: str) -> dict[str, Any]:
        _, body = call(self.port, "GET", API + path, {"Cookie": self.cookie})
        found: dict[str, Any] = json.loads(body)
        return found


def config_file(checkout: Path) -> Path:
    return checkout / ".demo" / "server" / "server.yml"


def port_of(config: Path) -> int:
    return int(yaml.safe_load(config.read_text())["port"])


def call(
    port: int, method: str, path: str, headers: dict[str, str], body: str | None = None
) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status >= 300:
        raise BenchError(f"{method} {path}: {answer.status} {content[:300]!r}")
    return answer, content
