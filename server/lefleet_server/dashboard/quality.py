"""Quality flags and quarantine in people's words. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lefleet_server.analysis import FlagName, Quality
from lefleet_server.units import number

NAMES = {
    FlagName.DROPPED_FRAMES: "Dropped frames",
    FlagName.STALL: "Stall",
    FlagName.IDLE: "Idle",
    FlagName.JERK: "Jerk",
    FlagName.SATURATION: "Saturation",
    FlagName.CAMERA_FROZEN: "Frozen camera",
    FlagName.CAMERA_DARK: "Dark camera",
}
MEANINGS = {
    FlagName.DROPPED_FRAMES: "frames that the recorder lost",
    FlagName.STALL: "longest time between two ticks",
    FlagName.IDLE: "frames at which nothing moved",
    FlagName.JERK: "how abruptly it moves, 95th percentile",
    FlagName.SATURATION: "frames at which its action was clipped",
    FlagName.CAMERA_FROZEN: "longest time without a new picture",
    FlagName.CAMERA_DARK: "median brightness",
}
QUARANTINED = "quarantined"
QUALITIES = {
    Quality.CLEAN.value: "Without flags",
    Quality.FLAGGED.value: "With any flag",
    **{flag.value: name for flag, name in NAMES.items()},
    QUARANTINED: "Quarantined",
    Quality.PENDING.value: "Not checked yet",
}
"""What the filter of episodes offers, by its word in the URL."""
_BELOW = {FlagName.CAMERA_DARK}
"""Flagged for too little; all others for too much."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of an episode, ready to be shown."""

    name: str
    where: str
    """Joint or camera; empty for the episode."""
    meaning: str
    measured: str
    limit: str


def restricts(word: str) -> dict[str, Any]:
    """What a word of QUALITIES means, as fields of EpisodeFilter."""
    if word == QUARANTINED:
        return {"quarantined": True}
    return {"quality": Quality(word)} if word in set(Quality) else {"flag": FlagName(word)}


def read(flags: Sequence[Mapping[str, Any]]) -> list[Flag]:
    """The flags of an analysis. One that this version does not know keeps its own name."""
    return [_flag(each) for each in flags]


def _flag(said: Mapping[str, Any]) -> Flag:
    own = str(said["name"])
    known = FlagName(own) if own in set(FlagName) else None
    unit = str(said["unit"])
    side = "least" if known in _BELOW else "most"
    return Flag(
        name=NAMES[known] if known else own.replace("_", " ").capitalize(),
        where=str(said["where"]),
        meaning=MEANINGS[known] if known else "",
        measured=measured(float(said["value"]), unit),
        limit=f"at {side} {measured(float(said['threshold']), unit)}",
    )


def measured(value: float, unit: str) -> str:
    """`12.3 %` for a share; else the number with as many digits as say something, and its unit."""
    if unit.startswith("share"):
        return f"{number(100 * value)} %"
    return f"{number(value, 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2)} {unit}".strip()


def grouped(flags: Sequence[Flag]) -> list[tuple[str, str]]:
    """(badge, tooltip) for each kind of flag: six joints that jerk are one badge."""
    kinds: dict[str, list[Flag]] = {}
    for flag in flags:
        kinds.setdefault(flag.name, []).append(flag)
    return [
        (name if len(found) == 1 else f"{len(found)} {name.lower()}", "\n".join(map(_sentence, found)))
        for name, found in kinds.items()
    ]


def _sentence(flag: Flag) -> str:
    whose = f" of {flag.where}" if flag.where else ""
    return f"{flag.name}{whose}: {flag.measured}, {flag.limit}"
