"""Success rates of policies or releases beside a baseline, with what can and cannot be said."""

from urllib.parse import urlencode

from nicegui import ui
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.comparison import service
from lefleet_server.comparison.service import By, Comparison, Group
from lefleet_server.comparison.statistics import Verdict
from lefleet_server.dashboard import queries
from lefleet_server.dashboard.filter_bar import FilterBar
from lefleet_server.dashboard.filters import Filters
from lefleet_server.dashboard.frame import frame, head
from lefleet_server.dashboard.fresh import Fresh
from lefleet_server.dashboard.parts import Chip, Text, Tone, box, empty, link
from lefleet_server.dashboard.sections import page_for
from lefleet_server.db import utc_now
from lefleet_server.problems import NotFound
from lefleet_server.services import Services
from lefleet_server.units import DASH, number, repo_name, short_commit, thousands

PATH = "/compare"
_TONES: dict[Verdict, Tone] = {
    Verdict.BETTER: "good",
    Verdict.WORSE: "bad",
    Verdict.SAME: "live",
    Verdict.UNKNOWN: "off",
}


class Compare:
    """One viewer's comparison."""

    def __init__(
        self, fresh: Fresh, services: Services, filters: Filters, by: By, baseline: str | None, choices: queries.Choices
    ) -> None:
        self._fresh = fresh
        self._services = services
        self._filters, self._by, self._baseline = filters, by, baseline
        with (
            head("Compare", "How often policies succeed, and how sure we can be"),
            box("lf-segments", role="group", aria_label="Compare"),
        ):
            self._segments = {kind: self._segment(kind, text) for kind, text in _KINDS}
        FilterBar(services.db, filters, choices, self._filter, PATH)
        self._card = box("lf-card lf-compare")
        self._foot = Text("", "lf-compare-foot")

    async def refresh(self) -> None:
        which = self._filters.which(utc_now())
        async with self._services.db.reading() as session:
            try:
                found = await service.comparison(session, which, self._by, self._baseline)
            except NotFound:
                # The filters changed, and the baseline has no episode in them: choose again.
                self._baseline = None
                found = await service.comparison(session, which, self._by)
        for kind, segment in self._segments.items():
            segment.props["aria-pressed"] = "true" if kind == self._by else "false"
        self._card.clear()
        with self._card:
            self._build(found)
        self._foot.show(_counted(found))
        ui.navigate.history.replace(self._address())

    def _build(self, found: Comparison) -> None:
        if not found.groups and not self._filters.is_set:
            text = "Policies stand here side by side once robots have finished and uploaded episodes."
            with empty("episodes", "Nothing to compare yet", text), link("/", "lf-button"):
                Text("Look at the robots", tag="span")
            return
        if not found.groups:
            text = "Nothing matches these filters. Widen the time, or take a filter away."
            with empty("episodes", "Nothing to compare", text), link(PATH, "lf-button"):
                Text("Compare all episodes", tag="span")
            return
        for group in found.groups:
            self._build_group(group)

    def _build_group(self, group: Group) -> None:
        with box("lf-compare-row", data_group=group.key):
            with box("lf-cell"):
                with link(self._of(group).address("/episodes")):
                    Text(repo_name(group.policy) if group.policy else "No policy", "lf-cell-main lf-cut")
                Text(short_commit(group.commit) if group.commit else group.policy, "lf-cell-sub lf-cut")
            with box("lf-compare-rate"):
                rate = group.tally.rate
                Text(DASH if rate is None else f"{number(100 * rate, 0)} %", "lf-cell-main lf-num")
                unknown = f", {thousands(group.unknown)} unknown" if group.unknown else ""
                Text(f"{group.tally}{unknown}", "lf-cell-sub lf-num")
            _build_interval(group)
            with box("lf-compare-said"):
                if group.difference is None:
                    Chip("Baseline", "off", "is-plain")
                else:
                    Chip(group.difference.verdict.value.capitalize(), _TONES[group.difference.verdict])
                    Text(group.difference.words.removeprefix(f"{group.difference.verdict}: "), "lf-cell-sub")
                    self._choose(group.key)

    def _of(self, group: Group) -> Filters:
        policy = group.policy or None
        return self._filters.changed(policy=policy, release=(group.commit or self._filters.release) if policy else None)

    def _choose(self, key: str) -> None:
        async def choose() -> None:
            self._baseline = key
            await self._fresh.now(self.refresh)

        button = Text("Use as baseline", "lf-compare-choose", tag="button").on("click", choose)
        button.props["type"] = "button"

    def _segment(self, kind: By, text: str) -> Text:
        async def choose() -> None:
            self._by, self._baseline = kind, None
            await self._fresh.now(self.refresh)

        button = Text(text, "lf-segment", tag="button").on("click", choose)
        button.props["type"] = "button"
        return button

    async def _filter(self, filters: Filters) -> None:
        self._filters = filters
        await self._fresh.now(self.refresh)

    def _address(self) -> str:
        more = {"by": self._by if self._by != "policy" else None, "baseline": self._baseline}
        words = urlencode({name: value for name, value in more.items() if value})
        address = self._filters.address(PATH)
        return f"{address}{'&' if '?' in address else '?'}{words}" if words else address


_KINDS: tuple[tuple[By, str], ...] = (("policy", "Policies"), ("release", "Releases"))


def _build_interval(group: Group) -> None:
    """The rate and its 95 % interval on a scale from 0 to 100 %."""
    low, high = 100 * group.interval.low, 100 * group.interval.high
    said = f"95 % interval: {low:.0f} to {high:.0f} %"
    with box("lf-interval", role="img", aria_label=said, title=said):
        bar = box(tag="i").style(f"left: {low:.1f}%; width: {max(high - low, 0.4):.1f}%")
        bar.props["data-judged"] = "yes" if group.tally.judged else "no"
        if group.tally.rate is not None:
            box(tag="b").style(f"left: {100 * group.tally.rate:.1f}%")
        Text(f"{low:.0f} to {high:.0f} %", tag="span")


def _counted(found: Comparison) -> str:
    many = f"The newest {thousands(found.episodes)} episodes" if found.cut else f"{thousands(found.episodes)} episodes"
    return (
        f"{many} of these filters. A bar is the 95 % interval of a rate (Wilson). Verdicts hold for all comparisons on "
        "this page together (Newcombe, Bonferroni). Unknown outcomes are in no rate."
    )


def register(services: Services) -> None:
    @page_for(PATH, "Compare", Role.VIEWER)
    async def page(request: Request) -> None:
        filters = Filters.parse(request.query_params).first_page()
        by: By = "release" if request.query_params.get("by") == "release" else "policy"
        async with services.db.session() as session:
            choices = await queries.choices(session, filters.policy)
        with frame(request, "Episodes") as fresh:
            baseline = request.query_params.get("baseline")
            await Compare(fresh, services, filters, by, baseline, choices).refresh()
