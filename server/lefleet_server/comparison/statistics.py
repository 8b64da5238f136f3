"""How sure we can be about success rates. Pure: counts in, intervals and honest words out.

Wilson's interval for one rate; Newcombe's (1998, method 10: square and add of Wilson's) for the difference of two. Both
keep their promise with five episodes too, where the textbook's interval does not.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import ceil, sqrt
from statistics import NormalDist

CONFIDENCE = 0.95
SAME_POINTS = 5.0
"""Percentage points: rates that differ by less are called the same once that is known."""
WORTH_POINTS = 10.0
"""The difference that `episodes_needed` plans for, found in four of five trials."""
_POWER = 0.8


class Verdict(StrEnum):
    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    """Within SAME_POINTS of each other."""
    UNKNOWN = "cannot tell yet"


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Tally:
    """Judged episodes. `successes` of `judged`; what is neither success nor failure is not in here."""

    successes: int
    judged: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.judged:
            raise ValueError(f"{self.successes} successes of {self.judged} judged episodes: there cannot be so many")

    @property
    def rate(self) -> float | None:
        return self.successes / self.judged if self.judged else None

    def __str__(self) -> str:
        return f"{self.successes} of {self.judged}"


@dataclass(frozen=True, slots=True)
class Difference:
    """Of a rate to the baseline's."""

    interval: Interval
    """Of the difference of the rates, -1 to 1."""
    verdict: Verdict
    words: str


def z_of(confidence: float = CONFIDENCE, comparisons: int = 1) -> float:
    """Two-sided. Several comparisons at once share the error (Bonferroni): one of twenty is "better" by chance."""
    return NormalDist().inv_cdf(1 - (1 - confidence) / (2 * max(comparisons, 1)))


def wilson(tally: Tally, z: float) -> Interval:
    """Of a rate; 0 to 1 when nothing is judged. Contains the rate itself always."""
    n = tally.judged
    if n == 0:
        return Interval(0.0, 1.0)
    p = tally.successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding may leave 0 of n a hair above its rate.
    return Interval(min(max(middle - half, 0.0), p), max(min(middle + half, 1.0), p))


def newcombe(of: Tally, baseline: Tally, z: float) -> Interval:
    """Of the difference of two rates, `of` less `baseline`; -1 to 1 when nothing is judged."""
    if of.rate is None or baseline.rate is None:
        return Interval(-1.0, 1.0)
    own, base = wilson(of, z), wilson(baseline, z)
    d = of.rate - baseline.rate
    below = sqrt((of.rate - own.low) ** 2 + (base.high - baseline.rate) ** 2)
    above = sqrt((own.high - of.rate) ** 2 + (baseline.rate - base.low) ** 2)
    return Interval(max(d - below, -1.0), min(d + above, 1.0))


def compare(of: Tally, baseline: Tally, comparisons: int = 1) -> Difference:
    """What can be said about `of` beside `baseline`, when so many comparisons are made at once."""
    interval = newcombe(of, baseline, z_of(comparisons=comparisons))
    verdict = _verdict(interval)
    return Difference(interval, verdict, _words(of, baseline, interval, verdict))


def episodes_needed(of: Tally, baseline: Tally, points: float = WORTH_POINTS) -> int:
    """Judged episodes of each that would show a difference of `points`, about, at rates like these."""
    # Counted with one success and one failure more: rates of 0 and 1 would promise too much.
    p, q = ((each.successes + 1) / (each.judged + 2) for each in (of, baseline))
    spread = max(p * (1 - p) + q * (1 - q), 0.05)
    return ceil((z_of() + NormalDist().inv_cdf(_POWER)) ** 2 * spread / (points / 100) ** 2)


def _verdict(interval: Interval) -> Verdict:
    if interval.low > 0:
        return Verdict.BETTER
    if interval.high < 0:
        return Verdict.WORSE
    if max(-interval.low, interval.high) <= SAME_POINTS / 100:
        return Verdict.SAME
    return Verdict.UNKNOWN


def _words(of: Tally, baseline: Tally, interval: Interval, verdict: Verdict) -> str:
    counts = f"{of} and {baseline}"
    if not of.judged or not baseline.judged:
        return f"cannot tell yet: {counts}; nothing to compare until both have judged episodes"
    low, high = 100 * interval.low, 100 * interval.high
    if verdict is Verdict.BETTER:
        return f"better by {low:.0f} to {high:.0f} points: {counts}"
    if verdict is Verdict.WORSE:
        return f"worse by {-high:.0f} to {-low:.0f} points: {counts}"
    if verdict is Verdict.SAME:
        return f"the same within {SAME_POINTS:.0f} points: {counts}"
    more = f"{WORTH_POINTS:.0f} points would show with about {episodes_needed(of, baseline)} judged episodes of each"
    return f"cannot tell yet: {counts}; between {-low:.0f} points worse and {high:.0f} better. {more}"
