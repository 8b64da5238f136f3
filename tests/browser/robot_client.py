"""A robot as the server sees it: enrols, sends heartbeats and pictures, uploads episodes by tus."""

import base64
import hashlib
import time
from pathlib import Path
from typing import Any, Self

import drawn_episode
import httpx

_API = "/api/v1/robot"
_TUS = {"Tus-Resumable": "1.0.0"}
JOINTS = {
    "names": list(drawn_episode.JOINTS),
    "units": list(drawn_episode.UNITS),
    "values": [10.0, -20.0, 30.0, 40.0, -50.0, 60.0],
}
METRICS = "".join(
    f'lefleet_motor_temperature_celsius{{joint="{joint}"}} {36 + 4 * place}\n'
    f'lefleet_motor_voltage_volts{{joint="{joint}"}} 5.1\nlefleet_motor_current_amperes{{joint="{joint}"}} 0.12\n'
    f'lefleet_motor_load_ratio{{joint="{joint}"}} -0.{place}\nlefleet_motor_errors_total{{joint="{joint}"}} {place}.0\n'
    for place, joint in enumerate(drawn_episode.JOINTS)
)


class RobotClient:
    """One enrolled robot."""

    def __init__(self, base_url: str, robot_id: str, token: str) -> None:
        self.id = robot_id
        self._base_url = base_url
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=base_url, headers=headers, timeout=30)

    @classmethod
    def enrol(cls, base_url: str, robot_id: str, code: str) -> Self:
        body = {"code": code, "robot_id": robot_id, "agent_version": "0.1.0", "hw": "test"}
        answer = httpx.post(f"{base_url}/api/v1/robots/enrol", json=body, timeout=30)
        answer.raise_for_status()
        return cls(base_url, robot_id, answer.json()["token"])

    def renew(self) -> Self:
        """The robot with the credential that takes over when it is used first."""
        answer = self._http.post(f"{_API}/credential").raise_for_status()
        return type(self)(self._base_url, self.id, answer.json()["token"])

    def heartbeat(self, **changes: Any) -> dict[str, Any]:
        """Says that all is well, except for `changes`; returns the answer."""
        body = {
            "state": "running",
            "policy": {
                "repo": "lefleet/act-so101-block",
                "commit": "3f2a1c9d5b7e4a60c1d2e3f4a5b6c7d8e9f0a1b2",
                "digest": "9b1dbcf4a1d15b0ea2a9d7b1c2d0e0f6b6a4f7c8e9d0a1b2c3d4e5f60718293a",
                "type": "act",
            },
            "loop": {
                "hz": 29.98, "lateness_ms_p50": 0.3, "lateness_ms_p99": 3.4, "lateness_ms_max": 5.1,
                "ticks": 9000, "late": 0,
            },
            "spool": {"episodes": 2, "bytes": 84_000_000, "budget_bytes": 2_000_000_000},
            "disk": {"free_bytes": 212_000_000_000, "total_bytes": 494_000_000_000},
            "episode_id": None,
            "task": "Put the block on the disc",
            "agent_version": "0.1.0",
            "cameras": ["front", "wrist"],
            "metrics": "",
            "wall_ns": time.time_ns(),
        } | changes  # fmt: skip
        answer: dict[str, Any] = self._http.post(f"{_API}/heartbeat", json=body).raise_for_status().json()
        return answer

    def wish(self) -> dict[str, Any]:
        """The newest word about this robot's emergency stop."""
        return self._wishes()["estop"]

    def verdict(self) -> dict[str, Any]:
        """The newest word about an episode of this robot."""
        return self._wishes()["verdict"]

    def orders(self) -> dict[str, Any]:
        """The newest words about its rest and its task, `rest` and `task`, and about all else."""
        return self._wishes()

    def show(self, camera: str, jpeg: bytes) -> None:
        self._http.put(
            f"{_API}/cameras/{camera}", content=jpeg, headers={"Content-Type": "image/jpeg"}
        ).raise_for_status()

    def upload(self, episode: Path, part: float = 1.0) -> None:
        """Announces the whole file and sends this part of it."""
        data = episode.read_bytes()
        words = {"sha256": hashlib.sha256(data).hexdigest(), "episode_id": episode.stem}
        metadata = ",".join(f"{name} {base64.b64encode(word.encode()).decode()}" for name, word in words.items())
        create = {**_TUS, "Upload-Length": str(len(data)), "Upload-Metadata": metadata}
        place = self._http.post(f"{_API}/uploads", headers=create)
        place.raise_for_status()
        patch = {**_TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        self._http.patch(
            place.headers["location"], content=data[: int(part * len(data))], headers=patch
        ).raise_for_status()

    def _wishes(self) -> dict[str, Any]:
        """A moment's wait outlasts what the server has at hand."""
        answer = self._http.get(f"{_API}/wishes", params={"since": (1 << 53) - 1, "wait_s": 0.5})
        return answer.raise_for_status().json()

    def close(self) -> None:
        self._http.close()
