"""Who drives a session's episodes, one after the other: the active policy, or a person."""

from collections.abc import Callable
from typing import Protocol

import structlog

from lefleet_agent.control.driver import Driver
from lefleet_agent.control.judge import Certainty, Judge, RewardJudge
from lefleet_agent.episode import PolicyInfo
from lefleet_agent.policy import PolicyRunner

log = structlog.get_logger()


class Releases(Protocol):
    """Where the active policy comes from."""

    def active_digest(self) -> str | None: ...

    def load(self) -> PolicyRunner:
        """Raises ReleaseError or PolicyError."""


class Pilot(Protocol):
    @property
    def policy(self) -> PolicyInfo | None:
        """The policy that is loaded, None without one."""

    @property
    def judge(self) -> Judge | None:
        """A reward model that judges the next episode, None without one; known once `driver` was asked."""

    def driver(self, loading: Callable[[], None]) -> Driver:
        """Of the next episode; `loading` is called before what takes long. Raises ReleaseError, PolicyError."""

    def drop(self) -> None:
        """Give up what is loaded: the next episode begins with a fresh one."""


class PolicyPilot:
    """The active release's policy; loaded when the link has changed, so only ever between episodes."""

    def __init__(
        self, releases: Releases, drive: Callable[[PolicyRunner], Driver], certainty: Certainty | None = None
    ) -> None:
        """`certainty`: when the reward model is believed that the releases load beside a policy."""
        self._releases = releases
        self._drive = drive
        self._certainty = certainty
        self.judge: RewardJudge | None = None
        self._runner: PolicyRunner | None = None
        self._driver: Driver | None = None

    @property
    def policy(self) -> PolicyInfo | None:
        return self._runner.traits.info if self._runner else None

    def driver(self, loading: Callable[[], None]) -> Driver:
        if self._driver is None or self.policy is None or self._releases.active_digest() != self.policy.digest:
            loading()
            self.drop()
            self._runner = self._releases.load()
            self._driver = self._drive(self._runner)
            if self._certainty and self._runner.traits.judge_cameras:
                self.judge = RewardJudge(self._runner, self._certainty)
            info = self._runner.traits.info
            log.info("policy loaded", repo=info.repo, digest=info.digest[:12])
        return self._driver

    def drop(self) -> None:
        if self._runner is not None:
            self._runner.close()
        self._runner = self._driver = self.judge = None


class PersonPilot:
    """A person at the leader arm."""

    policy: PolicyInfo | None = None
    judge: Judge | None = None

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def driver(self, loading: Callable[[], None]) -> Driver:
        del loading
        return self._driver

    def drop(self) -> None: ...
