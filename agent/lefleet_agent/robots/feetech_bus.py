"""LeRobot's Feetech bus, made fit for a control loop: patience where it is needed, sentences where it fails."""

import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lefleet_agent.episode import Floats, MotorHealth
from lefleet_agent.robot import RobotDisconnected, RobotError
from lefleet_agent.robots.driver import BusFault
from lefleet_agent.robots.motor_scale import MotorScale

SETUP_TIMEOUT_MS, RUN_TIMEOUT_MS = 50.0, 15.0
"""Longest wait for an answer: motors that write their EEPROM are slow, others answer within 3 ms."""
_READ_WAIT_S = 0.002
_LENGTH, _INSTRUCTION, _PARAMETERS = 3, 4, 5
"""Places in a packet of Feetech's protocol 0, as the SDK builds and gives it."""
_READ, _BROKEN_ANSWER = 2, -7
_FRAME_BYTES = 2
"""Of what a packet's length counts: beside data, the error byte and the checksum."""
_TRIES = 4

ALARMS = {1: "voltage", 2: "angle sensor", 4: "overheat", 8: "overcurrent", 32: "overload"}
"""Bits of a status packet's error byte and of register 65."""
REMEDIES = {
    "voltage": "check the power supply (an SO-101 needs 5 A; 7.4 V and 12 V motors have different ones) and its plugs",
    "angle sensor": "its encoder is broken: replace the motor and calibrate the arm",
    "overheat": "let it cool down, and find what it holds against",
    "overcurrent": "take away what blocks it, and switch the arm's power off and on",
    "overload": "take away what blocks it, and switch the arm's power off and on",
}
_POSITION_BYTES = 2
_HEALTH_ADDRESS, _HEALTH_BYTES = 60, 11  # load (2), voltage, temperature, -, status, moving, -, -, current (2)
_AMPERES_PER_UNIT = 0.0065


def check_port(port: Path) -> None:
    """Raises RobotDisconnected."""
    if not port.exists():
        raise RobotDisconnected(
            f"{port}: there is no such port; is the arm's USB cable plugged in? `lefleet-devices report` on the "
            "robot says what is"
        )


def connect(bus: Any) -> None:
    """Open the port, and ask no motor yet. Raises RobotError."""
    try:
        bus.connect(handshake=False)  # LeRobot's gives up at one lost packet, and names no motor
    except ConnectionError as error:
        raise RobotError(
            f"{bus.port}: cannot be opened ({error.__context__ or error}); the agent must be in the group `dialout`, "
            "and no other program may use the arm"
        ) from error
    _refuse_others_answers(bus.packet_handler)


def _refuse_others_answers(handler: Any) -> None:
    """An answer of another length is that to an earlier question, come late: the SDK compares only who sent it, and
    takes the checksum of a short one for the value that was asked for."""
    exchange = handler.txRxPacket

    def checked(port: Any, question: list[int]) -> tuple[list[int] | None, int, int]:
        answer, result, flags = exchange(port, question)
        expected = _FRAME_BYTES + (question[_PARAMETERS + 1] if question[_INSTRUCTION] == _READ else 0)
        if answer and result == 0 and answer[_LENGTH] != expected:
            result = _BROKEN_ANSWER
        return answer, result, flags

    handler.txRxPacket = checked


def tune(bus: Any, timeout_ms: float) -> None:
    """Wait for answers in the kernel, on a clock that no NTP step moves, and no longer than `timeout_ms`.

    The SDK spins in Python while it waits: a core's quarter, and the interpreter lock with it.
    """
    port = bus.port_handler
    port.ser.timeout = _READ_WAIT_S
    port.getCurrentTime = lambda: time.monotonic() * 1e3
    port.setPacketTimeout = lambda length: port.setPacketTimeoutMillis(
        port.tx_time_per_byte * (length + 3) + timeout_ms
    )


@contextmanager
def faults(bus: Any, joint: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """What LeRobot and the SDK raise, as BusFault or RobotDisconnected; leaves the line quiet for the next try."""
    try:
        yield
    except (ConnectionError, IndexError) as error:  # no answer, or a broken one: the SDK trips over a short one
        culprit = joint()
        quieten(bus)
        raise BusFault(str(error), culprit) from error
    except (OSError, termios.error) as error:
        raise _gone(bus, error) from error


def quieten(bus: Any) -> None:
    """Throw away late answers: they would be taken for the next question's."""
    try:
        bus.port_handler.is_using = False
        bus.port_handler.ser.reset_input_buffer()
    except (OSError, termios.error) as error:
        raise _gone(bus, error) from error


def _gone(bus: Any, error: Exception) -> RobotDisconnected:
    return RobotDisconnected(
        f"{bus.port}: the serial port is gone ({error}); is the arm's USB cable plugged in? `lefleet-devices report` "
        "on the robot says what is"
    )


def positions(bus: Any, scales: Mapping[str, MotorScale]) -> Floats:
    """Where all joints are, in the order of `scales`. Raises BusFault or RobotDisconnected."""
    quieten(bus)
    with faults(bus, lambda: next(iter(_unanswered(bus)), None)):
        steps = bus.sync_read("Present_Position", normalize=False)
    if broken := _unanswered(bus):  # the SDK reads a short answer as position 0
        quieten(bus)
        raise BusFault(f"{broken[0]}: its answer is too short", broken[0])
    return np.array([scale.from_steps(int(steps[joint])) for joint, scale in scales.items()], np.float32)


def _unanswered(bus: Any) -> list[str]:
    """Joints without an answer of the right length to the last reading, the first of the chain first."""
    answers = bus.sync_reader.data_dict
    return [joint for joint, each in bus.motors.items() if len(answers.get(each.id, ())) != _POSITION_BYTES]


def diagnosis(bus: Any) -> str:
    """After reading has failed for good."""
    lacking = silent(bus)
    return missing(bus, lacking) if lacking else f"{bus.port}: too many answers are lost or broken; check the cables"


def patiently[T](bus: Any, joint: str, ask: Callable[[], T]) -> T:
    """Try a few times: for setting up, while the arm rests. Raises RobotError."""
    for tries_left in reversed(range(_TRIES)):
        try:
            with faults(bus):
                return ask()
        except BusFault as fault:
            if not tries_left:
                raise RobotError(f"{missing(bus, [joint])} ({fault})") from fault
        except RuntimeError as error:  # LeRobot's word for an alarm
            raise alarm(bus, joint, health(bus, joint).alarms, str(error)) from error
    raise AssertionError


def read(bus: Any, register: str, joint: str) -> int:
    return int(patiently(bus, joint, lambda: bus.read(register, joint, normalize=False)))


def write(bus: Any, register: str, joint: str, value: int) -> None:
    patiently(bus, joint, lambda: bus.write(register, joint, value, normalize=False))


def health(bus: Any, joint: str) -> MotorHealth:
    """In one exchange, and also when the motor has an alarm. Raises BusFault or RobotDisconnected."""
    quieten(bus)
    with faults(bus, lambda: joint):
        data, result, flags = bus.packet_handler.readTxRx(
            bus.port_handler, bus.motors[joint].id, _HEALTH_ADDRESS, _HEALTH_BYTES
        )
        if result != 0:
            raise ConnectionError(bus.packet_handler.getTxRxResult(result))
    load = int.from_bytes(bytes(data[0:2]), "little")
    return MotorHealth(
        temperature_celsius=float(data[3]),
        voltage_volts=data[2] / 10,
        load_ratio=(load & 0x3FF) * (-1 if load & 0x400 else 1) / 1000,
        current_amperes=int.from_bytes(bytes(data[9:11]), "little") * _AMPERES_PER_UNIT,
        alarms=tuple(name for bit, name in ALARMS.items() if (flags | data[5]) & bit),
    )


def alarm(bus: Any, joint: str, alarms: tuple[str, ...], words: str = "") -> RobotError:
    remedy = "; ".join(REMEDIES[each] for each in alarms) or words
    return RobotError(f"{motor(bus, joint)} reports {' and '.join(alarms) or 'an alarm'}: {remedy}")


def motor(bus: Any, joint: str) -> str:
    return f"motor {joint} (id {bus.motors[joint].id})"


def silent(bus: Any) -> list[str]:
    """Joints whose motors do not answer. Raises RobotDisconnected."""
    return [joint for joint in bus.motors if not any(_answers(bus, joint) for _ in range(_TRIES))]


def _answers(bus: Any, joint: str) -> bool:
    """An alarm is an answer too."""
    try:
        health(bus, joint)
    except BusFault:
        return False
    return True


def missing(bus: Any, joints: list[str]) -> str:
    """A sentence about motors that do not answer; the chain runs through them in the order of their ids."""
    names, chain = ", ".join(motor(bus, joint) for joint in joints), list(bus.motors)
    if joints == chain:
        return (
            f"no motor answers on {bus.port}: is the arm's power supply on, and its cable in the adapter? "
            "USB alone powers the adapter, not the motors"
        )
    verb = "does not answer" if len(joints) == 1 else "do not answer"
    before = chain.index(joints[0])
    cable = f"the cable from {chain[before - 1]}" if before else "the cable from the adapter"
    if chain[before:] == joints:
        return f"{names} {verb} on {bus.port}: check {cable}, where the chain ends"
    return f"{names} {verb} on {bus.port} though others behind do: has it the right id (`lerobot-setup-motors`)?"
