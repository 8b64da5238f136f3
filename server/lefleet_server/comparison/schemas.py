"""What goes over HTTP about comparisons."""

from typing import Self

from pydantic import BaseModel, Field

from lefleet_server.comparison.service import Comparison, Group
from lefleet_server.comparison.statistics import Verdict


class DifferenceOut(BaseModel):
    """Of a group's success rate to the baseline's (Newcombe, 95 % for all comparisons together)."""

    low: float
    high: float
    verdict: Verdict
    words: str = Field(description="The verdict with its counts, for people.")


class GroupOut(BaseModel):
    key: str = Field(description="The policy's repo, or `repo@commit`; send it back as `baseline`.")
    policy: str
    commit: str = Field(description="Empty when policies are compared.")
    successes: int
    judged: int = Field(description="Successes and failures.")
    unknown: int = Field(description="Neither: in no rate.")
    rate: float | None = Field(description="Successes of those judged; null when none is.")
    low: float = Field(description="End of Wilson's 95 % interval of the rate.")
    high: float
    difference: DifferenceOut | None = Field(description="Null for the baseline itself.")

    @classmethod
    def of(cls, group: Group) -> Self:
        found = group.difference
        told = found and DifferenceOut(
            low=found.interval.low, high=found.interval.high, verdict=found.verdict, words=found.words
        )
        return cls(
            key=group.key,
            policy=group.policy,
            commit=group.commit,
            successes=group.tally.successes,
            judged=group.tally.judged,
            unknown=group.unknown,
            rate=group.tally.rate,
            low=group.interval.low,
            high=group.interval.high,
            difference=told,
        )


class ComparisonOut(BaseModel):
    groups: list[GroupOut] = Field(description="By name.")
    episodes: int = Field(description="How many were counted.")
    cut: bool = Field(description="Whether only the newest 200,000 were.")

    @classmethod
    def of(cls, found: Comparison) -> Self:
        return cls(groups=[GroupOut.of(each) for each in found.groups], episodes=found.episodes, cut=found.cut)
