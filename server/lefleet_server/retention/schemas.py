"""What goes over HTTP, and out of the command line, about retention."""

from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lefleet_server.episodes.schemas import Outcome
from lefleet_server.fields import Count, RobotId
from lefleet_server.retention.report import Report
from lefleet_server.retention.rules import Rule

type Days = Annotated[float, Field(ge=0, le=36500, allow_inf_nan=False)]


class RuleIn(BaseModel):
    """Scope (outcomes, robots, labelled) and at least one limit; an episode goes when it is past every limit given."""

    model_config = ConfigDict(extra="forbid")

    older_than_days: Days | None = Field(None, description="Since the server received it.")
    quota_bytes: Count | None = Field(
        None, description="What all episodes in the scope may take; the oldest beyond it go."
    )
    outcomes: list[Outcome] = Field(
        [], max_length=3, description="By the person's word before the robot's; empty: any."
    )
    robots: list[RobotId] = Field([], max_length=1000, description="Empty: any.")
    labelled: bool | None = Field(None, description="Only what a person judged, or only what nobody did; null: both.")
    enabled: bool = Field(False, description="Whether `--apply` and the nightly run use it; a dry run may name it.")

    @model_validator(mode="after")
    def _has_limit(self) -> Self:
        if self.older_than_days is None and self.quota_bytes is None:
            raise ValueError("set older_than_days or quota_bytes; without, the rule would delete everything")
        return self

    def rule(self, name: str) -> Rule:
        return Rule(
            name=name,
            older_than_days=self.older_than_days,
            quota_bytes=self.quota_bytes,
            outcomes=frozenset(self.outcomes),
            robots=frozenset(self.robots),
            labelled=self.labelled,
        )


class RuleOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    older_than_days: float | None
    quota_bytes: int | None
    outcomes: list[Outcome]
    robots: list[str]
    labelled: bool | None
    enabled: bool
    changed_by: str
    changed_at: datetime


class RuleList(BaseModel):
    items: list[RuleOut]


class RunOut(BaseModel):
    """One night's run."""

    model_config = ConfigDict(from_attributes=True)

    day: date
    ended_at: datetime | None = Field(description="Null: a worker is at it, or died.")
    episodes: int = Field(description="Deleted, so far.")
    bytes: int
    refused: str = Field(description="Why it deleted nothing though it would have; empty where it did its work.")


class NightsOut(BaseModel):
    """When the rules delete by themselves."""

    next_at: datetime | None = Field(
        description="Passed already: as soon as a worker is there. Null: never, `retention_hour_utc` is not set."
    )
    enabled: int = Field(description="How many rules are enabled; with none nothing goes.")
    last: RunOut | None


class CountOut(BaseModel):
    episodes: int
    bytes: int


class Example(BaseModel):
    episode_id: str
    rule: str


class ReportOut(BaseModel):
    """What the rules deleted, or would delete."""

    applied: bool = Field(description="False: nothing was deleted.")
    total: CountOut
    rules: dict[str, CountOut]
    held: CountOut = Field(description="Would go, were it not under a legal hold.")
    changed: int = Field(description="Held, labelled or deleted by somebody meanwhile, and so left alone.")
    examples: list[Example] = Field(description="The oldest 100.")
    held_examples: list[Example] = Field(description="The oldest 100 of the held ones, by which rule they would go.")

    @classmethod
    def of(cls, report: Report) -> Self:
        return cls.model_validate(
            asdict(report) | {"examples": _named(report.examples), "held_examples": _named(report.held_examples)}
        )


def _named(examples: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"episode_id": episode, "rule": rule} for episode, rule in examples]
