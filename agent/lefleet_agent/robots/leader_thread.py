"""The thread that reads a leader arm: control takes the newest pose and waits for nothing. It looks for an arm that is
gone until it is back, so a leader may be plugged in and out at any time."""

import threading
import time
from typing import Protocol

import structlog

from lefleet_agent.episode import Floats
from lefleet_agent.leader import LeaderError, LeaderPose
from lefleet_agent.robot import RobotDisconnected, RobotError
from lefleet_agent.robots.driver import BusFault

log = structlog.get_logger()

RETRY_S = 1.0


class LeaderDriver(Protocol):
    """Only its thread calls it."""

    def open(self) -> None:
        """Open the bus, check the motors and let go of them. Raises RobotError with the remedy."""

    def read(self) -> Floats:
        """All joints. Raises BusFault, or RobotDisconnected when the port is gone."""

    def diagnosis(self) -> str:
        """After reading has failed for good: what does not answer, and the remedy."""

    def close(self) -> None:
        """Leave the bus. Never raises for a bus that is gone."""


class LeaderThread:
    """A Leader."""

    def __init__(self, driver: LeaderDriver, hz: float, silence_s: float) -> None:
        """`silence_s`: time without any reading after which the bus is opened anew."""
        self._driver = driver
        self._period_s = 1 / hz
        self._silence_s = silence_s
        self._stopped = threading.Event()
        self._newest: LeaderPose | str = "the leader arm is not connected yet"
        self._thread = threading.Thread(target=self._run, name="leader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def pose(self) -> LeaderPose:
        newest = self._newest
        if isinstance(newest, str):
            raise LeaderError(newest)
        return newest

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.ident is None:
            return
        self._thread.join(self._silence_s * 4)
        if self._thread.is_alive():
            log.error("the leader's bus does not come back from a call; its thread is left behind")

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._driver.open()
                log.info("the leader arm is there")
                self._read_on()
            except RobotError as error:
                self._lost(str(error))
            except Exception as error:  # the top of the thread: what a person leads must not end with one bad reading
                log.exception("the leader's driver failed")
                self._lost(f"its driver failed: {type(error).__name__}: {error}")
            finally:
                self._driver.close()
            self._stopped.wait(RETRY_S)

    def _read_on(self) -> None:
        answered_s = due_s = time.monotonic()
        while not self._stopped.wait(max(0.0, due_s - time.monotonic())):
            asked_ns = time.monotonic_ns()
            due_s = max(due_s, asked_ns * 1e-9) + self._period_s
            try:
                joints = self._driver.read()
            except BusFault as fault:
                if time.monotonic() - answered_s > self._silence_s:
                    raise RobotDisconnected(self._driver.diagnosis()) from fault
                continue
            answered_s = time.monotonic()
            self._newest = LeaderPose(joints, (asked_ns + time.monotonic_ns()) // 2)

    def _lost(self, why: str) -> None:
        sentence = f"leader arm: {why}"
        if self._newest != sentence:  # once, not at every attempt
            log.warning("no leader arm", reason=why)
        self._newest = sentence
