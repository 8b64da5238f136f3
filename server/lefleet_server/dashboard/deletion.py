"""Deleting an episode from its page, and what its address says afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass

from nicegui import ui
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.dashboard.acting import Acting, actor
from lefleet_server.dashboard.audit_view import AuditView
from lefleet_server.dashboard.dialogs import FormDialog, Values, button, reason, reason_field
from lefleet_server.dashboard.filters import Filters
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.lists import entry, panel, term
from lefleet_server.dashboard.parts import Text, Time, box, icon, link, set_attribute
from lefleet_server.deletion import service
from lefleet_server.deletion.models import DeletedEpisode, LegalHold
from lefleet_server.episodes import service as episodes
from lefleet_server.episodes.models import Episode
from lefleet_server.previews.models import EpisodePreview
from lefleet_server.services import Services
from lefleet_server.sets.models import EpisodeSet, EpisodeSetMember
from lefleet_server.units import lasting, size

_HELD = "It is under a legal hold: an administrator releases that first"
_ACTORS = {"retention": "a retention rule, at night", "console": "somebody on the server's console"}


@dataclass(frozen=True, slots=True)
class Goes:
    """What a deletion takes along."""

    episode: Episode
    previews: int
    sets: Sequence[str]


async def goes(session: AsyncSession, episode_id: str) -> Goes:
    """Raises Gone or NotFound."""
    made = select(func.count()).where(EpisodePreview.episode_id == episode_id, EpisodePreview.sha256.is_not(None))
    member = EpisodeSetMember.set_id == EpisodeSet.id, EpisodeSetMember.episode_id == episode_id
    names = select(EpisodeSet.name).join(EpisodeSetMember, member[0]).where(member[1]).order_by(EpisodeSet.name)
    episode = await episodes.get_episode(session, episode_id)
    return Goes(episode, await session.scalar(made) or 0, (await session.scalars(names)).all())


class Deleter:
    """The button, for administrators; it asks why, and says what goes before anything does."""

    def __init__(self, services: Services, request: Request, episode_id: str, back: str) -> None:
        """`back`: the page's own address, which then says what became of the episode."""
        self._services = services
        self._id = episode_id
        self._back = back
        self._acting = Acting(services, request)
        text = "It is gone for good: nobody brings it back, and its robot does not send it again."
        self._dialog = FormDialog("Delete this episode?", text, self._delete, "Delete for good", "is-danger")
        self._button: ui.element | None = None
        self._may = user_on(request).role == Role.ADMIN

    def build(self) -> None:
        """The button, where it is to stand."""
        if self._may:
            self._button = button("Delete", self._ask, "is-danger")

    def show(self, held: Sequence[LegalHold]) -> None:
        """What is held cannot be deleted: `held` is what holds it now."""
        if self._button is None:
            return
        set_attribute(self._button, "disabled", bool(held))
        set_attribute(self._button, "title", _HELD if held else "")

    async def _ask(self) -> None:
        async def look() -> Goes:
            async with self._services.db.session() as session:
                return await goes(session, self._id)

        await self._acting.look(Role.ADMIN, look, self._open)

    def _open(self, found: Goes) -> None:
        with self._dialog.form.fields():
            self._build_list(found)
            reason_field("Kept for good, and told to whoever asks for the episode.")
        self._dialog.open()

    def _build_list(self, found: Goes) -> None:
        episode = found.episode
        grace_s = self._services.settings.deleted_file_grace_s
        when = f"removed from the store {lasting(grace_s)} later" if grace_s else "removed from the store at once"
        with box("lf-provenance", tag="dl"):
            with term("Episode"):
                Text(f"{episode.robot_id}, {episode.result}, ", tag="span")
                Time(episode.started_at)
            entry("File", f"{size(episode.bytes)}, {when}")
            entry("Previews", f"{found.previews}, with it" if found.previews else "none were made")
            if episode.label_outcome or episode.label_note:
                entry("Label", ", ".join(filter(None, (episode.label_outcome, episode.label_note))))
            if found.sets:
                entry("Out of sets", ", ".join(found.sets))

    async def _delete(self, values: Values) -> None:
        why = reason(values)
        who = await self._acting.who(Role.ADMIN)
        if who is None:
            return
        grace_s = self._services.settings.deleted_file_grace_s
        async with self._services.db.transaction() as session:
            await service.delete_episode(session, self._id, actor(who), why, grace_s)
        self._dialog.close()
        ui.navigate.to(self._back)


def build_tombstone(request: Request, found: DeletedEpisode, filters: Filters) -> None:
    """The page of an episode that was deleted: when, by whom, why, and what is left of it."""
    with box("lf-head", tag="header"):
        with box("lf-head-text"):
            with link(filters.address("/episodes"), "lf-back"):
                icon("previous")
                Text("Episodes", tag="span")
            Text("This episode was deleted", tag="h1")
            Text("Its recording is gone for good. This is what is left.", "lf-sub")
        with box("lf-actions"):
            if user_on(request).role == Role.ADMIN:
                with link(AuditView(subject=f"episode:{found.episode_id}").address(), "lf-button"):
                    icon("audit")
                    Text("What was done to it", tag="span")
    with box("lf-narrow lf-tombstone"), panel(found.reason), box("lf-provenance", tag="dl"):
        entry("Deleted by", _ACTORS.get(found.deleted_by, found.deleted_by.removeprefix("user:")))
        with term("Deleted"):
            Time(found.deleted_at, "long")
        with term("Recorded by"), link(f"/robots/{found.robot_id}", "lf-link-quiet"):
            Text(found.robot_id, tag="span")
        with term("Arrived"):
            Time(found.received_at, "long")
        entry("Size", size(found.bytes))
        with term("SHA-256"):
            Text(found.sha256, "lf-mono")
        with term("Episode id"):
            Text(found.episode_id, "lf-mono")
