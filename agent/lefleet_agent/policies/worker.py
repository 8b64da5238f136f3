"""Where the policy's process begins. Nothing here is in the control process but the names."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Protocol

from lefleet_agent.episode import Observation
from lefleet_agent.memory import be_called, go_first
from lefleet_agent.policies.observation_memory import JUDGED, ObservationMemory
from lefleet_agent.policy import Policy, PolicyError

if TYPE_CHECKING:
    from lefleet_agent.policies.process import Wanted


class Judging(Protocol):
    """A reward model that is loaded."""

    cameras: tuple[str, ...]

    def probability(self, seen: Observation) -> float:
        """That the task is done. Raises PolicyError."""


def lerobot_main(
    wanted: "Wanted", setup: Callable[[], None] | None, control: Connection, memory: ObservationMemory
) -> None:
    """Load a LeRobot policy and serve it."""

    def load() -> tuple[Policy, Judging | None]:
        from lefleet_agent.policies.lerobot import device_of, load

        policy = load(wanted.folder, wanted.info, wanted.robot, wanted.options)
        if wanted.judge is None:
            return policy, None
        from lefleet_agent.policies import reward

        return policy, reward.load(wanted.judge, wanted.robot, device_of(wanted.options.device))

    serve(load, setup, control, memory)


def scripted_main(
    wanted: "Wanted", setup: Callable[[], None] | None, control: Connection, memory: ObservationMemory
) -> None:
    """Serve the policy without a network, for tests and measurements of the process itself."""

    def load() -> tuple[Policy, Judging | None]:
        from lefleet_agent.policies.scripted import ScriptedPolicy

        return ScriptedPolicy(hz=wanted.options.control_hz, cameras=tuple(wanted.robot.cameras)), None

    serve(load, setup, control, memory)


def serve(
    load: Callable[[], tuple[Policy, Judging | None]],
    setup: Callable[[], None] | None,
    control: Connection,
    memory: ObservationMemory,
) -> None:
    """Answer control's questions until it hangs up: control ends this process, no terminal's signal does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)  # control and recorder come first where cores are few
    be_called("lefleet-policy")
    go_first()  # control notices, holds the arm still and loads the policy anew; without control nobody would
    if setup:
        setup()
    try:
        policy, judge = load()
    except PolicyError as error:
        control.send((0, str(error)))
        return
    control.send((0, replace(policy.traits, judge_cameras=judge.cameras if judge else ())))
    try:
        while True:
            _answer(policy, judge, control, memory)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # control has hung up


def _answer(policy: Policy, judge: Judging | None, control: Connection, memory: ObservationMemory) -> None:
    word, number, *question = control.recv()
    if word == "judge" and judge:
        control.send((number, _judge(judge, memory)))
        return
    if word == "reset":
        policy.reset()
        return
    if word == "computing":
        control.send((number, policy.computing()))
        return
    count, task, played = question
    try:
        control.send((number, policy.infer(memory.read(count, policy.traits.cameras), task, played)))
    except PolicyError as error:
        control.send((number, str(error)))


def _judge(judge: Judging, memory: ObservationMemory) -> object:
    from lefleet_agent.policies.process import Judged

    (seen,) = memory.read(1, judge.cameras, JUDGED)
    try:
        return Judged(judge.probability(seen))
    except PolicyError as error:
        return str(error)
