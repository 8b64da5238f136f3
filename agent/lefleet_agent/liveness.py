"""Whether the two processes still do their work: each writes down until when it may be taken for alive.

`run/control.json` and `run/courier.json` carry `alive_until_monotonic_ns` on the kernel's monotonic clock, which all
processes and containers of a host share and which no time server sets. Whoever watches compares one number; what a
process may take how long is decided where it is known, here.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNTIL = "alive_until_monotonic_ns"
PARTS = ("control", "courier")

# Opening an arm, building a simulator and bringing a policy into a cold GPU are one long silence each.
SLOW_STATES = {"connecting", "loading"}
SLOW = 10


def control_until_ns(now_ns: int, heard_ns: int, state: str, hung_after_s: float) -> int:
    """Until when control and its recorder count as alive.

    `heard_ns`: when the recorder last took anything from control. `now_ns`: now, by the recorder's own clock, so that
    a recorder that hangs is missed as well.
    """
    patience_s = hung_after_s * (SLOW if state in SLOW_STATES else 1)
    return min(now_ns + round(hung_after_s * 1e9), heard_ns + round(patience_s * 1e9))


class Pulse:
    """When each thread of a process is expected to show itself next. Any thread may call anything."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._due_ns: dict[str, int] = {}

    def expect(self, part: str, within_s: float) -> None:
        self._due_ns[part] = self._clock() + round(within_s * 1e9)

    def until_ns(self, fresh_s: float) -> int:
        """The first instant at which something is overdue; this very answer holds for `fresh_s` only."""
        return min([self._clock() + round(fresh_s * 1e9), *list(self._due_ns.values())])


@dataclass(frozen=True, slots=True)
class Health:
    alive: bool
    state: str
    detail: str
    """Why it is not alive; empty when it is."""


def health(run: Path, part: str, now_ns: int) -> Health:
    """What the file that `part` writes says about it."""
    path = run / f"{part}.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        until_ns = int(values[UNTIL])
    except FileNotFoundError:
        return Health(False, "", f"{part} has not started: there is no {path}")
    except (ValueError, KeyError, TypeError) as error:
        return Health(False, "", f"{path} cannot be read ({error!r}); restart {part}")
    state = str(values.get("state", ""))
    if state == "stopped":
        return Health(False, state, f"{part} has stopped: {values.get('detail') or 'it was told to'}")
    if now_ns > until_ns:
        return Health(False, state, f"{part} is silent: overdue for {(now_ns - until_ns) * 1e-9:.0f} s; restart it")
    return Health(True, state, "")
