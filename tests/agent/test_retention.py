"""What leaves a full spool: every claim tried on thousands of spools."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from lefleet_agent.episode import Outcome
from lefleet_agent.retention import WhenFull, to_free, worth


@dataclass(frozen=True)
class Kept:
    number: int
    bytes: int
    outcome: Outcome
    interrupted: bool
    intervened: bool
    acknowledged: bool

    @property
    def precious(self) -> bool:
        return self.outcome is Outcome.FAILURE or self.interrupted or self.intervened


BOOLEANS = st.booleans()
EPISODES = st.lists(
    st.tuples(st.integers(1, 100), st.sampled_from(Outcome), BOOLEANS, BOOLEANS, BOOLEANS), max_size=30
).map(lambda rows: [Kept(number, *row) for number, row in enumerate(rows)])
BUDGETS = st.integers(0, 2000)
RULES = st.sampled_from(WhenFull)


def freed(episodes: list[Kept], budget: int, rule: WhenFull) -> list[Kept]:
    return [episode for episode, _ in to_free(episodes, budget, rule)]


def left(episodes: list[Kept], budget: int, rule: WhenFull) -> list[Kept]:
    gone = freed(episodes, budget, rule)
    return [episode for episode in episodes if episode not in gone]


@given(EPISODES, BUDGETS)
def test_without_the_setting_only_what_the_server_has_leaves(episodes, budget):
    assert all(episode.acknowledged for episode in freed(episodes, budget, WhenFull.STOP))


@given(EPISODES, BUDGETS, RULES)
def test_nothing_leaves_that_the_server_lacks_while_anything_is_left_that_it_has(episodes, budget, rule):
    if any(not episode.acknowledged for episode in freed(episodes, budget, rule)):
        assert not any(episode.acknowledged for episode in left(episodes, budget, rule))


@given(EPISODES, BUDGETS)
def test_no_failure_interruption_or_intervention_leaves_before_a_success_or_an_unknown(episodes, budget):
    gone = [episode for episode in freed(episodes, budget, WhenFull.FREE_BY_VALUE) if not episode.acknowledged]
    if any(episode.precious for episode in gone):
        assert all(episode.precious for episode in left(episodes, budget, WhenFull.FREE_BY_VALUE))
    unknown = [e for e in gone if e.outcome is Outcome.UNKNOWN and not e.precious]
    if unknown:
        kept = left(episodes, budget, WhenFull.FREE_BY_VALUE)
        assert not any(e.outcome is Outcome.SUCCESS and not e.precious for e in kept)


@given(EPISODES, BUDGETS, RULES)
def test_among_equals_the_oldest_leaves_first(episodes, budget, rule):
    gone = freed(episodes, budget, rule)
    assert gone == sorted(gone, key=lambda episode: (worth(episode), episode.number))
    for kind in range(4):
        numbers = [episode.number for episode in gone if worth(episode) == kind]
        kept = [episode.number for episode in left(episodes, budget, rule) if worth(episode) == kind]
        assert not numbers or not kept or max(numbers) < min(kept)


@given(EPISODES, BUDGETS, RULES)
def test_no_more_leaves_than_the_budget_asks_for(episodes, budget, rule):
    gone = freed(episodes, budget, rule)
    total = sum(episode.bytes for episode in episodes)
    assert not gone or total - sum(episode.bytes for episode in gone[:-1]) > budget


@given(EPISODES, BUDGETS)
def test_what_may_leave_leaves_until_the_rest_fits(episodes, budget):
    assert sum(episode.bytes for episode in left(episodes, budget, WhenFull.FREE_BY_VALUE)) <= budget
    kept = left(episodes, budget, WhenFull.STOP)
    assert sum(e.bytes for e in kept) <= budget or not any(e.acknowledged for e in kept)


@given(EPISODES, BUDGETS, RULES)
def test_every_reason_says_whether_the_server_has_it_and_how_much_too_much_there_was(episodes, budget, rule):
    excess = sum(episode.bytes for episode in episodes) - budget
    for episode, reason in to_free(episodes, budget, rule):
        assert reason.startswith("the server has it;" if episode.acknowledged else "the server does not have it;")
        assert f"{excess} bytes over its budget of {budget}" in reason
        excess -= episode.bytes
