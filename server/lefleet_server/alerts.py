"""What Prometheus alerts about now, asked for all viewers together: https://prometheus.io/docs/prometheus/latest/querying/api/#alerts.

No page waits for it but the first, and no heartbeat does. What it does not answer is unknown, never an error.
"""

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import httpx
import structlog
from pydantic import BaseModel, ValidationError

from lefleet_server.db import utc_now

log = structlog.get_logger()

FRESH_S = 10.0
STALE_S = 30.0
"""What is older is waited for: nobody has looked for a while."""
TIMEOUT_S = 3.0
MOST_BYTES = 4 << 20
_MOST_CHARS = 300


@dataclass(frozen=True, slots=True)
class Alert:
    """One that fires."""

    name: str
    severity: str
    """As its rule labels it; empty where it does not."""
    summary: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Firing:
    """What fires. `asked` is False where the settings name no Prometheus; nothing is known then."""

    asked: bool = False
    by_robot: Mapping[str, Sequence[Alert]] = field(default_factory=dict)
    others: Sequence[Alert] = ()
    """Those that are about no robot."""
    unknown_since: datetime | None = None
    """When it was heard last, or first asked, while it does not answer."""

    @property
    def known(self) -> bool:
        return self.asked and self.unknown_since is None

    def of(self, robot_id: str) -> Sequence[Alert]:
        return self.by_robot.get(robot_id, ())


NOT_ASKED = Firing()


class _Alert(BaseModel):
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    state: str
    activeAt: datetime  # noqa: N815 - Prometheus' name


class _Data(BaseModel):
    alerts: list[_Alert]


class _Answer(BaseModel):
    status: Literal["success"]
    data: _Data


class Alerts:
    """Building it touches nothing. `url`: of Prometheus; None asks nobody."""

    def __init__(self, url: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = None if url is None else f"{url.rstrip('/')}/api/v1/alerts"
        self._clock = clock
        self._http: httpx.AsyncClient | None = None
        self._asking: asyncio.Task[None] | None = None
        self._firing = Firing(asked=url is not None)
        self._heard_at: datetime | None = None
        self._asked_s: float | None = None

    async def firing(self) -> Firing:
        """Waits TIMEOUT_S at most, and only where what is known is older than STALE_S."""
        if self._url is None:
            return self._firing
        age_s = STALE_S if self._asked_s is None else self._clock() - self._asked_s
        if age_s >= FRESH_S and self._asking is None:
            # In a context of its own: it is asked for all who look, not for the request that was the first.
            self._asking = asyncio.create_task(self._ask(self._url), context=contextvars.Context())
        if age_s >= STALE_S and self._asking is not None:
            await asyncio.wait([self._asking])
        return self._firing

    async def close(self) -> None:
        if (asking := self._asking) is not None:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
        if self._http is not None:
            await self._http.aclose()

    async def _ask(self, url: str) -> None:
        began = utc_now()
        try:
            firing = _read(await self._answer(url))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            since = self._firing.unknown_since or self._heard_at or began
            if self._firing.unknown_since is None:
                # A wrong answer's own words may be long, and name nothing that helps.
                why = type(error).__name__ if isinstance(error, ValidationError) else str(error) or type(error).__name__
                log.warning("alerts are unknown", url=url, error=why[:_MOST_CHARS])
            self._firing = Firing(asked=True, unknown_since=since)
        else:
            if self._firing.unknown_since is not None:
                log.info("alerts are known again", url=url)
            self._firing, self._heard_at = firing, began
        finally:
            self._asked_s, self._asking = self._clock(), None

    async def _answer(self, url: str) -> bytes:
        """Raises httpx.HTTPError, TimeoutError, ValueError."""
        if self._http is None:
            self._http = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False)
        body = bytearray()
        async with asyncio.timeout(TIMEOUT_S), self._http.stream("GET", url) as answer:
            answer.raise_for_status()
            async for block in answer.aiter_bytes():
                body += block
                if len(body) > MOST_BYTES:
                    raise ValueError(f"more than {MOST_BYTES} bytes")
        return bytes(body)


def _read(answer: bytes) -> Firing:
    """Raises ValueError."""
    by_robot: dict[str, list[Alert]] = {}
    others: list[Alert] = []
    firing = [each for each in _Answer.model_validate_json(answer).data.alerts if each.state == "firing"]
    for each in sorted(firing, key=lambda each: (each.labels.get("alertname", ""), sorted(each.labels.items()))):
        alert = Alert(
            _line(each.labels.get("alertname", "")),
            _line(each.labels.get("severity", "")),
            _line(each.annotations.get("summary", "")),
            each.activeAt,
        )
        robot_id = each.labels.get("robot_id")
        (others if robot_id is None else by_robot.setdefault(robot_id, [])).append(alert)
    return Firing(asked=True, by_robot=by_robot, others=others)


def _line(text: str) -> str:
    return " ".join(text.split())[:_MOST_CHARS]
