"""What a robot's metrics say of its motors. Pure: reads Prometheus' text, and of that only the lines about motors.

A number that cannot be counts as not told: one robot's must not keep the others from being shown. The client library's
parser takes a hundred times as long for a whole text, and this is done for every heartbeat.
"""

import re
from dataclasses import dataclass, field

from lefleet_server.fields import PLAUSIBLE

MOST_MOTORS = 64
"""As many as a heartbeat may name joints."""
_LINE = re.compile(
    r"^lefleet_motor_(temperature_celsius|voltage_volts|current_amperes|load_ratio|errors_total)"
    r'\{joint="([^"]*)"\} (\S+)',
    re.MULTILINE,
)
_READS = re.compile(r'^lefleet_arm_reads_total\{result="(ok|failed)"\} (\S+)', re.MULTILINE)


@dataclass(slots=True)
class Motor:
    """None where the motor did not say."""

    temperature_celsius: float | None = None
    voltage_volts: float | None = None
    current_amperes: float | None = None
    load_ratio: float | None = None
    """-1 to 1 of its full torque."""
    errors_total: float | None = None
    """Answers that were lost, broken or an alarm since control started."""


@dataclass(frozen=True, slots=True)
class Arm:
    motors: dict[str, Motor] = field(default_factory=dict)
    """By joint, in the metrics' order."""
    reads: int | None = None
    """Of all joints, since control started; None for an arm without a bus."""
    reads_failed: int | None = None

    @property
    def hottest(self) -> tuple[str, float] | None:
        """The joint, and its motor's temperature in degrees Celsius."""
        known = [
            (m.temperature_celsius, joint) for joint, m in self.motors.items() if m.temperature_celsius is not None
        ]
        return (max(known)[1], max(known)[0]) if known else None


def read(metrics: str) -> Arm:
    """An empty one where the text says nothing of motors: a simulated arm has none."""
    motors: dict[str, Motor] = {}
    for name, joint, text in _LINE.findall(metrics):
        if (value := _number(text)) is not None and (joint in motors or len(motors) < MOST_MOTORS):
            setattr(motors.setdefault(joint, Motor()), name, value)
    reads = {result: _number(text) for result, text in _READS.findall(metrics)}
    ok, failed = reads.get("ok"), reads.get("failed")
    if ok is None and failed is None:
        return Arm(motors)
    return Arm(motors, round((ok or 0) + (failed or 0)), round(failed or 0))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= PLAUSIBLE else None  # NaN is not
