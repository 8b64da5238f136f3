"""When targets reach the motors of an SO-101 whose bus loses answers: LeRobot's loop, and ours. The arm is emulated."""

import multiprocessing
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from figure import Column, Figure, Row, compare
from options import REPO, Options
from processes import run_worker, worker_main

sys.path.insert(0, str(REPO / "tests" / "agent"))

NAME = "arm_bus"
HZ, DEGREES_PER_S = 30, 60.0
OURS, PEER = "LeFleet", "LeRobot's SOFollower"
LOSSES = (0.0, 0.01, 0.05)
P95 = Column("p95_ms", "time between targets p95 ms", 1)
COLUMNS = (
    Column("p50_ms", "time between targets p50 ms", 1),
    P95,
    Column("max_ms", "max ms", 1),
    Column("jump_degrees", "largest jump of a joint at 60 deg/s, degrees", 1),
    Column("tick_p95_ms", "control waits p95 ms", 1),
    Column("ended", "runs that would have ended", 0),
)


def steps(options: Options) -> int:
    return options.rounds * len(LOSSES) * 2


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for loss in LOSSES:
            for who in (PEER, OURS):
                tell(title(who, loss))
                turn = {"who": who, "loss": loss, "ticks": 20 if options.quick else 300}
                found.setdefault(title(who, loss), []).append(run_worker("arm_bus.py", 120, **turn))
    rows = tuple(Row(name, tuple(rounds)) for name, rounds in found.items())
    return Figure(
        NAME,
        f"Targets at {HZ} Hz on an emulated bus that loses answers, median of {options.rounds}",
        COLUMNS,
        rows,
        tuple(
            comparison
            for loss in LOSSES
            for comparison in compare(
                f"{loss:.0%} lost", rows, title(OURS, loss), title(PEER, loss), P95, lower_is_better=True
            )
        ),
        (
            "The motors are a process of their own behind a pseudo terminal, 0.2 ms an answer, and note when each "
            "target comes. Both sides use LeRobot's Feetech bus. A late target is a step that the joint makes at once.",
        ),
    )


def title(who: str, loss: float) -> str:
    return f"{who}, {loss:.0%} of answers lost"


def emulate(folder: str, orders: Connection) -> None:
    """The arm's process: a number received is the share of answers to lose; None ends it and returns the times."""
    from arm import Lab
    from sts3215 import GOAL

    lab = Lab.make(Path(folder))
    lab.bus.answer_delay_s = 0.0002
    for servo in lab.bus.servos.values():
        servo.put(GOAL, round(servo.position), 2)
    lab.bus.plug()
    orders.send(str(lab.bus.link))
    begun_s = None
    while (loss := orders.recv()) is not None:
        lab.bus.loss, begun_s = loss, begun_s or time.monotonic()
    lab.bus.unplug()
    orders.send([each.monotonic_s for each in lab.bus.writes(GOAL, 1) if begun_s and each.monotonic_s > begun_s])


def work(who: str, loss: float, ticks: int) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    orders, theirs = context.Pipe()
    with TemporaryDirectory() as folder:
        process = context.Process(target=emulate, args=(folder, theirs))
        process.start()
        observe, send, disconnect = connect(who, orders.recv(), Path(folder))
        orders.send(loss)
        spent_ms, ended = drive(observe, send, ticks)
        orders.send(0.0)
        time.sleep(0.1)
        disconnect()
        orders.send(None)
        gaps_ms = np.diff(orders.recv()) * 1e3
        process.join()
    p50, p95, most = np.percentile(gaps_ms, [50, 95, 100])
    return {
        "p50_ms": p50,
        "p95_ms": p95,
        "max_ms": most,
        "jump_degrees": most * 1e-3 * DEGREES_PER_S,
        "tick_p95_ms": float(np.percentile(spent_ms, 95)),
        "ended": ended,
    }


def connect(who: str, port: str, folder: Path) -> tuple[Callable[[], Any], Callable[[Any], Any], Callable[[], None]]:
    from arm import JOINTS

    if who == OURS:
        from lefleet_agent.config_robots import So101Follower
        from lefleet_agent.wiring import build_arm

        settings = So101Follower(type="so101_follower", port=port, calibration_id="so101", calibration_dir=folder)
        robot = build_arm(settings, "robot-1")
        robot.connect()
        return robot.observe, robot.send, robot.disconnect
    from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig

    arm = SO101Follower(SO101FollowerConfig(port=port, id="so101", calibration_dir=folder))
    arm.connect(calibrate=False)

    def send(action: Any) -> None:
        arm.send_action({f"{joint}.pos": float(value) for joint, value in zip(JOINTS, action, strict=True)})

    return arm.get_observation, send, arm.disconnect


def drive(observe: Callable[[], Any], send: Callable[[Any], Any], ticks: int) -> tuple[list[float], int]:
    """Returns what each tick waited for the robot, in ms, and how many readings failed for good."""
    spent_ms, ended, next_s = [], 0, time.monotonic()
    for tick in range(ticks):
        next_s = max(next_s + 1 / HZ, time.monotonic())
        time.sleep(max(0.0, next_s - time.monotonic()))
        began_s = time.monotonic()
        try:
            observe()
        except ConnectionError:
            ended += 1
        send(np.array([DEGREES_PER_S * tick / HZ % 50 - 25, 0, 0, 0, 0, 50], np.float32))
        spent_ms.append((time.monotonic() - began_s) * 1e3)
    return spent_ms, ended


if __name__ == "__main__":
    worker_main(work)
