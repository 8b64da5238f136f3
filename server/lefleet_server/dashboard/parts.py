"""Small pieces every page is made of. Each wraps one element; how they look is in static/lefleet.css."""

from datetime import datetime
from typing import Any, Literal, Self

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from lefleet_server.dashboard.icons import ICONS

type Tone = Literal["", "good", "bad", "warn", "live", "off"]

OUTCOME_TONES: dict[str, Tone] = {"success": "good", "failure": "bad", "unknown": "off"}
STATE_TONES: dict[str, Tone] = {
    "running": "live",
    "resetting": "warn",
    "starting": "warn",
    "drained": "warn",
    "parking": "warn",
    "estopped": "bad",
    "spool_full": "bad",
    "fault": "bad",
    "error": "bad",
    "stopped": "off",
    "offline": "off",
    "retired": "off",
}
STOP_TONES: dict[str, Tone] = {"free": "off", "stopping": "warn", "stopped": "bad", "releasing": "warn"}


class Text(TextElement):
    """Text in any HTML element; setting the same text again sends nothing."""

    def __init__(self, text: str = "", classes: str = "", tag: str = "div") -> None:
        super().__init__(tag=tag, text=text)
        self.classes(classes)

    def show(self, text: str) -> None:
        if text != self.text:
            self.text = text


def box(classes: str = "", tag: str = "div", **attributes: str) -> ui.element:
    """An HTML element to be filled with `with`; attributes go in as they are, `_` standing for `-`."""
    element = ui.element(tag).classes(classes)
    for name, value in attributes.items():
        element.props.set_optional(name.rstrip("_").replace("_", "-"), value)
    return element


def link(target: str, classes: str = "", **attributes: str) -> ui.element:
    return box(classes, tag="a", href=target, **attributes)


def option(value: str, text: str, *, chosen: bool = False) -> Text:
    """One of a select's."""
    made = Text(text, tag="option")
    made.props["value"] = value
    if chosen:
        made.props["selected"] = True
    return made


def icon(name: str) -> ui.html:
    svg = f'<svg viewBox="0 0 24 24" aria-hidden="true">{ICONS[name]}</svg>'
    return ui.html(svg, sanitize=False, tag="span").classes("lf-icon")


class Chip(Text):
    """A state or an outcome as a word with a colour."""

    def __init__(self, text: str, tone: Tone, classes: str = "") -> None:
        super().__init__(text, f"lf-chip {classes}", tag="span")
        set_attribute(self, "data-tone", tone)

    def set(self, text: str, tone: Tone) -> None:
        self.show(text)
        set_attribute(self, "data-tone", tone)


class Meter(Element):
    """A thin bar, 0 to 1, that warns when it is nearly full, unless `set_calm` sets it."""

    def __init__(self, label: str) -> None:
        super().__init__("span")
        self.classes("lf-meter")
        self.props.update({"role": "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100"})
        with self:
            self._bar = box(tag="i")

    def set_calm(self, part: float) -> None:
        """For a share, of which much is nothing bad."""
        self.set(part)
        self.props["data-tone"] = ""

    def set(self, part: float | None) -> None:
        percent = round(100 * min(max(part or 0.0, 0.0), 1.0), 1)
        if self.props.get("aria-valuenow") == str(percent):
            return
        self.props["aria-valuenow"] = str(percent)
        self.props["data-tone"] = "bad" if percent >= 95 else "warn" if percent >= 80 else ""
        self._bar.style(f"width: {percent}%")


class Time(Element):
    """An instant, written by the browser in the viewer's zone; `ago` keeps itself up to date."""

    def __init__(self, at: datetime | None, look: Literal["ago", "short", "long"] = "short") -> None:
        super().__init__("lf-time")
        self.props["look"] = look
        self.set(at)

    def set(self, at: datetime | None) -> Self:
        set_attribute(self, "datetime", at.isoformat() if at else "")
        return self


def set_attribute(element: Element, name: str, value: Any) -> None:
    """Sets an attribute and sends it only when it changed."""
    if element.props.get(name) != value:
        element.props[name] = value


def empty(icon_name: str, title: str, text: str) -> ui.element:
    """What stands where there is nothing to show: it says why, and what to do."""
    with box("lf-empty") as element:
        icon(icon_name)
        Text(title, tag="h2")
        Text(text, tag="p")
    return element


def outcome_chip(outcome: str) -> Chip:
    chip = Chip("", "")
    set_outcome(chip, outcome)
    return chip


def set_outcome(chip: Chip, outcome: str) -> None:
    chip.set(outcome.capitalize(), OUTCOME_TONES.get(outcome, "off"))
