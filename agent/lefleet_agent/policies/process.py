"""A policy in a process of its own: no lock, no crash and no lack of memory of its can delay or end a control tick."""

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import structlog

from lefleet_agent.episode import Observation, PolicyInfo, RobotInfo
from lefleet_agent.policies.observation_memory import JUDGED, ObservationMemory
from lefleet_agent.policy import ActionChunk, Computing, Played, PolicyError, PolicyTraits

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """How a policy is to compute; the settings `policy.*`."""

    control_hz: float
    mode: str
    device: str
    precision: str
    precision_limit: float
    threads: int
    compile: bool = False


@dataclass(frozen=True, slots=True)
class JudgeModel:
    """Which reward classifier is loaded beside the policy; the settings `judge.*`."""

    folder: Path
    crop: Mapping[str, tuple[int, int, int, int]]
    """What it sees of a camera: top, left, height, width in pixels; all of it where nothing is said."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The reward model's answer."""

    probability: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the policy's process is to load."""

    folder: Path
    info: PolicyInfo
    robot: RobotInfo
    options: PolicyOptions
    judge: JudgeModel | None = None


class PolicyProcess:
    """A PolicyRunner. Build it with `start`."""

    def __init__(self, process: SpawnProcess, ours: Connection, memory: ObservationMemory) -> None:
        self._process = process
        self._connection = ours
        self._memory = memory
        self._number = 0
        self._traits: PolicyTraits | None = None
        self._answered: Any = None
        self._judged_number = 0  # counts down: what is asked of the reward model
        self._judgement: Any = None

    @classmethod
    def start(
        cls,
        wanted: Wanted,
        setup: Callable[[], None] | None,
        give_up: Callable[[], bool],
        limit_s: float,
        main: Callable[..., None] | None = None,
    ) -> "PolicyProcess":
        """Load the policy; returns when it has computed its first chunk. `main` runs in the process (default: LeRobot).

        Raises PolicyError: the policy's own sentence, or that it died, took too long or that `give_up` said so.
        """
        from lefleet_agent.policies.worker import lerobot_main

        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        memory = ObservationMemory.create(wanted.robot)
        process = context.Process(
            target=main or lerobot_main, args=(wanted, setup, theirs, memory), name="lefleet-policy", daemon=True
        )
        process.start()
        theirs.close()
        runner = cls(process, ours, memory)
        try:
            runner._wait_until_loaded(give_up, limit_s)
        except PolicyError:
            runner.close()
            raise
        return runner

    @property
    def traits(self) -> PolicyTraits:
        if self._traits is None:
            raise PolicyError("the policy is not loaded")
        return self._traits

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def reset(self) -> None:
        self._next_question()  # an answer that still comes is to the last episode's
        self._send("reset", self._number)

    def ask(self, seen: Sequence[Observation], task: str, played: Played | None) -> None:
        self._next_question()
        self._memory.write(seen, self.traits.cameras)
        self._send("infer", self._number, len(seen), task, played)

    def answer(self, wait_s: float = 0.0) -> ActionChunk | None:
        deadline_s = time.monotonic() + wait_s
        reply = self._reply(deadline_s)
        return None if reply is None else self._chunk(reply)

    def ask_judge(self, seen: Observation) -> None:
        self._judged_number -= 1
        self._judgement = None
        self._memory.write([seen], self.traits.judge_cameras, JUDGED)
        self._send("judge", self._judged_number)

    def judged(self) -> float | None:
        while self._judgement is None and self._answered is None:
            if (reply := self._receive(0.0)) is None:
                return None
            self._file(*reply)
        judgement, self._judgement = self._judgement, None
        if judgement is None:
            return None
        if not isinstance(judgement, Judged):
            raise PolicyError(str(judgement))
        return judgement.probability

    def computing(self, wait_s: float = 10.0) -> Computing:
        """What it computes on; drops a question that was not answered. Raises PolicyError."""
        self._next_question()
        self._send("computing", self._number)
        deadline_s = time.monotonic() + wait_s
        if isinstance(found := self._reply(deadline_s), Computing):
            return found
        raise PolicyError(f"the policy's process did not say within {wait_s:g} s what it computes on")

    def close(self) -> None:
        """End the process at once: it holds nothing that could be lost."""
        self._connection.close()
        self._process.kill()
        self._process.join()
        self._memory.close()

    def _wait_until_loaded(self, give_up: Callable[[], bool], limit_s: float) -> None:
        deadline_s = time.monotonic() + limit_s
        while (reply := self._receive(time.monotonic() + 0.2)) is None:
            if give_up():
                raise PolicyError("stopped while the policy was loading")
            if time.monotonic() > deadline_s:
                raise PolicyError(f"the policy was not loaded within {limit_s:g} s; policy.load_limit_s allows more")
        loaded = reply[1]
        if not isinstance(loaded, PolicyTraits):
            raise PolicyError(str(loaded))
        self._traits = loaded

    def _next_question(self) -> None:
        self._number += 1
        self._answered = None

    def _reply(self, deadline_s: float) -> Any:
        """The policy's answer to the newest question, None while there is none."""
        while self._answered is None:
            if (reply := self._receive(deadline_s)) is None:
                return None
            self._file(*reply)
        answer, self._answered = self._answered, None
        return answer

    def _file(self, number: int, what: Any) -> None:
        """Answers to questions that were given up are dropped."""
        if number < 0 and number == self._judged_number:
            self._judgement = what
        elif number == self._number:
            self._answered = what

    def _chunk(self, chunk: Any) -> ActionChunk:
        if not isinstance(chunk, ActionChunk):
            raise PolicyError(str(chunk))
        return chunk

    def _send(self, *words: object) -> None:
        try:
            self._connection.send(words)
        except OSError:
            raise self._death() from None

    def _receive(self, deadline_s: float) -> tuple[int, Any] | None:
        try:
            if not self._connection.poll(max(0.0, deadline_s - time.monotonic())):
                return None
            number, what = self._connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        return int(number), what

    def _death(self) -> PolicyError:
        self._process.join(1)
        code = self._process.exitcode
        if code == -9:
            return PolicyError("the policy's process was killed, most likely for want of memory (see journalctl -k)")
        return PolicyError(f"the policy's process ended with exit code {code}; its last words are in the log above")
