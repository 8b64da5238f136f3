"""Questions before what cannot be undone, forms, and secrets that are shown once."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from nicegui import ui
from nicegui.events import GenericEventArguments
from pydantic import BaseModel, ValidationError

from lefleet_server.dashboard.acting import FAILURES, told
from lefleet_server.dashboard.parts import Text, box, icon, option, set_attribute
from lefleet_server.fields import Reason
from lefleet_server.problems import Invalid

type Values = dict[str, list[str]]

_VALUES = """(event) => {
    event.preventDefault();
    const values = {};
    for (const [name, value] of new FormData(event.target)) (values[name] ??= []).push(value);
    emit(values);
}"""


class Question:
    """Asks before something is done. One for a page; each `ask` has its own words."""

    def __init__(self) -> None:
        with ui.dialog() as self._dialog, box("lf-card lf-question", role="alertdialog", aria_label="Are you sure"):
            self._title = Text("", tag="h2")
            self._text = Text("", tag="p")
            with box("lf-question-foot"):
                button("Cancel", lambda: self._dialog.submit(False))
                self._yes = button("", lambda: self._dialog.submit(True), "is-danger")
                with self._yes:
                    self._word = Text("", tag="span")

    async def ask(self, title: str, text: str, yes: str, *, danger: bool = True) -> bool:
        """Whether the person pressed `yes`, which is red where there is danger."""
        self._yes.classes(replace=f"lf-button {'is-danger' if danger else 'is-primary'}")
        self._title.show(title)
        self._text.show(text)
        self._word.show(yes)
        return bool(await self._dialog)


class Secret:
    """Shows what is never to be seen again, with a button that copies it."""

    def __init__(self) -> None:
        # Persistent: a press beside it must not lose what is shown once.
        with ui.dialog().props("persistent") as self._dialog, box("lf-card lf-question", role="dialog"):
            self._title = Text("", tag="h2")
            self._text = Text("", tag="p")
            self._secret = Text("", "lf-code lf-secret", tag="code")
            self._use = Text("", tag="p")
            self._command = Text("", "lf-code lf-copy", tag="button")
            self._command.props.update({"type": "button", "title": "Press to copy"})
            with box("lf-question-foot"):
                self._copy = box("lf-button is-primary", tag="button", type="button")
                with self._copy:
                    icon("copy")
                    Text("Copy", tag="span")
                button("Done", self._close)

    def show(self, title: str, text: str, secret: str, use: str = "", command: str = "") -> None:
        """`use` says what to do with it, by which `command`: the secret is no part of that, or shells would keep it."""
        self._title.show(title)
        self._text.show(text)
        self._secret.show(secret)
        self._use.show(use)
        self._use.set_visibility(bool(use))
        self._command.show(command)
        self._command.set_visibility(bool(command))
        self._command.props["data-copy"] = command
        self._copy.props["data-copy"] = secret
        self._dialog.open()

    def _close(self) -> None:
        self._dialog.close()
        self._secret.show("")
        self._copy.props.pop("data-copy", None)
        self._copy.update()


class Form:
    """A form that tells its fields' values on Enter and on its button, and what is wrong with them.

    `submit` gets the values by name, each a list; a Problem that it raises is shown above the button.
    """

    def __init__(self, submit: Callable[[Values], Awaitable[None]], word: str, classes: str = "is-primary") -> None:
        self._submit = submit
        self._element = box("lf-form", tag="form").on("submit", self._submitted, js_handler=_VALUES)
        with self._element:
            self._fields = box("lf-form-fields")
            self._note = Text("", "lf-note")
            self._note.props["role"] = "alert"
            self._foot = box("lf-question-foot")
            with self._foot:
                pressed = box(f"lf-button {classes}", tag="button", type="submit")
                with pressed:
                    Text(word, tag="span")
        self.say("")

    @contextmanager
    def fields(self) -> Iterator[None]:
        """Fields are built inside, in place of those that are there."""
        self._fields.clear()
        with self._fields:
            yield

    def say(self, text: str) -> None:
        self._note.show(text)
        self._note.set_visibility(bool(text))

    @contextmanager
    def foot(self) -> Iterator[None]:
        """More buttons, before the one that submits."""
        with self._foot:
            yield

    async def _submitted(self, event: GenericEventArguments) -> None:
        self.say("")
        try:
            await self._submit(event.args)
        except FAILURES as error:
            self.say(told(error))


class FormDialog:
    """A form that appears when it is asked for. `open` shows it empty."""

    def __init__(
        self,
        title: str,
        text: str,
        submit: Callable[[Values], Awaitable[None]],
        word: str,
        classes: str = "is-primary",
    ) -> None:
        with ui.dialog() as self._dialog, box("lf-card lf-question", role="dialog", aria_label=title) as self._card:
            self._title = Text(title, tag="h2")
            self._text = Text(text, tag="p")
            self.form = Form(submit, word, classes)
            with self.form.foot():
                button("Cancel", self.close).style("order: -1")

    def name(self, title: str, text: str) -> None:
        """Other words over the form than those that it was made with."""
        set_attribute(self._card, "aria-label", title)
        self._title.show(title)
        self._text.show(text)

    def open(self) -> None:
        self.form.say("")
        self._dialog.open()

    def close(self) -> None:
        self._dialog.close()


def button(word: str, press: Callable[[], object], classes: str = "", **attributes: str) -> ui.element:
    """A button with a word, pressed by mouse, thumb or key."""
    made = box(f"lf-button {classes}", tag="button", type="button", **attributes).on("click", press)
    if word:
        with made:
            Text(word, tag="span")
    return made


def field(
    label: str,
    name: str,
    type_: str = "text",
    hint: str = "",
    *,
    value: str = "",
    required: bool = True,
    **attributes: str,
) -> None:
    """One line of a form, with what it begins with. Attributes are the input's own: autocomplete, maxlength, ..."""
    with box("lf-field", tag="label"):
        Text(label, tag="span")
        made = box("lf-input", tag="input", type=type_, name=name, **attributes)
        # As the attribute (^): the property would be set anew whenever the page changes, over what was typed.
        made.props["^value"] = value
        if required:
            made.props["required"] = True
        if hint:
            Text(hint, "lf-faint", tag="small")


def choice(label: str, name: str, options: list[tuple[str, str]], chosen: str) -> None:
    """A select of a form: (value, text) pairs."""
    with box("lf-field", tag="label"):
        Text(label, tag="span")
        with box("lf-select", tag="select", name=name):
            for value, text in options:
                option(value, text, chosen=value == chosen)


def check(label: str, name: str, value: str, hint: str, *, checked: bool = False) -> None:
    """A box to tick: its value is told when it is."""
    with box("lf-choice", tag="label"):
        made = box(tag="input", type="checkbox", name=name, value=value)
        if checked:
            made.props["checked"] = True
        with box():
            Text(label)
            Text(hint, "lf-faint", tag="small")


def read[M: BaseModel](model: type[M], **values: object) -> M:
    """The form's values as the API would take them; Invalid says which is wrong."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = str(wrong["loc"][0]) if wrong["loc"] else "form"
        raise Invalid(f"{name}: {wrong['msg']}") from None


class _Why(BaseModel):
    reason: Reason


def reason_field(hint: str) -> None:
    field("Why", "reason", hint=hint, maxlength="300", autocomplete="off", autofocus="")


def reason(values: Values) -> str:
    """What stands in the `reason_field`; Invalid when nobody could make anything of it."""
    text = one(values, "reason")
    if not text:
        raise Invalid("say why: a few words that another person understands in a year")
    return read(_Why, reason=text).reason


def one(values: Values, name: str) -> str:
    """A field that has one value; empty when it is missing."""
    return values.get(name, [""])[0].strip()
