"""Labelling many episodes from the table: the line over it, and what its keys and buttons do."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from nicegui import ui
from nicegui.events import GenericEventArguments
from starlette.requests import Request

from lefleet_server.accounts.models import Role, User
from lefleet_server.auth import user_of
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.parts import Text, box
from lefleet_server.episodes import labels
from lefleet_server.episodes.labels import Change, Labelled
from lefleet_server.problems import NotFound
from lefleet_server.services import Services

NOTE_MAX = 500
SCRIPT = "selection.js"
_BUTTONS = (
    ("Success", "judge:success", "S"),
    ("Failure", "judge:failure", "F"),
    ("Unknown", "judge:unknown", "U"),
    ("No label", "judge:none", ""),
)


class Labeller:
    """What one viewer may do about labels, and the last thing they did. `changed` is called after each change."""

    def __init__(self, services: Services, request: Request, changed: Callable[[], Awaitable[None]]) -> None:
        self._services = services
        self._request = request
        self._changed = changed
        self._done: Labelled | None = None
        self.allowed = Role(user_on(request).role).covers(Role.OPERATOR)

    @property
    def can_undo(self) -> bool:
        return self._done is not None

    async def change(self, changes: Mapping[str, Change]) -> None:
        if not (user := await self._user()):
            return
        try:
            async with self._services.db.transaction() as session:
                done = await labels.label(session, user, changes)
        except NotFound as error:
            ui.notify(error.detail, type="negative")
            return
        if done.before:
            self._done = done
        await self._changed()

    async def undo(self) -> None:
        """Takes the last change back, once."""
        if self._done is None or not (user := await self._user()):
            return
        async with self._services.db.transaction() as session:
            undone = await labels.undo(session, user, self._done)
        if left := len(self._done.after) - len(undone.after):
            ui.notify(f"{left} of {len(self._done.after)} stay: somebody changed them since.", type="warning")
        self._done = None
        await self._changed()

    async def _user(self) -> User | None:
        # The page may have been open for a day: what counts is what this person may do now.
        user = await user_of(self._services.db, self._request)
        if user is None or not Role(user.role).covers(Role.OPERATOR):
            ui.notify("You may not label any more: log in again.", type="negative")
            return None
        return user


class SelectionBar:
    """Stands over the table: how many are chosen, what to do with them, and the way to the next one to judge."""

    def __init__(
        self,
        labeller: Labeller,
        next_unlabelled: Callable[[], Awaitable[None]],
        more: Callable[[ui.element], None] = lambda _: None,
    ) -> None:
        """`more` builds what else stands in the line, given the element whose events it may listen to."""
        self._labeller = labeller
        with box("lf-selection", tag="lf-selection", may_label="yes" if labeller.allowed else "no") as self.element:
            if labeller.allowed:
                self._build(next_unlabelled)
                more(self.element)

    def _build(self, next_unlabelled: Callable[[], Awaitable[None]]) -> None:
        self.element.on("judge", self._judge, ["detail"]).on("remark", self._remark, ["detail"])
        # Its text is the browser's: it changes with each key.
        box("lf-selection-said", tag="span")
        with box("lf-segments", role="group", aria_label="Outcome of the chosen episodes"):
            for text, does, key in _BUTTONS:
                button = Text(text, "lf-segment", tag="button")
                button.props.update({"type": "button", "data-do": does})
                if key:
                    button.props["title"] = f"Key {key}"
        note = box(
            "lf-input", tag="input", type="text", placeholder="Note (L)", aria_label="Note for the chosen episodes"
        )
        note.props["maxlength"] = str(NOTE_MAX)
        self._undo = self._button("Undo", "z", self._labeller.undo)
        self._button("Next unlabelled", "n", next_unlabelled)
        self.show()

    def show(self) -> None:
        if self._labeller.allowed:
            self._undo.set_visibility(self._labeller.can_undo)

    def _button(self, text: str, key: str, press: Callable[[], Awaitable[None]]) -> ui.element:
        button = box("lf-button", tag="button", type="button", data_key=key, title=f"Key {key.upper()}")
        with button:
            Text(text, tag="span")
        return button.on("click", press)

    async def _judge(self, event: GenericEventArguments) -> None:
        said = event.args["detail"]
        outcome = said["outcome"] if said["outcome"] in {"success", "failure", "unknown"} else None
        await self._labeller.change({id_: {"outcome": outcome} for id_ in _ids(said)})

    async def _remark(self, event: GenericEventArguments) -> None:
        said = event.args["detail"]
        note = str(said["note"]).strip()[:NOTE_MAX] or None
        await self._labeller.change({id_: {"note": note} for id_ in _ids(said)})


def _ids(said: Mapping[str, Sequence[object]]) -> list[str]:
    """From the browser, so anything may be in it."""
    return [str(id_) for id_ in said["ids"]][: labels.MAX_EPISODES]
