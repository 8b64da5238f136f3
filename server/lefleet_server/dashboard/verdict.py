"""How the episode that runs went, said on the fleet page: the robot ends it so. Viewers see, and cannot press."""

from collections.abc import Awaitable, Callable

from nicegui import ui
from starlette.requests import Request

from lefleet_server.accounts.models import Role, User
from lefleet_server.dashboard.dialogs import Question
from lefleet_server.dashboard.guard import operator_on
from lefleet_server.dashboard.parts import Chip, Text, Time, box
from lefleet_server.problems import Conflict, NotFound
from lefleet_server.robots import Word, verdicts
from lefleet_server.robots.models import RobotVerdict
from lefleet_server.services import Services

_DENIED = "Ending an episode needs the role operator"
_BUTTONS = {
    Word.SUCCESS: "End the episode: it succeeded",
    Word.FAILURE: "End the episode: it failed",
    Word.UNKNOWN: "End the episode: nobody can say how it went",
    Word.REDO: "End the episode: it does not count and is to be done again",
}

_REDO = "The running one ends now. It is kept as interrupted: it does not count, and training leaves it out."


class Judge:
    """What one viewer may say about running episodes. `changed` is called after each word."""

    def __init__(
        self, services: Services, request: Request, user: User, changed: Callable[[], Awaitable[None]]
    ) -> None:
        self._services = services
        self._request = request
        self._changed = changed
        self._question = Question()
        self.allowed = Role(user.role).covers(Role.OPERATOR)

    async def say(self, robot_id: str, episode_id: str, word: Word) -> None:
        if word is Word.REDO and not await self._question.ask(f"Do the episode of {robot_id} again?", _REDO, "Redo"):
            return
        if actor := await operator_on(self._services.db, self._request):
            try:
                async with self._services.db.transaction() as session:
                    await verdicts.say(session, actor, robot_id, episode_id, word)
            except (NotFound, Conflict) as error:
                ui.notify(error.detail, type="negative")
        else:
            ui.notify(f"{_DENIED}: log in again.", type="negative")
        await self._changed()


class VerdictRow:
    """One robot's row: four buttons while an episode runs, or what was said until it has ended."""

    def __init__(self, judge: Judge, robot_id: str) -> None:
        self._judge = judge
        self._id = robot_id
        self._episode_id: str | None = None
        with box("lf-verdict") as self._row:
            Text("End episode", "lf-verdict-name", tag="span")
            with box("lf-segments", role="group", aria_label=f"How the episode of {robot_id} went") as self._buttons:
                for word, title in _BUTTONS.items():
                    self._button(word, title)
            with box("lf-stop-said") as self._said:
                self._chip = Chip("", "warn")
                with box("lf-stop-who lf-cut"):
                    self._by = Text("", tag="span")
                    self._at = Time(None, "ago")
        self.show(None, None)

    def show(self, episode_id: str | None, said: RobotVerdict | None) -> None:
        self._episode_id = episode_id
        self._row.set_visibility(episode_id is not None)
        self._buttons.set_visibility(said is None)
        self._said.set_visibility(said is not None)
        if said:
            self._chip.set(f"Ending: {said.word}", "warn")
            self._by.show(f"by {said.said_by.removeprefix('user:')}, ")
            self._at.set(said.said_at)

    def _button(self, word: Word, title: str) -> None:
        button = Text(word.value.capitalize(), "lf-segment", tag="button")
        button.props.update({"type": "button", "title": title, "aria-label": f"{title} ({self._id})"})
        if self._judge.allowed:
            button.on("click", lambda: self._say(word))
        else:
            button.props.update({"disabled": True, "title": _DENIED})

    async def _say(self, word: Word) -> None:
        if self._episode_id:
            await self._judge.say(self._id, self._episode_id, word)
