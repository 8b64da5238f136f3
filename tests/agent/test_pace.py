"""How long the courier waits and how much it sends at once, on a clock of the tests' own."""

import random
from datetime import UTC
from email.utils import format_datetime, formatdate
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lefleet_agent.courier.gate import Gate
from lefleet_agent.courier.pace import (
    PIECE_MIN_BYTES,
    PIECE_S,
    RETRY_AFTER_MAX_S,
    Pieces,
    Rate,
    backoff_s,
    http_date_s,
    retry_after_s,
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.ends_at_s = float("inf")

    def __call__(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> bool:
        self.now_s += seconds
        return self.now_s >= self.ends_at_s


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0.05, 3600))
def test_a_pause_is_never_longer_than_the_setting_and_never_none(failures, chance, longest):
    pause = backoff_s(failures, 0.5, longest, lambda: chance)
    assert 0.05 <= pause <= max(longest, 0.05)


def test_pauses_spread_over_the_whole_range_so_that_a_fleet_does_not_come_back_together():
    chance = random.Random(1).random  # noqa: S311 - no secret
    pauses = sorted(backoff_s(20, 0.5, 30.0, chance) for _ in range(1000))
    assert pauses[100] < 6 and pauses[500] == pytest.approx(15, abs=3) and pauses[900] > 24


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("999999999999999999999", RETRY_AFTER_MAX_S),
        ("-5", None),
        ("soon", None),
        ("", None),
        (formatdate(5000 + 90, usegmt=True), 90.0),
        (formatdate(4000, usegmt=True), 0.0),
        (formatdate(4_000_000_000, usegmt=True), RETRY_AFTER_MAX_S),
        ("Fri, 99 Foo 99999 99:99:99 GMT", None),
    ],
)
@pytest.mark.parametrize("own_clock", [0.0, 5000.0, 4e9])
def test_what_the_server_asks_for_is_kept_to_within_limits_whatever_our_clock_says(value, expected, own_clock):
    assert retry_after_s(value, formatdate(5000, usegmt=True), own_clock) == expected


@given(st.text(max_size=40), st.text(max_size=40), st.floats(0, 1e11))
def test_no_header_makes_a_robot_wait_longer_than_the_limit(value, date, now):
    pause = retry_after_s(value, date, now)
    assert pause is None or 0 <= pause <= RETRY_AFTER_MAX_S


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_date_without_that_of_the_answer_is_held_against_our_clock_and_still_limited(until):
    pause = retry_after_s(format_datetime(until, usegmt=True), None, 0.0)
    assert pause is not None and 0 <= pause <= RETRY_AFTER_MAX_S
    assert http_date_s("") is http_date_s(None) is None


@given(st.floats(1000, 1e8), st.lists(st.tuples(st.integers(1, 1 << 22), st.floats(0, 30)), max_size=30))
def test_no_more_goes_out_than_the_rate_allows_beyond_one_piece(rate, sends):
    """Over every stretch of time that begins with a piece."""
    clock = Clock()
    limit = Rate(rate, clock)
    sent: list[tuple[float, int]] = []
    for size, idle in sends:
        clock.now_s += idle
        clock.now_s += limit.delay_s(size)
        sent.append((clock.now_s, size))
    for first in range(len(sent)):
        for last in range(first + 1, len(sent)):
            between = sum(size for _, size in sent[first:last])
            assert between <= rate * (sent[last][0] - sent[first][0]) * (1 + 1e-6) + 1


def test_time_that_passed_without_uploads_is_not_made_up_for():
    clock = Clock()
    limit = Rate(1000, clock)
    clock.now_s += 3600
    assert limit.delay_s(5000) == 0
    assert limit.delay_s(5000) == 5


def test_pieces_grow_to_what_a_good_link_carries_and_shrink_to_what_a_bad_one_does():
    pieces = Pieces(4 << 20)
    for _ in range(10):
        size = pieces.next(1 << 30)
        pieces.took(size, size / 10e6)
    assert pieces.next(1 << 30) == 4 << 20
    for _ in range(10):
        size = pieces.next(1 << 30)
        pieces.took(size, size / 50e3)
    assert pieces.next(1 << 30) == pytest.approx(50e3 * PIECE_S)
    for _ in range(10):
        pieces.failed()
    assert pieces.next(1 << 30) == PIECE_MIN_BYTES
    assert pieces.next(10) == 10


def test_under_a_limit_a_piece_is_a_second_of_it_so_that_pauses_lie_between_requests():
    assert Pieces(4 << 20, 200_000).next(1 << 30) == 200_000
    assert Pieces(4 << 20, 1000).next(1 << 30) == PIECE_MIN_BYTES


def test_a_gate_waits_for_the_rate_and_shows_life_all_the_time():
    clock, lives = Clock(), []
    gate = Gate(Rate(1000, clock), lambda: False, clock.pause, lambda: lives.append(clock.now_s))
    assert gate.wait(65_536) and clock.now_s == 1000
    assert gate.wait(65_536) and clock.now_s == pytest.approx(1065.536)
    assert max(late - early for early, late in pairwise(lives)) <= 10


def test_a_gate_is_shut_while_the_robot_needs_the_network():
    clock = Clock()
    gate = Gate(None, lambda: clock.now_s < 1100, clock.pause, lambda: None)
    assert gate.wait(1) and clock.now_s >= 1100


@pytest.mark.parametrize("busy", [True, False])
def test_a_gate_lets_go_when_the_courier_ends(busy):
    clock = Clock()
    clock.ends_at_s = 1002
    gate = Gate(Rate(10, clock), lambda: busy, clock.pause, lambda: None)
    assert not (gate.wait(1000) and gate.wait(1000))
