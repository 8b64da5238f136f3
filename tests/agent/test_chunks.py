"""Playing chunks: asked for in time, joined without a jump, and nothing played that is not there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lefleet_agent.control.chunks import Mode, Player
from lefleet_agent.episode import Observation, PolicyInfo
from lefleet_agent.policy import ActionChunk, PolicyTraits

HZ = 50.0
TICK_NS = 20_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns

    def sleep_until(self, monotonic_ns: int) -> None:
        self.now_ns = max(self.now_ns, monotonic_ns)


class Slow:
    """A runner that takes `latency` ticks; action i of a chunk asked for at tick t is `value(t + i)` in each joint."""

    def __init__(self, clock, latency, value=float, steps=20, execute=10, history=1, coefficient=None) -> None:
        info = PolicyInfo("lab/slow", "0" * 40, "0" * 64, "slow", {})
        self.traits = PolicyTraits(info, execute, history, (), coefficient)
        self._clock, self._latency, self._value, self._steps = clock, latency, value, steps
        self._ready: tuple[int, ActionChunk] | None = None
        self.asked: list[int] = []
        self.seen: list[int] = []
        self.played = []

    def reset(self) -> None:
        self._ready = None

    def ask(self, seen, task, played) -> None:
        assert self._ready is None, "one question at a time"
        now = int(seen[-1].joints[0])
        self.asked.append(now)
        self.seen.append(len(seen))
        self.played.append(played)
        actions = np.array([[self._value(now + step)] * 2 for step in range(self._steps)], np.float32)
        latency = self._latency(len(self.asked)) if callable(self._latency) else self._latency
        self._ready = self._clock.now_ns + latency * TICK_NS, ActionChunk(actions)

    def answer(self, wait_s=0.0):
        if self._ready is None:
            return None
        if wait_s:
            self._clock.now_ns = max(self._clock.now_ns, min(self._ready[0], self._clock.now_ns + round(wait_s * 1e9)))
        if self._clock.now_ns < self._ready[0]:
            return None
        chunk, self._ready = self._ready[1], None
        return chunk

    def close(self) -> None: ...


def play(runner: Slow, clock: Clock, ticks: int, mode=Mode.OVERLAP, blend_s=0.1):
    """What each tick does: the first joint's target, None where the arm holds. Joints say which tick it is."""
    player = Player(runner, mode, HZ, blend_s, clock)
    player.begin("task")
    assert player.prime(observation(0), 10, lambda: False)
    done = []
    tick = 0
    for _ in range(ticks):
        planned = player.next(observation(tick), observation(tick).joints)
        done.append(None if planned.action is None else float(planned.action[0]))
        tick += planned.action is not None
        clock.now_ns += TICK_NS
    return done


def observation(tick: int) -> Observation:
    return Observation(np.full(2, tick, np.float32), {}, tick * TICK_NS)


@pytest.mark.parametrize("latency", [0, 1, 3, 6])
def test_a_chunk_is_asked_for_so_early_that_the_arm_never_waits(latency):
    clock = Clock()
    runner = Slow(clock, latency)
    assert play(runner, clock, 100) == pytest.approx(range(100))
    assert len(runner.asked) > 5


def test_sync_asks_when_the_chunk_has_been_played_and_the_arm_holds_meanwhile():
    clock = Clock()
    runner = Slow(clock, latency=3)
    done = play(runner, clock, 26, Mode.SYNC)
    assert done == [*range(10), None, None, None, *range(10, 20), None, None, None]
    assert runner.asked == [0, 10, 20]


def test_a_late_chunk_is_waited_for_with_the_rest_of_the_one_that_plays_then_the_arm_holds():
    clock = Clock()
    runner = Slow(clock, latency=lambda asked: 1 if asked == 1 else 25)
    done = play(runner, clock, 40)
    held = done.index(None)
    assert done[:held] == list(range(20))
    resumed = next(i for i in range(held, 40) if done[i] is not None)
    assert 19 < done[resumed] < done[resumed + 1] <= 21, "where the arm stopped it goes on"


def test_the_longest_of_the_last_computing_times_decides_when_to_ask():
    clock = Clock()
    runner = Slow(clock, latency=lambda asked: 5 if asked == 2 else 0)
    play(runner, clock, 30)
    assert runner.asked[3] - runner.asked[2] == 10 - 5 - 1


@given(
    latency=st.integers(0, 12),
    jumps=st.lists(st.floats(-50, 50), min_size=40, max_size=40),
    blend=st.integers(1, 10),
)
@settings(max_examples=60)
def test_joins_move_no_further_than_the_two_chunks_differ_over_the_blend(latency, jumps, blend):
    """Each chunk is a constant: what changes from tick to tick is the join alone."""
    clock = Clock()

    class Constant(Slow):
        def ask(self, seen, task, played) -> None:
            super().ask(seen, task, played)
            level = np.float32(jumps[len(self.asked) % len(jumps)])
            self._ready = self._ready[0], ActionChunk(np.full((20, 2), level, np.float32))

    done = [each for each in play(Constant(clock, latency), clock, 60, blend_s=blend / HZ) if each is not None]
    assert np.abs(np.diff(done)).max() <= 100 / (blend + 1) * (1 + 1e-5) * max(1, blend // 2)
    assert min(done) >= min(jumps) - 1e-3 and max(done) <= max(jumps) + 1e-3


def test_without_a_blend_the_new_chunk_takes_over_at_once():
    clock = Clock()
    runner = Slow(clock, latency=2)
    assert play(runner, clock, 30, blend_s=0) == list(range(30))


def test_temporal_ensembling_weighs_all_chunks_that_cover_the_tick_the_oldest_most():
    clock = Clock()
    runner = Slow(clock, latency=0, steps=3, execute=1, coefficient=0.5, value=lambda step: 0.0)
    levels = iter([0.0, 10.0, 20.0, 30.0, 40.0])
    real_ask = runner.ask

    def ask(seen, task, played):
        real_ask(seen, task, played)
        runner._ready = runner._ready[0], ActionChunk(np.full((3, 2), next(levels), np.float32))

    runner.ask = ask
    done = play(runner, clock, 4)
    # Primed with 0, and at each tick another: tick 0 sees 0 and 10, tick 2 sees 0, 10, 20 and 30.
    weights = np.exp(-0.5 * np.arange(4))
    assert done[0] == pytest.approx(np.average([0, 10], weights=weights[:2]))
    assert done[2] == pytest.approx(np.average([0, 10, 20, 30], weights=weights))
    assert done[3] == pytest.approx(np.average([20, 30, 40], weights=weights[:3]))


def test_a_policy_that_looks_back_gets_its_history_and_the_first_observation_stands_for_those_before():
    clock = Clock()
    runner = Slow(clock, latency=1, history=3)
    play(runner, clock, 20)
    assert set(runner.seen) == {3}


def test_a_policy_that_continues_its_chunk_is_told_how_far_it_was_played():
    clock = Clock()
    runner = Slow(clock, latency=2)
    play(runner, clock, 30, Mode.RTC)
    first, *others = runner.played
    assert first is None
    assert all(each.delay == 3 and each.steps > 0 for each in others)


def test_an_answer_to_the_last_episode_is_not_played_in_the_next():
    clock = Clock()
    runner = Slow(clock, latency=4)
    play(runner, clock, 8)
    player = Player(runner, Mode.OVERLAP, HZ, 0.1, clock)
    player.begin("next")
    assert player.prime(observation(0), 10, lambda: False)
    assert float(player.next(observation(0), observation(0).joints).action[0]) == 0.0


def test_who_gives_up_waiting_for_the_first_chunk_gets_none():
    clock = Clock()
    player = Player(Slow(clock, latency=10**6), Mode.OVERLAP, HZ, 0.1, clock)
    player.begin("task")
    assert not player.prime(observation(0), 3600, lambda: True)
