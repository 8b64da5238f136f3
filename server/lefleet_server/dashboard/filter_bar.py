"""The line of filters over the table of episodes."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime

from nicegui import ui
from nicegui.events import GenericEventArguments

from lefleet_server.dashboard.filters import OUTCOMES, Filters
from lefleet_server.dashboard.parts import Text, box, link, set_attribute
from lefleet_server.dashboard.queries import Choices
from lefleet_server.dashboard.units import repo_name

_CUSTOM = "custom"
_SPANS = (("1h", "Last hour"), ("24h", "Last 24 hours"), ("7d", "Last 7 days"), ("30d", "Last 30 days"))
_VALUE = "(event) => emit(event.target.value)"


class FilterBar:
    """Calls `apply` with the filters of the first page whenever a person changes one."""

    def __init__(
        self, filters: Filters, choices: Choices, apply: Callable[[Filters], Awaitable[None]], page: str = "/episodes"
    ) -> None:
        self._filters = filters
        self._apply = apply
        robots = [(robot, robot) for robot in choices.robots]
        policies = [(repo, repo_name(repo)) for repo in choices.policies if repo]
        with box("lf-filters", role="search"):
            self._select("Robot", "All robots", robots, "robot")
            self._select("Policy", "All policies", policies, "policy")
            self._select("Outcome", "All outcomes", [(name, name.capitalize()) for name in OUTCOMES], "outcome")
            self._yes_no("Ended", "Finished or not", "Interrupted", "Finished", "interrupted")
            self._yes_no("Label", "Labelled or not", "Labelled", "Not labelled", "labelled")
            if choices.sets or filters.in_set:
                self._select("Set", "In any set or none", [(name, name) for name in choices.sets], "in_set")
            self._time()
            self._clear = link(page, "lf-button lf-filters-end")
            with self._clear:
                Text("Clear filters", tag="span")
        self._clear.set_visibility(filters.is_set)

    def _select(self, label: str, all_: str, options: Sequence[tuple[str, str]], name: str) -> None:
        chosen = getattr(self._filters, name)
        if chosen and chosen not in [value for value, _ in options]:
            options = [*options, (chosen, chosen)]

        async def change(event: GenericEventArguments) -> None:
            await self._change(**{name: event.args or None})

        _Select(label, all_, options, chosen, change)

    def _yes_no(self, label: str, all_: str, yes: str, no: str, name: str) -> None:
        chosen = {True: "yes", False: "no", None: None}[getattr(self._filters, name)]

        async def change(event: GenericEventArguments) -> None:
            await self._change(**{name: {"yes": True, "no": False}.get(event.args)})

        _Select(label, all_, [("no", no), ("yes", yes)], chosen, change)

    def _time(self) -> None:
        ranged = self._filters.since is not None or self._filters.until is not None
        chosen = _CUSTOM if ranged else self._filters.last
        _Select("Time", "Any time", [*_SPANS, (_CUSTOM, "From … to …")], chosen, self._change_span)
        self._since = self._moment("From", "since", self._filters.since)
        self._until = self._moment("To", "until", self._filters.until)
        self._show_moments(ranged)

    def _moment(self, label: str, name: str, at: datetime | None) -> ui.element:
        async def change(event: GenericEventArguments) -> None:
            chosen = datetime.fromisoformat(event.args["detail"]) if event.args["detail"] else None
            await self._change(**{name: chosen, "last": None})

        element = box("lf-when", tag="lf-when", datetime=at.isoformat() if at else "", label=label)
        return element.on("when", change, ["detail"])

    async def _change_span(self, event: GenericEventArguments) -> None:
        custom = event.args == _CUSTOM
        self._show_moments(custom)
        if not custom:
            await self._change(last=event.args or None, since=None, until=None)

    def _show_moments(self, visible: bool) -> None:
        self._since.set_visibility(visible)
        self._until.set_visibility(visible)

    async def _change(self, **changes: object) -> None:
        self._filters = replace(self._filters.first_page(), **changes)  # type: ignore[arg-type]
        self._clear.set_visibility(self._filters.is_set)
        await self._apply(self._filters)


class _Select:
    """The browser's own select: quick, and at home on a phone."""

    def __init__(
        self,
        label: str,
        all_: str,
        options: Sequence[tuple[str, str]],
        chosen: str | None,
        change: Callable[[GenericEventArguments], Awaitable[None]],
    ) -> None:
        self._change = change
        self._element = box("lf-select", tag="select", aria_label=label)
        self._mark(chosen)
        with self._element:
            for value, text in [("", all_), *options]:
                option = Text(text, tag="option")
                option.props["value"] = value
                if value == (chosen or ""):
                    option.props["selected"] = True
        self._element.on("change", self._changed, js_handler=_VALUE)

    async def _changed(self, event: GenericEventArguments) -> None:
        self._mark(event.args)
        await self._change(event)

    def _mark(self, chosen: str | None) -> None:
        set_attribute(self._element, "data-set", "yes" if chosen else "no")
