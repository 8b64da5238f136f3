"""The form of a retention rule: fields for people, a rule as the API takes it."""

from decimal import Decimal

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.dashboard.dialogs import Values, check, choice, field, one, read
from lefleet_server.dashboard.filters import OUTCOMES
from lefleet_server.dashboard.parts import Text, box
from lefleet_server.fields import INT64_MAX, Word
from lefleet_server.problems import Invalid
from lefleet_server.retention.rules import Rule
from lefleet_server.retention.schemas import RuleIn
from lefleet_server.robots.models import Robot

_GB = 10**9
MOST_GB = INT64_MAX // _GB
_LABELLED = [("", "Judged or not"), ("yes", "Only what a person judged"), ("no", "Only what nobody judged")]
_SAID = {"": None, "yes": True, "no": False}
_WORDS = {None: "", True: "yes", False: "no"}


class _Name(BaseModel):
    name: Word


def build_fields(rule: Rule | None) -> None:
    """Of a new rule, or of one that is there: that one keeps its name."""
    if rule is None:
        hint = "Small letters, digits, - and _. It stands in the audit log beside what the rule deleted."
        field("Name", "name", hint=hint, maxlength="64", autocomplete="off", placeholder="old-failures")
    with box("lf-form-pair"):
        days = "" if rule is None or rule.older_than_days is None else f"{rule.older_than_days:.15g}"
        quota = "" if rule is None or rule.quota_bytes is None else gigabytes(rule.quota_bytes)
        _number("Older than, in days", "days", "Since the server received it.", days)
        _number("Keep at most, in GB", "quota", "Of all it is about; the newest stay.", quota)
    Text("Give one or both; with both, an episode goes once it is past both.", "lf-faint lf-form-hint")
    with box("lf-checks", role="group", aria_label="Only with this outcome"):
        for outcome in OUTCOMES:
            chosen = rule is not None and outcome in rule.outcomes
            check(outcome.capitalize(), "outcomes", outcome, "", checked=chosen)
        Text("None ticked: whatever the outcome.", "lf-faint lf-form-hint")
    robots = ", ".join(sorted(rule.robots)) if rule else ""
    hint = "With commas between. Empty: every robot."
    field("Only of robots", "robots", hint=hint, required=False, value=robots, autocomplete="off")
    choice("Labels", "labelled", _LABELLED, _WORDS[rule.labelled if rule else None])


def _number(label: str, name: str, hint: str, value: str) -> None:
    field(label, name, "number", hint, required=False, value=value, min="0", step="any", inputmode="decimal")


def parse(values: Values, name: str | None = None) -> Rule:
    """The rule that the form says; `name` of the one that is edited. Invalid says what is wrong with which field."""
    if name is None:
        name = one(values, "name")
        try:
            name = read(_Name, name=name).name
        except Invalid:
            raise Invalid(f"the name {name!r} has more than small letters, digits, `-` and `_`, at most 64") from None
    days, quota = one(values, "days"), one(values, "quota")
    if not days and not quota:
        raise Invalid("give an age, a size, or both: without, the rule would delete everything")
    return read(
        RuleIn,
        older_than_days=days or None,
        quota_bytes=_bytes(quota) if quota else None,
        outcomes=values.get("outcomes", []),
        robots=sorted(set(one(values, "robots").replace(",", " ").split())),
        labelled=_SAID.get(one(values, "labelled")),
    ).rule(name)


async def require_robots(session: AsyncSession, rule: Rule) -> None:
    """Invalid when the rule is about a robot that nobody knows: it would never do anything, and nobody would notice."""
    known = set(await session.scalars(select(Robot.id).where(Robot.id.in_(rule.robots))))
    for robot_id in sorted(rule.robots - known):
        raise Invalid(f"there is no robot {robot_id!r}; the fleet page lists them all")


def gigabytes(bytes_: int) -> str:
    """As the field takes it; every byte comes back."""
    text = f"{Decimal(bytes_) / _GB:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _bytes(text: str) -> int:
    try:
        found = Decimal(text)
        possible = 0 <= found <= MOST_GB
    except ArithmeticError:
        raise Invalid(f"keep at most: {text!r} is no number of GB, like 500 or 0.5") from None
    if not possible:
        raise Invalid(f"keep at most: {text} GB is not between 0 and {MOST_GB}")
    return int(found * _GB)
