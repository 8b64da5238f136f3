"""Retention rules in people's words, and back."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lefleet_server.dashboard import retention_form, retention_words
from lefleet_server.problems import Invalid
from lefleet_server.retention.models import RetentionRun
from lefleet_server.retention.rules import Rule

NOON = datetime(2026, 5, 2, 12, tzinfo=UTC)
DUE = datetime(2026, 5, 3, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule("a", older_than_days=30), "Episodes go once older than 30 days."),
        (Rule("a", older_than_days=1, outcomes=frozenset({"failure"})),
         "Episodes that ended as failure go once older than 1 day."),
        (Rule("a", quota_bytes=5 * 10**11, robots=frozenset({"r-2", "r-1", "r-3"}), labelled=False),
         "Episodes of r-1, r-2 or r-3, judged by nobody, go oldest first, while all of them take more than 500 GB."),
        (Rule("a", 7.5, 10**9, frozenset({"failure", "unknown"}), labelled=True),
         "Episodes that ended as failure or unknown, judged by a person, go once older than 7.5 days and, "
         "oldest first, while all of them take more than 1.0 GB."),
    ],
)  # fmt: skip
def test_a_rule_reads_as_a_sentence(rule, expected):
    assert retention_words.sentence(rule) == expected


def run(day, ended=None, episodes=0):
    return RetentionRun(day=day, worker="w", ended_at=ended, episodes=episodes, bytes=episodes * 1000, refused="")


@pytest.mark.parametrize(
    ("last", "due", "enabled", "expected"),
    [
        (None, None, 1, "retention_hour_utc is not set"),
        (None, DUE, 0, "no rule is enabled"),
        (None, DUE, 1, "The next run is"),
        (None, NOON.replace(hour=3), 1, "as soon as a worker is there; it was due"),
        (run(date(2026, 5, 2), NOON, 4), DUE, 1, "The next run is"),
        (run(date(2026, 5, 2), None, 4), DUE, 1, "at it now: 4 episodes (4 kB) so far"),
        (run(date(2026, 5, 1), None, 4), NOON.replace(hour=13), 1, "The next run is"),
    ],
)
def test_when_rules_run_is_said(last, due, enabled, expected):
    assert expected in retention_words.state(last, due, NOON, enabled)


def test_a_night_that_deleted_nothing_says_why_and_what_to_do():
    last = run(date(2026, 5, 2), NOON)
    last.refused = "the rules would delete 3 of 6 episodes, more than retention_most_percent = 25"
    said = retention_words.last(last)
    assert "deleted nothing: the rules would delete 3 of 6" in said and "retention --apply" in said


def form(**values):
    return {name: each if isinstance(each, list) else [each] for name, each in values.items()}


@given(st.integers(0, (1 << 63) - 1))
def test_every_byte_of_a_quota_survives_the_form(quota):
    text = retention_form.gigabytes(quota)
    assert "E" not in text
    if quota <= retention_form.MOST_GB * 10**9:
        assert retention_form.parse(form(quota=text), "a").quota_bytes == quota


def test_a_form_becomes_the_rule_it_shows():
    rule = retention_form.parse(
        form(name="old", days="30", quota="0.5", outcomes=["failure"], robots="robot-2, robot-1 robot-2", labelled="no")
    )
    assert rule == Rule("old", 30, 500_000_000, frozenset({"failure"}), frozenset({"robot-1", "robot-2"}), False)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "old"}, "delete everything"),
        ({"name": "Old", "days": "3"}, "the name 'Old'"),
        ({"name": "", "days": "3"}, "the name ''"),
        ({"name": "old", "days": "-1"}, "older_than_days"),
        ({"name": "old", "days": "nan"}, "older_than_days"),
        ({"name": "old", "quota": "much"}, "'much' is no number of GB"),
        ({"name": "old", "quota": "-1"}, "not between 0 and"),
        ({"name": "old", "quota": "1e400000"}, "not between 0 and"),
        ({"name": "old", "quota": "nan"}, "no number of GB"),
        ({"name": "old", "days": "3", "robots": "Robot_1"}, "robots"),
        ({"name": "old", "days": "3", "outcomes": ["great"]}, "outcomes"),
    ],
)
def test_a_form_that_is_wrong_says_what(values, said):
    with pytest.raises(Invalid) as caught:
        retention_form.parse(form(**values))
    assert said in caught.value.detail
