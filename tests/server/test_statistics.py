"""Intervals of success rates: known values, and what must hold for any counts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lefleet_server.comparison import statistics
from lefleet_server.comparison.statistics import Interval, Tally, Verdict, compare, newcombe, wilson, z_of

Z = z_of()
tallies = st.integers(0, 5000).flatmap(lambda n: st.builds(Tally, st.integers(0, n), st.just(n)))
judged = st.integers(1, 5000).flatmap(lambda n: st.builds(Tally, st.integers(0, n), st.just(n)))


# Newcombe 1998, Statistics in Medicine 17: 857-872 (table I, method 3) and 873-890 (table II, method 10).
@pytest.mark.parametrize(
    ("tally", "low", "high"),
    [((81, 263), 0.2553, 0.3662), ((15, 148), 0.0624, 0.1605), ((0, 20), 0.0, 0.1611), ((1, 29), 0.0061, 0.1718)],
)
def test_wilson_is_the_published_one(tally, low, high):
    found = wilson(Tally(*tally), Z)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@pytest.mark.parametrize(
    ("of", "baseline", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
        ((0, 10), (0, 10), -0.2775, 0.2775),
    ],
)
def test_newcombe_is_the_published_one(of, baseline, low, high):
    found = newcombe(Tally(*of), Tally(*baseline), Z)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(tallies)
def test_a_rate_lies_in_its_interval_and_the_interval_in_0_to_1(tally):
    found = wilson(tally, Z)
    assert 0 <= found.low <= (tally.rate if tally.rate is not None else 0.5) <= found.high <= 1


@given(judged)
def test_failures_are_successes_seen_from_the_other_side(tally):
    other = wilson(Tally(tally.judged - tally.successes, tally.judged), Z)
    found = wilson(tally, Z)
    assert (found.low, found.high) == (pytest.approx(1 - other.high), pytest.approx(1 - other.low))


@given(judged, st.integers(2, 20))
def test_more_of_the_same_narrows_the_interval(tally, times):
    few, many = wilson(tally, Z), wilson(Tally(tally.successes * times, tally.judged * times), Z)
    assert many.high - many.low < few.high - few.low


@given(tallies, tallies)
def test_a_difference_seen_from_the_other_side_is_its_opposite(a, b):
    there, back = newcombe(a, b, Z), newcombe(b, a, Z)
    assert (there.low, there.high) == (pytest.approx(-back.high), pytest.approx(-back.low))
    opposite = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    assert compare(b, a).verdict is opposite.get(compare(a, b).verdict, compare(a, b).verdict)


@given(judged, judged)
def test_the_difference_of_the_rates_lies_in_its_interval(a, b):
    found = newcombe(a, b, Z)
    assert -1 <= found.low <= a.rate - b.rate + 1e-12 and a.rate - b.rate - 1e-12 <= found.high <= 1


@given(tallies, tallies, st.integers(1, 50))
def test_more_comparisons_never_make_a_verdict_bolder(a, b, comparisons):
    if compare(a, b).verdict is Verdict.UNKNOWN:
        assert compare(a, b, comparisons).verdict is Verdict.UNKNOWN
    one, more = compare(a, b).interval, compare(a, b, comparisons).interval
    assert more.low <= one.low and one.high <= more.high


@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_five_episodes_never_say_same(n, m, data):
    a, b = Tally(data.draw(st.integers(0, n)), n), Tally(data.draw(st.integers(0, m)), m)
    assert compare(a, b).verdict is not Verdict.SAME


@pytest.mark.parametrize(
    ("of", "baseline", "verdict", "begins"),
    [
        ((3, 5), (4, 5), Verdict.UNKNOWN, "cannot tell yet: 3 of 5 and 4 of 5; between "),
        ((0, 0), (4, 5), Verdict.UNKNOWN, "cannot tell yet: 0 of 0 and 4 of 5; nothing to compare"),
        ((95, 100), (60, 100), Verdict.BETTER, "better by 24 to 45 points: 95 of 100 and 60 of 100"),
        ((60, 100), (95, 100), Verdict.WORSE, "worse by 24 to 45 points: 60 of 100 and 95 of 100"),
        ((4750, 5000), (4760, 5000), Verdict.SAME, "the same within 5 points: "),
    ],
)
def test_the_words_are_honest(of, baseline, verdict, begins):
    found = compare(Tally(*of), Tally(*baseline))
    assert found.verdict is verdict
    assert found.words.startswith(begins), found.words


@pytest.mark.parametrize(("p", "q", "n", "m"), [(0.9, 0.8, 12, 30), (0.5, 0.5, 8, 8), (0.97, 0.9, 40, 15)])
def test_the_interval_holds_the_truth_as_often_as_promised(p, q, n, m):
    rng = random.Random(7)  # noqa: S311

    def draw(rate: float, count: int) -> Tally:
        return Tally(sum(rng.random() < rate for _ in range(count)), count)

    found = [newcombe(draw(p, n), draw(q, m), Z) for _ in range(4000)]
    held = sum(each.low <= p - q <= each.high for each in found) / len(found)
    assert held > 0.92  # Newcombe promises 0.95 on average; at eight episodes each it is a little less


def test_the_planned_number_of_episodes_finds_the_difference_in_four_of_five_trials():
    rng = random.Random(11)  # noqa: S311
    p, q = 0.75, 0.65
    n = statistics.episodes_needed(Tally(750, 1000), Tally(650, 1000))
    found = 0
    for _ in range(600):
        of = Tally(sum(rng.random() < p for _ in range(n)), n)
        baseline = Tally(sum(rng.random() < q for _ in range(n)), n)
        found += compare(of, baseline).verdict is Verdict.BETTER
    assert 0.74 < found / 600 < 0.87


def test_counts_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="6 successes of 5"):
        Tally(6, 5)
    assert wilson(Tally(0, 0), Z) == Interval(0.0, 1.0)
