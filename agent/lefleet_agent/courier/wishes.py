"""What people ask of this robot through the server: an emergency stop, its release, an episode's end, rest, a task,
a reboot of its host.

The server numbers what people say. A robot obeys only what is newer than what it obeyed last, and remembers that on its
disk: so a stop that somebody beside the robot cleared does not come back with the next answer, and no server that is
gone, was restored or answers strangely lets an arm go on. A word about an episode names it, so that one which comes
late or twice ends nothing else.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from lefleet_agent.courier.api import ServerApi
from lefleet_agent.courier.errors import UploadGone
from lefleet_agent.courier.wish import RestWish, TaskWish, VerdictWish, Wish
from lefleet_agent.obeyed import ESTOP, REBOOT, REST, TASK, Obeyed
from lefleet_agent.requests import DASHBOARD, Requests
from lefleet_agent.task import Task
from lefleet_agent.verdict import leave

log = structlog.get_logger()

WAIT_MAX_S = 25.0
"""Longest time that the server may keep a question: proxies on the way end what is silent for longer."""
SETTLE_S = 1.0
SETTLE_LOOKS = 6
OLD_SERVER_S = 60.0
"""Between questions to a server that has no such address."""


@dataclass(frozen=True, slots=True)
class Levers:
    """What a wish moves."""

    emergency: Requests
    rest: Requests
    task: Task
    run: Path
    """Where control takes words about episodes from."""
    reboot: Path | None = None
    """Left empty: the host starts anew. None: nothing on this host looks for it."""


class Wishes:
    """Asks the server and obeys. What a person waits to see (`settling`) is for whoever calls it to tell."""

    def __init__(self, api: ServerApi, levers: Levers, obeyed: Obeyed, timeout_s: float) -> None:
        """`api`: for this alone, so that hanging up ends nothing else. `timeout_s`: of its requests."""
        self._api = api
        self._levers = levers
        self._obeyed = obeyed
        self._verdict = 0
        self._wait_s = min(WAIT_MAX_S, timeout_s / 2)
        self._settling = 0
        self._told_old = False

    @property
    def settling(self) -> bool:
        """Whether the arm's state is about to follow a wish."""
        return self._settling > 0

    def hang_up(self) -> None:
        """End the question that the server keeps."""
        self._api.hang_up()

    def __call__(self) -> float:
        """Ask once; returns how long to wait before asking again, seconds. Raises ServerError, OSError."""
        wait_s = min(SETTLE_S, self._wait_s) if self._settling else self._wait_s
        until_s = time.monotonic() + wait_s
        self._settling = max(0, self._settling - 1)
        known = self._obeyed.numbers()
        try:
            wish = self._api.wish(known[ESTOP], self._others(known), wait_s)
        except UploadGone as error:
            return self._unknown_there(error)
        self._told_old = False
        if not self._hear(wish, known):
            return max(0.0, until_s - time.monotonic())  # whoever answered at once without news is not asked at once
        self._settling = SETTLE_LOOKS
        return 0.0

    def _others(self, known: Mapping[str, int]) -> dict[str, int]:
        """The newest words beside stops that were heard, of the kinds that are obeyed here."""
        orders = (REST, TASK, REBOOT) if self._levers.reboot else (REST, TASK)
        return {"verdict": self._verdict} | {kind: known[kind] for kind in orders}

    def _hear(self, wish: Wish, known: Mapping[str, int]) -> bool:
        """Whether there was news."""
        news = False
        if wish.number > known[ESTOP]:
            self._stop(wish, known[ESTOP])
            news = True
        if wish.verdict and wish.verdict.number > self._verdict:
            self._pass_on(wish.verdict)
            news = True
        if wish.rest and wish.rest.number > known[REST]:
            self._rest(wish.rest)
            news = True
        if wish.task and wish.task.number > known[TASK]:
            self._take_task(wish.task)
            news = True
        if self._levers.reboot and wish.reboot and wish.reboot > known[REBOOT]:
            self._reboot(wish.reboot, self._levers.reboot)
            news = True
        return news

    def _stop(self, wish: Wish, known: int) -> None:
        if wish.wanted:
            self._levers.emergency.request(DASHBOARD)
        elif known:
            self._levers.emergency.withdraw(DASHBOARD)
        else:
            # A disk that forgot what was obeyed: this release may be older than the stop that holds.
            log.warning("a release was not obeyed: this robot does not know which stop came before; release again")
        self._obeyed.keep(wish.number)  # last: what was not done is done again
        log.info("obeyed", wish=wish.number, emergency_stop=wish.wanted)

    def _rest(self, wish: RestWish) -> None:
        if wish.wanted:
            self._levers.rest.request(DASHBOARD)
        else:
            self._levers.rest.withdraw(DASHBOARD)
        self._obeyed.keep(wish.number, REST)
        log.info("obeyed", wish=wish.number, rest=wish.wanted)

    def _take_task(self, wish: TaskWish) -> None:
        self._levers.task.ask_for(wish.text)
        self._obeyed.keep(wish.number, TASK)
        log.info("obeyed", wish=wish.number, task=wish.text)

    def _reboot(self, number: int, ask_host: Path) -> None:
        self._obeyed.keep(number, REBOOT)  # first: a host that forgot it would start anew for ever
        log.warning("obeyed: this host is about to start anew", wish=number)
        ask_host.touch()

    def _pass_on(self, said: VerdictWish) -> None:
        """Leaves the word for control, which drops it when another episode runs."""
        leave(self._levers.run, said.verdict)
        self._verdict = said.number
        verdict = said.verdict
        log.info("passed on", episode=verdict.episode_id, outcome=verdict.word.value, by=verdict.by)

    def _unknown_there(self, error: UploadGone) -> float:
        """A server from before there were wishes: no trouble of this robot's, and it may be upgraded any time."""
        if not self._told_old:
            log.warning("this server knows no wishes: its dashboard stops no arm; upgrade it", error=str(error))
        self._told_old = True
        return OLD_SERVER_S
