"""Renews the robot's credential by its age, without a request that fails.

The server takes the old one until the new one is used first. So the new one is on the disk, durably, before any request
carries it, and whatever ends this process between two of these steps leaves one that works:

    ask          the old one works; a new one that is never used is void at the next question
    write        the old file or the new one, whole; both work
    use          the old one ends
"""

import time
from dataclasses import replace
from pathlib import Path

import structlog

from lefleet_agent import credential
from lefleet_agent.courier.api import ServerApi
from lefleet_agent.courier.errors import Retryable, UploadGone
from lefleet_agent.courier.tokens import Tokens
from lefleet_agent.credential import Credential, NotEnrolledError

log = structlog.get_logger()

LOOK_S = 60.0
OLD_SERVER_S = 3600.0
CLOCKS_APART_S = 86400.0


def is_due(issued_wall_s: float | None, now_wall_s: float, max_age_s: float) -> bool:
    """Both times by the server's clock. What is of unknown age, or from a future that is no clock's error, is old."""
    return issued_wall_s is None or not -CLOCKS_APART_S <= now_wall_s - issued_wall_s < max_age_s


class Renewal:
    """Looks every minute."""

    def __init__(self, api: ServerApi, tokens: Tokens, state_dir: Path, robot_id: str, max_age_s: float | None) -> None:
        """`max_age_s`: None never renews. A credential that somebody enrols meanwhile is taken up all the same."""
        self._api = api
        self._tokens = tokens
        self._state_dir = state_dir
        self._robot_id = robot_id
        self._max_age_s = max_age_s
        self._given = ""

    def __call__(self) -> float:
        """Renew if it is time; returns when to look again, seconds. Raises ServerError, OSError."""
        kept = self._kept()
        if kept.token not in self._tokens:
            self._tokens.adopt(kept.token, kept.previous)
            self._given = ""  # of the enrolment before
            log.info("enrolled anew")
        offset_s = self._api.clock_offset_s
        if self._max_age_s is None or offset_s is None:  # a wrong clock of this machine must not decide
            return LOOK_S if self._max_age_s is None else 1.0
        now_s = time.time() + offset_s
        if self._tokens.forgotten or is_due(kept.issued_wall_s, now_s, self._max_age_s):
            try:
                self._renew(kept, now_s)
            except UploadGone as error:
                log.warning("this server renews no credentials; upgrade it", error=str(error))
                return OLD_SERVER_S
        return min(LOOK_S, self._max_age_s)

    def _renew(self, kept: Credential, now_s: float) -> None:
        # One that could not be written down is kept: a full disk must not ask for another one every few seconds.
        self._given = self._given or self._api.renew_credential()
        if self._kept().token != kept.token:
            return  # enrolled anew while the server answered: that one counts
        before = self._tokens.current
        credential.write(
            self._state_dir, replace(kept, token=self._given, previous=before, issued_wall_s=round(now_s, 1))
        )
        self._tokens.adopt(self._given, before)
        self._given = ""
        log.info("credential renewed", issued_before=kept.issued_wall_s)

    def _kept(self) -> Credential:
        try:
            return credential.read(self._state_dir, self._robot_id)
        except NotEnrolledError as error:
            raise Retryable(str(error)) from error
