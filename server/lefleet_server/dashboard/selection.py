"""Labelling many episodes from the table: the line over it, and what its keys and buttons do."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import batched

import structlog
from nicegui import ui
from nicegui.events import GenericEventArguments
from starlette.requests import Request

from lefleet_server import db
from lefleet_server.accounts.models import Role, User
from lefleet_server.auth import user_of
from lefleet_server.dashboard import queries
from lefleet_server.dashboard.dialogs import Question
from lefleet_server.dashboard.filters import OUTCOMES
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.parts import Text, box, option
from lefleet_server.episodes import labels
from lefleet_server.episodes.labels import Change, Judged, Labelled
from lefleet_server.episodes.service import EpisodeFilter
from lefleet_server.problems import NotFound
from lefleet_server.services import Services
from lefleet_server.units import counted, thousands

log = structlog.get_logger()

NOTE_MAX = 500
MAX_MATCHING = 5000
"""Labelled by one filter: each is a row of the audit log."""
SCRIPT = "selection.js"
_BUTTONS = (
    ("Success", "judge:success", "S"),
    ("Failure", "judge:failure", "F"),
    ("Unknown", "judge:unknown", "U"),
    ("No label", "judge:none", ""),
)


def _loses(count: int) -> str:
    if not count:
        return "None of them has a label yet."
    return f"{thousands(count)} of them {'has a label that is' if count == 1 else 'have labels that are'} replaced."


class Labeller:
    """What one viewer may do about labels, and the last thing they did. `changed` is called after each change."""

    def __init__(self, services: Services, request: Request, changed: Callable[[], Awaitable[None]]) -> None:
        self._services = services
        self._request = request
        self._changed = changed
        self._done: list[Labelled] = []
        self._saving = asyncio.Lock()
        self.allowed = Role(user_on(request).role).covers(Role.OPERATOR)

    @property
    def can_undo(self) -> bool:
        return bool(self._done)

    async def change(self, changes: Mapping[str, Change]) -> bool:
        """Whether it was done."""
        # In turn: of two keys about one episode the second one counts.
        async with self._saving:
            if not (user := await self._user()):
                return False
            try:
                async with self._services.db.transaction() as session:
                    done = await labels.label(session, user, changes)
            except NotFound as error:
                ui.notify(error.detail, type="negative")
                return False
            if done.before:
                self._done = [done]
            await self._changed()
            return True

    async def label_all(self, which: EpisodeFilter, outcome: str | None, question: Question) -> None:
        """Gives all that match one outcome, after a question that counts them."""
        async with self._services.db.session() as session:
            found = await queries.labels_of(session, which, MAX_MATCHING)
        wanted = {id_: was for id_, was in found.items() if was.outcome != outcome}
        word = outcome or "no label"
        if not wanted:
            ui.notify(f"All that match have {word} already." if found else "No episode matches.")
            return
        lost = sum(was.outcome is not None for was in wanted.values())
        text = f"All that match the filters and are not so already. {_loses(lost)}"
        title = (
            f"Label {counted(len(wanted))} as {word}?" if outcome else f"Take the label of {counted(len(wanted))} back?"
        )
        if not await question.ask(title, text, "Label them" if outcome else "Take back", danger=lost > 0):
            return
        async with self._saving:
            if user := await self._user():
                await self._label_in_parts(user, wanted, outcome)
                await self._changed()

    async def _label_in_parts(self, user: User, wanted: Mapping[str, Judged], outcome: str | None) -> None:
        """What a person changed since the question was asked stays."""
        self._done, count = [], 0
        try:
            for part in batched(wanted.items(), labels.MAX_EPISODES):
                only_if = dict(part)
                changes: dict[str, Change] = {id_: {"outcome": outcome} for id_ in only_if}
                async with self._services.db.transaction() as session:
                    done = await labels.label(session, user, changes, only_if)
                self._done += [done] if done.before else []
                count += len(done.before)
        except db.FAILURES as error:
            log.warning("labels of all that match were given to some", count=count, error=str(error)[:200])
            said = f"Only {thousands(count)} of {counted(len(wanted))} labelled: the database does not answer."
            ui.notify(f"{said} Try the rest again in a moment.", type="negative")
            return
        ui.notify(f"{counted(count)} {f'labelled as {outcome}' if outcome else 'without a label now'}", type="positive")

    async def undo(self) -> None:
        """Takes the last change back, once."""
        async with self._saving:
            if not self._done or not (user := await self._user()):
                return
            stay = 0
            for done in self._done:
                async with self._services.db.transaction() as session:
                    undone = await labels.undo(session, user, done)
                stay += len(done.after) - len(undone.after)
            if stay:
                count = sum(len(done.after) for done in self._done)
                ui.notify(f"{stay} of {count} stay: somebody changed them since.", type="warning")
            self._done = []
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
        label_all: Callable[[str | None], Awaitable[None]],
        more: Callable[[ui.element], None] = lambda _: None,
    ) -> None:
        """`more` builds what else stands in the line, given the element whose events it may listen to."""
        self._labeller = labeller
        self._label_all = label_all
        with box("lf-selection", tag="lf-selection", may_label="yes" if labeller.allowed else "no") as self.element:
            if labeller.allowed:
                self._build(next_unlabelled)
                more(self.element)

    def _build(self, next_unlabelled: Callable[[], Awaitable[None]]) -> None:
        self.element.on("judge", self._judge, ["detail"]).on("remark", self._remark, ["detail"])
        self.element.on("judgeall", self._judge_all, ["detail"])
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
        with box("lf-select", tag="select", aria_label="Label all that match", data_event="judgeall"):
            option("", "Label all that match")
            for text, does, _ in _BUTTONS:
                option(does.removeprefix("judge:"), f"All that match: {text.lower()}…")
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
        outcome, ids = _outcome(said["outcome"]), _ids(said)
        done = False
        try:
            done = await self._labeller.change({id_: {"outcome": outcome} for id_ in ids})
        finally:
            if not done:
                self.element.run_method("stay", *ids[:1])
            elif said.get("last"):
                # The browser waits with the next page: leaving this one earlier could lose the label.
                self.element.run_method("turned")

    async def _judge_all(self, event: GenericEventArguments) -> None:
        await self._label_all(_outcome(event.args["detail"]["word"]))

    async def _remark(self, event: GenericEventArguments) -> None:
        said = event.args["detail"]
        note = str(said["note"]).strip()[:NOTE_MAX] or None
        await self._labeller.change({id_: {"note": note} for id_ in _ids(said)})


def _outcome(said: object) -> str | None:
    return str(said) if said in OUTCOMES else None


def _ids(said: Mapping[str, Sequence[object]]) -> list[str]:
    """From the browser, so anything may be in it."""
    return [str(id_) for id_ in said["ids"]][: labels.MAX_EPISODES]
