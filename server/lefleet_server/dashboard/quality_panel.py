"""What a worker found in an episode: badges for lists, and a panel for the episode's page."""

from collections.abc import Sequence

from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.analysis import service
from lefleet_server.analysis.models import EpisodeAnalysis
from lefleet_server.dashboard.acting import Acting, actor
from lefleet_server.dashboard.dialogs import button
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.parts import Chip, Text, Time, box, set_attribute
from lefleet_server.dashboard.quality import Flag, grouped, read
from lefleet_server.services import Services

_MOST_BADGES = 3


def build_badges(found: EpisodeAnalysis | None) -> None:
    """The badges of one line; nothing for an episode that is fine or not checked yet."""
    if found is None:
        return
    if found.state == "quarantined":
        set_attribute(Chip("Quarantined", "bad", "is-plain"), "title", found.reason or "")
        return
    badges = grouped(read(found.flags))
    for word, tip in badges[:_MOST_BADGES]:
        set_attribute(Chip(word, "warn", "is-plain is-flag"), "title", tip)
    if more := badges[_MOST_BADGES:]:
        set_attribute(Chip(f"+{len(more)}", "warn", "is-plain is-flag"), "title", "\n".join(tip for _, tip in more))


class QualityPanel:
    """An episode's flags with what was measured; for a quarantined one the reason; and another check."""

    def __init__(self, services: Services, request: Request, episode_id: str, found: EpisodeAnalysis | None) -> None:
        self._episode_id = episode_id
        self._acting = Acting(services, request)
        with box("lf-card lf-panel lf-quality", tag="section"):
            Text("Quality", tag="h2")
            self._build(found)
            with box("lf-label-foot"):
                with box(tag="span"):
                    if found is not None:
                        Text("Checked ", tag="span")
                        Time(found.analysed_at, "ago")
                        Text(f", rules {found.version}", tag="span")
                self._again = button("Check again", self._check_again)
        if not Role(user_on(request).role).covers(Role.OPERATOR):
            self._again.props.update({"disabled": True, "title": "Another check needs the role operator"})

    def _build(self, found: EpisodeAnalysis | None) -> None:
        if found is None:
            text = "Not checked yet. A worker looks at every episode soon after it has arrived; Jobs shows what waits."
            Text(text, "lf-panel-text")
        elif found.state == "quarantined":
            Chip("Quarantined", "bad")
            Text(f"The file is wrong: {found.reason}", "lf-note")
            text = "It is kept and can be downloaded; leave it out of training. A check that finds it right ends this."
            Text(text, "lf-panel-text")
        elif found.flags:
            _build_flags(read(found.flags))
        else:
            Chip("No flags", "good")

    async def _check_again(self) -> None:
        await self._acting.change(
            Role.OPERATOR,
            lambda session, who: service.check_again(session, actor(who), self._episode_id),
            lambda _: self._acting.say("A worker looks at it again. Load this page anew in a moment.", good=True),
        )


def _build_flags(flags: Sequence[Flag]) -> None:
    with box("lf-flags"):
        for flag in flags:
            with box("lf-flag"):
                with box("lf-flag-head"):
                    Chip(flag.name, "warn", "is-plain is-flag")
                    Text(flag.where, "lf-cut", tag="span")
                with box("lf-flag-value"):
                    Text(flag.measured, "lf-num", tag="b")
                    Text(flag.limit, "lf-faint lf-num", tag="span")
                Text(flag.meaning, "lf-flag-meaning")
