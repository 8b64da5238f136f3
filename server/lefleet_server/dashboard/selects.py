"""Parts of filter bars: a select, and a span of time."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from itertools import zip_longest

from nicegui import ui
from nicegui.events import GenericEventArguments

from lefleet_server.dashboard.parts import box, option, set_attribute

_CUSTOM = "custom"
_SPANS = (("1h", "Last hour"), ("24h", "Last 24 hours"), ("7d", "Last 7 days"), ("30d", "Last 30 days"))
_VALUE = "(event) => emit(event.target.value)"

type Change = Callable[..., Awaitable[None]]


class Select:
    """The browser's own select: quick, and at home on a phone."""

    def __init__(
        self,
        label: str,
        all_: str,
        options: Sequence[tuple[str, str]],
        chosen: str | None,
        change: Callable[[GenericEventArguments], Awaitable[None]],
        at: Sequence[datetime] = (),
    ) -> None:
        """`at`: of the first options, the days that the browser writes behind them, within an `lf-dated`."""
        self._change = change
        self._element = box("lf-select", tag="select", aria_label=label)
        self._mark(chosen)
        with self._element:
            for (value, text), day in zip_longest([("", all_), *options], [None, *at]):
                made = option(value, text, chosen=value == (chosen or ""))
                if day is not None:
                    made.props["data-at"] = day.isoformat()
        self._element.on("change", self._changed, js_handler=_VALUE)

    async def _changed(self, event: GenericEventArguments) -> None:
        self._mark(event.args)
        await self._change(event)

    def _mark(self, chosen: str | None) -> None:
        set_attribute(self._element, "data-set", "yes" if chosen else "no")


class TimeSpan:
    """The recent past, or from one moment to another. Calls `change` with last, since and until as keywords."""

    def __init__(self, last: str | None, since: datetime | None, until: datetime | None, change: Change) -> None:
        self._change = change
        ranged = since is not None or until is not None
        Select("Time", "Any time", [*_SPANS, (_CUSTOM, "From … to …")], _CUSTOM if ranged else last, self._span_changed)
        self._moments = [self._moment("From", "since", since), self._moment("To", "until", until)]
        self._show_moments(ranged)

    def _moment(self, label: str, name: str, at: datetime | None) -> ui.element:
        async def change(event: GenericEventArguments) -> None:
            chosen = datetime.fromisoformat(event.args["detail"]) if event.args["detail"] else None
            await self._change(**{name: chosen, "last": None})

        element = box("lf-when", tag="lf-when", datetime=at.isoformat() if at else "", label=label)
        return element.on("when", change, ["detail"])

    async def _span_changed(self, event: GenericEventArguments) -> None:
        custom = event.args == _CUSTOM
        self._show_moments(custom)
        if not custom:
            await self._change(last=event.args or None, since=None, until=None)

    def _show_moments(self, visible: bool) -> None:
        for moment in self._moments:
            moment.set_visibility(visible)
