"""Legal holds on the pages of episodes and robots: who holds what, and why; to place one, and to release it."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.dashboard.acting import Acting, actor
from lefleet_server.dashboard.dialogs import FormDialog, Question, Values, button, reason, reason_field
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.parts import Chip, Text, Time, box, link
from lefleet_server.deletion import holds
from lefleet_server.deletion.models import LegalHold
from lefleet_server.episodes.models import Episode
from lefleet_server.services import Services


@dataclass(frozen=True, slots=True)
class Subject:
    """What a panel is about. `place` gets (session, actor, reason), `release` (session, actor)."""

    name: str
    free: str
    """What is said while nothing holds it."""
    is_own: Callable[[LegalHold], bool]
    """Whether a hold is the subject's own, and so released here."""
    find: Callable[[AsyncSession], Awaitable[Sequence[LegalHold]]]
    place: Callable[[AsyncSession, str, str], Awaitable[LegalHold]]
    release: Callable[[AsyncSession, str], Awaitable[None]]


def of_episode(episode: Episode) -> Subject:
    return Subject(
        name="this episode",
        free="Nothing holds it: a retention rule or an administrator may delete it.",
        is_own=lambda hold: hold.episode_id is not None,
        find=lambda session: holds.of_episode(session, episode),
        place=lambda session, by, why: holds.place_on_episode(session, episode.id, by, why),
        release=lambda session, by: holds.release_episode(session, episode.id, by),
    )


def of_robot(robot_id: str) -> Subject:
    return Subject(
        name=f"all episodes of {robot_id}",
        free="Nothing holds all of its episodes: retention rules and administrators may delete them.",
        is_own=lambda hold: hold.robot_id is not None,
        find=lambda session: holds.of_robot(session, robot_id),
        place=lambda session, by, why: holds.place_on_robot(session, robot_id, by, why),
        release=lambda session, by: holds.release_robot(session, robot_id, by),
    )


class HoldPanel:
    """Operators hold, administrators also release; viewers see the panel while something is held.

    `changed` is called with the holds after each change from this page.
    """

    def __init__(
        self,
        services: Services,
        request: Request,
        subject: Subject,
        changed: Callable[[Sequence[LegalHold]], Any] = lambda _: None,
    ) -> None:
        self._services = services
        self._subject = subject
        self._changed = changed
        self._acting = Acting(services, request)
        self._role = Role(user_on(request).role)
        self._shown: list[tuple[int, str]] | None = None
        with box("lf-card lf-panel lf-hold", tag="section") as self._panel:
            with box("lf-panel-head"):
                Text("Legal hold", tag="h2")
                self._chip = Chip("Held", "warn", "is-plain")
            self._list = box("lf-events")
            self._free = Text(subject.free, "lf-panel-text")
            self._acts = box("lf-panel-acts")
            self._build_acts()

    def _build_acts(self) -> None:
        text = f"No rule and nobody deletes {self._subject.name} until an administrator releases the hold."
        self._dialog = FormDialog(f"Hold {self._subject.name}?", text, self._place, "Hold")
        with self._dialog.form.fields():
            reason_field("Everybody who may log in reads it; it stays in the audit log.")
        self._question = Question()
        with self._acts:
            self._hold = button("Hold", self._dialog.open)
            self._release = button("Release the hold", self._ask_release)

    @contextmanager
    def acts(self) -> Iterator[None]:
        """More buttons, behind its own."""
        with self._acts:
            yield

    def show(self, found: Sequence[LegalHold]) -> None:
        now = [(hold.id, hold.reason) for hold in found]
        if now == self._shown:
            return
        self._shown = now
        own = any(map(self._subject.is_own, found))
        self._panel.set_visibility(bool(found) or self._role.covers(Role.OPERATOR))
        self._chip.set_visibility(bool(found))
        self._free.set_visibility(not found)
        self._hold.set_visibility(not own and self._role.covers(Role.OPERATOR))
        self._release.set_visibility(own and self._role.covers(Role.ADMIN))
        self._list.clear()
        with self._list:
            for hold in found:
                self._build_hold(hold)

    def _build_hold(self, hold: LegalHold) -> None:
        name = self._subject.name
        with box("lf-event", data_hold=holds.subject(hold)):
            with box():
                Text(hold.reason, tag="b")
                with box("lf-muted"):
                    if self._subject.is_own(hold):
                        Text(f"{name[:1].upper()}{name[1:]}", tag="span")
                    else:
                        _build_robot(str(hold.robot_id))
                    Text(f", by {hold.placed_by.removeprefix('user:')}", tag="span")
            Time(hold.placed_at)

    async def _place(self, values: Values) -> None:
        why = reason(values)
        who = await self._acting.who(Role.OPERATOR)
        if who is None:
            return
        async with self._services.db.transaction() as session:
            await self._subject.place(session, actor(who), why)
        self._dialog.close()
        await self._reload()

    async def _ask_release(self) -> None:
        text = "Retention rules and administrators may delete from now on what nothing else holds."
        if await self._question.ask(f"Release the hold on {self._subject.name}?", text, "Release"):
            await self._acting.change(
                Role.ADMIN, lambda session, who: self._subject.release(session, actor(who)), lambda _: self._reload()
            )

    async def _reload(self) -> None:
        async with self._services.db.session() as session:
            found = await self._subject.find(session)
        self.show(found)
        self._changed(found)


def _build_robot(robot_id: str) -> None:
    Text("All episodes of ", tag="span")
    with link(f"/robots/{robot_id}", "lf-link-quiet"):
        Text(robot_id, tag="span")
