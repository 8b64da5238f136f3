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
class Wish:
    """The newest word of people about this robot's emergency stop, and about an episode."""

    number: int
    """Of the emergency stop's; grows with each word; 0 when nobody ever said one."""
    wanted: bool
    verdict: VerdictWish | None
    """None when nobody ever said one, and where the server says nothing that this release knows."""


def read(values: dict[str, Any]) -> Wish:
    """Raises ValueError for no number with a wish. A strange verdict is none: it must not hide a stop."""
    match values["estop"]:
        case {"number": int(number), "wanted": bool(wanted)} if _is_number(number):
            return Wish(number, wanted, _verdict(values.get("verdict")))
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


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= NUMBER_MAX
