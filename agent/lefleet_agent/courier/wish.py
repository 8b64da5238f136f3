"""What people want of this robot, as the server's answer says it."""

from dataclasses import dataclass
from typing import Any

from lefleet_agent.verdict import Verdict, Word

NUMBER_MAX = (1 << 53) - 1


@dataclass(frozen=True, slots=True)
class VerdictWish:
    """The newest word of people about an episode of this robot."""

    number: int
    """Grows with each word."""
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class RestWish:
    """The newest word of people about whether this robot begins episodes."""

    number: int
    wanted: bool


@dataclass(frozen=True, slots=True)
class TaskWish:
    """The newest word of people about what this robot is to do; None: what its settings say."""

    number: int
    text: str | None


@dataclass(frozen=True, slots=True)
class Wish:
    """The newest word of people about this robot's emergency stop, an episode, its rest, its task and its host."""

    number: int
    """Of the emergency stop's; grows with each word; 0 when nobody ever said one."""
    wanted: bool
    verdict: VerdictWish | None
    """None when nobody ever said one, and where the server says nothing that this release knows. So the others."""
    rest: RestWish | None = None
    task: TaskWish | None = None
    reboot: int | None = None
    """Number of the newest word that the host is to start anew."""


def read(values: dict[str, Any]) -> Wish:
    """Raises ValueError for no number with a wish. Other strange words are none: they must not hide a stop."""
    match values["estop"]:
        case {"number": int(number), "wanted": bool(wanted)} if _is_number(number):
            verdict, rest, task = _verdict(values.get("verdict")), _rest(values.get("rest")), _task(values.get("task"))
            return Wish(number, wanted, verdict, rest, task, _reboot(values.get("reboot")))
        case other:
            raise ValueError(f"estop is {str(other)[:200]}, no number with a wish")


def _verdict(said: object) -> VerdictWish | None:
    match said:
        case {"number": int(number), "word": str(word), "episode_id": str(episode_id), "said_by": str(by)} if (
            _is_number(number) and word in set(Word) and episode_id
        ):
            return VerdictWish(number, Verdict(Word(word), by.removeprefix("user:"), episode_id))
        case _:
            return None


def _rest(said: object) -> RestWish | None:
    match said:
        case {"number": int(number), "wanted": bool(wanted)} if _is_number(number):
            return RestWish(number, wanted)
        case _:
            return None


def _task(said: object) -> TaskWish | None:
    match said:
        case {"number": int(number), "text": str() | None as text} if _is_number(number):
            return TaskWish(number, text)
        case _:
            return None


def _reboot(said: object) -> int | None:
    match said:
        case {"number": int(number)} if _is_number(number):
            return number
        case _:
            return None


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= NUMBER_MAX
