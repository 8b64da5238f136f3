"""The benchmarks' arm as a LeRobot robot: answers at once, with a new picture of each camera at every tick."""

import math
import os
import time
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from lerobot.robots import Robot, RobotConfig
from processes import cpu_s
from scene import HEIGHT, WIDTH, film, swing

from lefleet_agent.robots.fake import SO101_JOINTS

FILM = 48


TOLD = "LEFLEET_BENCH_TOLD"
"""Names a file that gets a byte for each target that an arm was told: it outlives whoever is killed."""


@cache
def _told() -> int | None:
    return os.open(os.environ[TOLD], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if TOLD in os.environ else None


def told() -> None:
    if (file := _told()) is not None:
        os.write(file, b".")


class Ticks:
    """When the arm was asked and told, monotonic nanoseconds, and what that has cost this process and its own."""

    def __init__(self) -> None:
        self.observed_ns: list[int] = []
        self.sent_ns: list[int] = []
        self._before_s = self._after_s = 0.0
        self._counted = 0

    def observed(self) -> None:
        # Asking for the cost takes a while: at the first tick, and about once a second.
        if len(self.observed_ns) % 30 == 0:
            self._after_s = cpu_s(os.getpid())
            self._before_s = self._before_s if self.observed_ns else self._after_s
            self._counted = len(self.observed_ns)
        self.observed_ns.append(time.monotonic_ns())

    def cpu_s(self) -> float:
        """Of a tick."""
        return (self._after_s - self._before_s) / self._counted if self._counted else math.nan  # seconds too few


@RobotConfig.register_subclass("bench_arm")
@dataclass
class BenchArmConfig(RobotConfig):
    """It has no settings."""


class BenchArm(Robot):  # type: ignore[misc]
    """The last one made is `BenchArm.made`."""

    config_class = BenchArmConfig
    name = "bench_arm"
    made: "BenchArm"

    def __init__(self, config: BenchArmConfig) -> None:
        super().__init__(config)
        self.ticks = Ticks()
        self._film = film(FILM)
        self._joints = dict.fromkeys(self._motors, 0.0)
        type(self).made = self

    @cached_property
    def _motors(self) -> list[str]:
        return [f"{joint}.pos" for joint in SO101_JOINTS]

    @cached_property
    def observation_features(self) -> dict[str, Any]:
        return dict.fromkeys(self._motors, float) | dict.fromkeys(("front", "wrist"), (HEIGHT, WIDTH, 3))

    @cached_property
    def action_features(self) -> dict[str, type]:
        return dict.fromkeys(self._motors, float)

    @property
    def is_connected(self) -> bool:
        return True

    @property
    def is_calibrated(self) -> bool:
        return True

    def connect(self, calibrate: bool = True) -> None: ...

    def calibrate(self) -> None: ...

    def configure(self) -> None: ...

    def disconnect(self) -> None: ...

    def get_observation(self) -> dict[str, Any]:
        self.ticks.observed()
        place = swing(len(self.ticks.observed_ns), FILM)
        return self._joints | {name: shots[place] for name, shots in self._film.items()}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        self.ticks.sent_ns.append(time.monotonic_ns())
        told()
        self._joints = {name: float(value) for name, value in action.items()}
        return action
