"""What goes over HTTP about what people want of robots: stops, verdicts, rest, tasks."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from lefleet_server.fields import EpisodeId, storable
from lefleet_server.robots import Word as VerdictWord
from lefleet_server.robots import orders, reboots
from lefleet_server.robots.models import RobotOrder, RobotVerdict
from lefleet_server.robots.orders import Kind
from lefleet_server.robots.reboots import RebootState
from lefleet_server.robots.stops import Stop, StopState
from lefleet_server.robots.wishes import Wish


class EstopWish(BaseModel):
    """The newest word about this robot's emergency stop. One that is not newer than what the robot obeyed is void."""

    number: int = Field(description="Grows with each word; 0 when nobody ever said one.")
    wanted: bool = Field(description="Whether the arm is to hold still.")


class VerdictIn(BaseModel):
    """A person's word about the episode that runs."""

    episode_id: EpisodeId = Field(description="The episode that the person sees; another one is not ended.")
    word: VerdictWord = Field(description="`redo`: it does not count and is to be done again.")


class VerdictOut(BaseModel):
    """The newest word about an episode of a robot. It ends that episode only, if it still runs."""

    number: int = Field(description="Grows with each word.")
    episode_id: str
    word: VerdictWord
    said_by: str = Field(description="Who said it, `user:NAME`.")
    said_at: datetime

    @classmethod
    def of(cls, verdict: RobotVerdict) -> Self:
        return cls(
            number=verdict.number,
            episode_id=verdict.episode_id,
            word=VerdictWord(verdict.word),
            said_by=verdict.said_by,
            said_at=verdict.said_at,
        )


_Why = Annotated[str, StringConstraints(strip_whitespace=True, max_length=300), AfterValidator(storable)]


class ReasonIn(BaseModel):
    """Why a robot is to rest, or to reboot."""

    reason: _Why = Field("", description="May be empty. Everybody who may log in reads it; it stays in the audit log.")


class RestWish(BaseModel):
    """The newest word about a robot's rest."""

    number: int = Field(description="Grows with each word.")
    wanted: bool = Field(description="Whether it is to begin no other episode.")


_TaskText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), AfterValidator(storable)
]


class TaskIn(BaseModel):
    """What a robot is to do."""

    text: _TaskText | None = Field(description="From its next episode on; null: what its settings say.")


class TaskWish(BaseModel):
    """The newest word about a robot's task."""

    number: int = Field(description="Grows with each word.")
    text: str | None


class RebootWish(BaseModel):
    """The newest word about a reboot of the robot's host. A robot keeps its number first, so that it obeys once."""

    number: int = Field(description="Grows with each word.")


class WishesOut(BaseModel):
    """What people want of a robot. Null: nobody ever said."""

    estop: EstopWish
    verdict: VerdictOut | None = None
    rest: RestWish | None = None
    task: TaskWish | None = None
    reboot: RebootWish | None = Field(None, description="Null, too, when nobody asked within ten minutes.")

    @classmethod
    def of(cls, wish: Wish) -> Self:
        rest, task, reboot = (wish.orders.get(kind) for kind in (Kind.REST, Kind.TASK, Kind.REBOOT))
        return cls(
            estop=EstopWish(number=wish.number, wanted=wish.wanted),
            verdict=VerdictOut.of(wish.verdict) if wish.verdict else None,
            rest=RestWish(number=rest.number, wanted=bool(rest.value)) if rest else None,
            task=TaskWish(number=task.number, text=text_of(task)) if task else None,
            reboot=RebootWish(number=reboot.number) if reboot else None,
        )


class OrderOut(BaseModel):
    said_by: str = Field(description="Who said it, `user:NAME`.")
    said_at: datetime
    heard: bool = Field(description="Whether the robot said that it obeyed.")


class RestOut(OrderOut):
    """What people said last about a robot's rest. Who asked for it at the robot itself is not in it."""

    wanted: bool = Field(description="Whether it is to rest; no longer once that was ended at the robot.")

    reason: str = Field(description="Why it is to rest; empty when nobody said.")

    @classmethod
    def of(cls, order: RobotOrder, heartbeat: dict[str, Any] | None) -> Self:
        heard = orders.heard(order, heartbeat)
        ended_there = heard and not orders.told(heartbeat).get("rests", False)
        wanted = bool(order.value) and not ended_there
        return cls(wanted=wanted, heard=heard, said_by=order.said_by, said_at=order.said_at, reason=order.reason)


class TaskOut(OrderOut):
    """What people said last about a robot's task."""

    text: str | None = Field(description="Null: what its settings say.")

    @classmethod
    def of(cls, order: RobotOrder, heartbeat: dict[str, Any] | None) -> Self:
        heard = orders.heard(order, heartbeat)
        return cls(text=text_of(order), heard=heard, said_by=order.said_by, said_at=order.said_at)


class RebootOut(OrderOut):
    """What people said last about a reboot of the robot's host."""

    state: RebootState
    reason: str = Field(description="Why; empty when nobody said.")

    @classmethod
    def of(
        cls, order: RobotOrder, heartbeat: dict[str, Any] | None, received_at: datetime | None, now: datetime
    ) -> Self:
        return cls(
            state=reboots.state(order, heartbeat, received_at, now),
            heard=orders.heard(order, heartbeat),
            said_by=order.said_by,
            said_at=order.said_at,
            reason=order.reason,
        )


def text_of(order: RobotOrder) -> str | None:
    return None if order.value is None else str(order.value)


class EstopOut(BaseModel):
    """The emergency stop that people asked for. Stops that were asked for at the robot itself are not in it."""

    state: StopState = Field(description="`stopped` once the robot said that its arm holds still.")
    number: int = Field(description="Of the newest word; a release names the one it is about.")
    asked_by: str | None = Field(description="Who said it, `user:NAME`.")
    asked_at: datetime | None

    @classmethod
    def of(cls, stop: Stop) -> Self:
        return cls(state=stop.state, number=stop.number, asked_by=stop.asked_by, asked_at=stop.asked_at)


class Stopping(BaseModel):
    robots: list[str] = Field(description="Every robot that is not retired.")
