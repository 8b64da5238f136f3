"""Between a motor's encoder steps and its joint's unit, as LeRobot 0.6's SerialMotorsBus has it.

Our own, because LeRobot cuts fractions of a step off towards zero and gives no way to ask what a target became.
"""

from dataclasses import dataclass

DEGREES, PERCENT, PERCENT_BOTH_WAYS = "degrees", "range_0_100", "range_m100_100"


@dataclass(frozen=True, slots=True)
class MotorScale:
    """`low` and `high` are the calibrated range in steps, `mode` is LeRobot's MotorNormMode."""

    low: int
    high: int
    mode: str
    inverted: bool = False
    steps_per_turn: int = 4096

    @property
    def unit(self) -> str:
        return "degrees" if self.mode == DEGREES else "percent"

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest target, in the unit."""
        first, second = self.from_steps(self.low), self.from_steps(self.high)
        return min(first, second), max(first, second)

    @property
    def step_degrees(self) -> float:
        return 360 / (self.steps_per_turn - 1)

    def from_steps(self, steps: int) -> float:
        if self.mode == DEGREES:  # LeRobot ignores `drive_mode` here, and does not clip
            return (steps - (self.low + self.high) / 2) * self.step_degrees
        share = (min(self.high, max(self.low, steps)) - self.low) / (self.high - self.low)
        if self.inverted:
            share = 1 - share
        return share * 100 if self.mode == PERCENT else share * 200 - 100

    def to_steps(self, value: float) -> int:
        """The nearest step inside the calibrated range."""
        if self.mode == DEGREES:
            steps = round(value / self.step_degrees + (self.low + self.high) / 2)
        else:
            share = value / 100 if self.mode == PERCENT else (value + 100) / 200
            steps = round((1 - share if self.inverted else share) * (self.high - self.low) + self.low)
        return min(self.high, max(self.low, steps))

    def outside_steps(self, steps: int) -> int:
        """How far beyond the calibrated range a position is; 0 inside."""
        return max(self.low - steps, steps - self.high, 0)
