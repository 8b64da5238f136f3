"""Pure parts of the house's pages: flags, the audit log and browsers in people's words, and views in addresses."""

from datetime import UTC, datetime

import pytest

from lefleet_server import units
from lefleet_server.analysis import FlagName
from lefleet_server.dashboard import acting, agents, audit_words, quality
from lefleet_server.dashboard.audit_view import AuditView
from lefleet_server.dashboard.filters import Filters
from lefleet_server.problems import Conflict


def flag(name, value, threshold, unit, where=""):
    return {"name": name, "value": value, "threshold": threshold, "unit": unit, "where": where}


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.091, "share of frames", "9.1 %"),
        (1.0, "share of frames", "100.0 %"),
        (1.2345, "s", "1.23 s"),
        (12.345, "of 255", "12.3 of 255"),
        (50_000.0, "units/s³", "50\u2009000 units/s³"),
    ],
)
def test_a_measured_value_has_the_digits_that_say_something(value, unit, expected):
    assert quality.measured(value, unit) == expected


def test_flags_of_one_kind_are_one_badge_with_a_line_for_each():
    found = quality.read(
        [
            flag("jerk", 60_000.0, 50_000.0, "units/s³", "elbow"),
            flag("jerk", 70_000.0, 50_000.0, "units/s³", "wrist"),
            flag("camera_dark", 3.0, 16.0, "of 255", "front"),
        ]
    )
    (jerk, tips), (dark, tip) = quality.grouped(found)
    assert (jerk, dark) == ("2 jerk", "Dark camera")
    assert tips.splitlines() == [
        "Jerk of elbow: 60\u2009000 units/s³, at most 50\u2009000 units/s³",
        "Jerk of wrist: 70\u2009000 units/s³, at most 50\u2009000 units/s³",
    ]
    assert tip == "Dark camera of front: 3.00 of 255, at least 16.0 of 255"


def test_a_flag_of_a_later_version_is_shown_by_its_own_name():
    (found,) = quality.read([flag("cable_in_view", 2.0, 1.0, "cables")])
    assert (found.name, found.measured) == ("Cable in view", "2.00 cables")


def test_every_flag_has_words_and_a_place_in_the_filter():
    assert set(quality.NAMES) == set(quality.MEANINGS) == set(FlagName)
    assert set(FlagName) < set(quality.QUALITIES)
    assert Filters.parse({"quality": "jerk"}).address("/episodes") == "/episodes?quality=jerk"
    assert Filters.parse({"quality": "lovely"}) == Filters()


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ({"old": {"role": "viewer", "disabled": False}, "new": {"role": "admin", "disabled": False}},
         [("Role", "viewer → admin")]),
        ({"old": {"note": None}, "new": {"note": "a\nb"}}, [("Note", "— → a\nb")]),
        ({"old": 1, "new": 2, "why": "because"}, [("Changed", "1 → 2"), ("Why", "because")]),
        ({"scopes": ["read", "admin"], "password": True}, [("Scopes", "read, admin"), ("Password", "yes")]),
        ({"counts": {"wrong-size": 2}}, [("Counts", "Wrong-size 2")]),
        ({"old": "x"}, [("Old", "x")]),
        ({}, []),
    ],
)  # fmt: skip
def test_an_entrys_detail_is_readable(detail, expected):
    assert list(audit_words.changes(detail)) == expected


@pytest.mark.parametrize(
    ("subject", "place"),
    [
        ("user:ada", "/people/ada"),
        ("episode:0a", "/episodes/0a"),
        ("robot:robot-1", "/episodes?robot=robot-1"),
        ("user:a/../b", "/people/a%2F..%2Fb"),
        ("store", "/storage"),
        ("jobs", "/jobs"),
        ("retention-rule:old", "/storage"),
        ("token:7", None),
        ("something:new", None),
    ],
)
def test_a_subject_leads_to_its_page(subject, place):
    assert audit_words.place_of(subject) == place


def test_an_action_reads_as_a_sentence_also_one_that_nobody_foresaw():
    assert audit_words.phrase("user.password-changed") == "User password changed"
    assert audit_words.phrase("set.episode_added") == "Set episode added"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("2026-12-02T19:29:42.976804+00:00", True), ("2026-12-02T19:29:42", False), ("a note of twenty letters", False)],
)
def test_an_instant_is_told_from_other_text(text, is_one):
    assert (audit_words.instant_of(text) is not None) == is_one


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(86400, "1 day"), (172800, "2 days"), (900, "15 minutes"), (3600, "1 hour"), (45, "45 seconds")],
)
def test_a_chosen_time_is_told_in_its_largest_unit(seconds, expected):
    assert units.lasting(seconds) == expected


def test_what_ended_a_change_is_told_in_a_sentence_with_the_remedy():
    assert acting.told(Conflict("ada is the last administrator; make another one first")) == (
        "Ada is the last administrator; make another one first."
    )
    assert "try again" in acting.told(OSError("connection refused by 10.0.0.7"))
    assert "10.0.0.7" not in acting.told(OSError("connection refused by 10.0.0.7"))


def test_an_audit_view_survives_its_address():
    view = AuditView(
        actor="user:ada", action="user", subject="robot:robot-1", since=datetime(2026, 5, 1, tzinfo=UTC), before=77
    )
    query = dict(pair.split("=") for pair in view.address().partition("?")[2].replace("%3A", ":").split("&"))
    assert AuditView.parse(query) == view
    assert AuditView.parse({"before": "9" * 30, "last": "9y", "since": "x", "actor": "a\x00b"}) == AuditView(actor="ab")


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0.0.0 Safari/537.36", "Chrome on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/120.0 Safari/537.36 Edg/120.0", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Version/17.0 Mobile Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (Android 14; Mobile; rv:120.0) Gecko/120.0 Firefox/120.0", "Firefox on Android"),
        ("python-httpx/0.28.1", "python-httpx"),
        ("", "Unknown program"),
    ],
)
def test_a_browser_is_named_as_people_name_it(agent, name):
    assert agents.name_of(agent) == name
