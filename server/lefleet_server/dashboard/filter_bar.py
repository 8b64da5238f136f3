"""The line of filters over the table of episodes."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime

from nicegui.events import GenericEventArguments

from lefleet_server.dashboard import queries
from lefleet_server.dashboard.filters import OUTCOMES, Filters
from lefleet_server.dashboard.parts import Text, box, link
from lefleet_server.dashboard.quality import QUALITIES
from lefleet_server.dashboard.queries import Choices, Release
from lefleet_server.dashboard.selects import Select, TimeSpan
from lefleet_server.db import Database
from lefleet_server.units import repo_name, short_commit, shortened

_TASK_CHARS = 60


class FilterBar:
    """Calls `apply` with the filters of the first page whenever a person changes one."""

    def __init__(
        self,
        db: Database,
        filters: Filters,
        choices: Choices,
        apply: Callable[[Filters], Awaitable[None]],
        page: str = "/episodes",
    ) -> None:
        self._db = db
        self._filters = filters
        self._apply = apply
        robots = [(robot, robot) for robot in choices.robots]
        policies = [(repo, repo_name(repo)) for repo in choices.policies if repo]
        with box("lf-filters", role="search"):
            self._select("Robot", "All robots", robots, "robot")
            self._select("Policy", "All policies", policies, "policy", self._change_policy)
            self._releases = box("lf-filters-part", tag="lf-dated")
            self._show_releases(choices.releases)
            if choices.tasks or filters.task:
                tasks = [(task, shortened(task, _TASK_CHARS)) for task in choices.tasks]
                self._select("Task", "All tasks", tasks, "task")
            self._select("Outcome", "All outcomes", [(name, name.capitalize()) for name in OUTCOMES], "outcome")
            self._yes_no("Ended", "Finished or not", "Interrupted", "Finished", "interrupted")
            self._yes_no("Label", "Labelled or not", "Labelled", "Not labelled", "labelled")
            if choices.sets or filters.in_set:
                self._select("Set", "In any set or none", [(name, name) for name in choices.sets], "in_set")
            self._select("Quality", "Any quality", list(QUALITIES.items()), "quality")
            TimeSpan(filters.last, filters.since, filters.until, self._change)
            self._clear = link(page, "lf-button lf-filters-end")
            with self._clear:
                Text("Clear filters", tag="span")
        self._clear.set_visibility(filters.is_set)

    def _select(
        self,
        label: str,
        all_: str,
        options: Sequence[tuple[str, str]],
        name: str,
        changed: Callable[..., Awaitable[None]] | None = None,
        at: Sequence[datetime] = (),
    ) -> None:
        chosen = getattr(self._filters, name)
        if chosen and chosen not in [value for value, _ in options]:
            options = [*options, (chosen, shortened(chosen, _TASK_CHARS))]

        async def change(event: GenericEventArguments) -> None:
            await (changed or self._change)(**{name: event.args or None})

        Select(label, all_, options, chosen, change, at)

    def _yes_no(self, label: str, all_: str, yes: str, no: str, name: str) -> None:
        chosen = {True: "yes", False: "no", None: None}[getattr(self._filters, name)]

        async def change(event: GenericEventArguments) -> None:
            await self._change(**{name: {"yes": True, "no": False}.get(event.args)})

        Select(label, all_, [("no", no), ("yes", yes)], chosen, change)

    async def _change_policy(self, policy: str | None) -> None:
        await self._change(policy=policy, release=None)
        found: Sequence[Release] = ()
        if policy:
            async with self._db.session() as session:
                found = await queries.releases(session, policy)
        # Another policy may have been chosen meanwhile.
        if policy == self._filters.policy:
            self._show_releases(found)

    def _show_releases(self, releases: Sequence[Release]) -> None:
        self._releases.clear()
        self._releases.set_visibility(bool(releases or self._filters.release))
        with self._releases:
            options = [(each.commit, short_commit(each.commit)) for each in releases]
            self._select("Release", "All releases", options, "release", at=[each.newest_at for each in releases])

    async def _change(self, **changes: object) -> None:
        self._filters = replace(self._filters.first_page(), **changes)  # type: ignore[arg-type]
        self._clear.set_visibility(self._filters.is_set)
        await self._apply(self._filters)
