"""What a person thinks of an episode. Saved at once, through the service that writes the audit log."""

import asyncio
from collections.abc import Callable

from nicegui import ui
from nicegui.events import GenericEventArguments
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.auth import user_of
from lefleet_server.dashboard.filters import OUTCOMES
from lefleet_server.dashboard.parts import Text, Time, box, set_attribute
from lefleet_server.episodes import labels, service
from lefleet_server.episodes.labels import Judgement
from lefleet_server.episodes.models import Episode
from lefleet_server.services import Services

_NOTE_MAX = 500
_VALUE = "(event) => emit(event.target.value)"


class LabelPanel:
    """Three outcomes and a note; viewers see them without being able to press."""

    def __init__(
        self,
        services: Services,
        request: Request,
        episode: Episode,
        judgement: Judgement | None,
        may_label: bool,
        changed: Callable[[Episode], None],
    ) -> None:
        self._services = services
        self._request = request
        self._episode = episode
        self._changed = changed
        self._saving = asyncio.Lock()
        with box("lf-card lf-panel", tag="section"):
            Text("Outcome", tag="h2")
            with box("lf-label"):
                self._build_buttons(may_label)
                self._build_note(may_label)
                with box("lf-label-foot"):
                    self._said = box(tag="span")
                    self._undo = box("lf-button", tag="button", type="button").on("click", self._take_back)
                    with self._undo:
                        Text("Undo", tag="span")
        self._may_label = may_label
        self._show(judgement)

    def _build_buttons(self, may_label: bool) -> None:
        with box("lf-segments", role="group", aria_label="Outcome"):
            self._buttons = {name: self._button(name, place, may_label) for place, name in enumerate(OUTCOMES, 1)}

    def _button(self, outcome: str, place: int, may_label: bool) -> Text:
        button = Text(outcome.capitalize(), "lf-segment", tag="button")
        button.props.update({"type": "button", "data-outcome": outcome, "data-key": f"{place} {outcome[0]}"})
        button.props.update({"title": f"Key {place} or {outcome[0].upper()}"})
        if may_label:
            button.on("click", lambda: self._save(outcome=outcome))
        else:
            button.props.update({"disabled": True, "title": "Labelling needs the role operator"})
        return button

    def _build_note(self, may_label: bool) -> None:
        note = box("lf-input", tag="input", type="text", placeholder="Add a note", aria_label="Note")
        # As the attribute (^): the property would be set anew whenever the page changes, over what was typed.
        note.props.update({"^value": self._episode.label_note or "", "maxlength": str(_NOTE_MAX)})
        if may_label:
            note.on("change", self._note_changed, js_handler=_VALUE)
        else:
            note.props["disabled"] = True

    async def _note_changed(self, event: GenericEventArguments) -> None:
        await self._save(note=event.args.strip()[:_NOTE_MAX] or None)

    async def _take_back(self) -> None:
        await self._save(outcome=None)

    async def _save(self, **changed: str | None) -> None:
        """Saves `outcome` or `note`; the other one stays as it is."""
        # In turn: leaving the note by a press on an outcome is two changes at once, and neither may undo the other.
        async with self._saving:
            await self._save_now(changed)

    async def _save_now(self, changed: dict[str, str | None]) -> None:
        # The page may have been open for a day: what counts is what this person may do now.
        user = await user_of(self._services.db, self._request)
        if user is None or not Role(user.role).covers(Role.OPERATOR):
            ui.notify("You may not label any more: log in again.", type="negative")
            return
        async with self._services.db.transaction() as session:
            found = await service.get_episode(session, self._episode.id)
            label = {"outcome": found.label_outcome, "note": found.label_note} | changed
            self._episode = await service.set_label(session, user, found.id, **label)
            judgement = await labels.last(session, self._episode.id)
        self._show(judgement)
        self._changed(self._episode)

    def _show(self, judgement: Judgement | None) -> None:
        for name, button in self._buttons.items():
            set_attribute(button, "aria-pressed", "true" if name == self._episode.result else "false")
        labelled = self._episode.label_outcome is not None
        self._undo.set_visibility(labelled and self._may_label)
        self._said.clear()
        with self._said:
            if labelled and judgement is not None:
                Text(f"Labelled by {judgement.by}, ", tag="span")
                Time(judgement.at, "ago")
            else:
                Text(f"Recorded as {self._episode.outcome} by the robot", tag="span")
