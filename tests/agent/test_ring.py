import multiprocessing
import select

from lefleet_agent.recording.ring import Kind, Ring


def put(ring: Ring, number: int) -> bool:
    slot = ring.claim()
    if slot is None:
        return False
    slot.header["kind"] = Kind.TICK
    slot.header["dropped_total"] = number
    slot.payload[:] = number % 251
    ring.commit()
    return True


def test_slots_arrive_whole_and_in_order_over_many_laps(ring):
    for number in range(100):
        assert put(ring, number)
        slot = ring.take()
        assert slot.kind is Kind.TICK
        assert int(slot.header["dropped_total"]) == number
        assert (slot.payload == number % 251).all()
        ring.release()
    assert ring.take() is None


def test_a_full_ring_refuses_until_a_slot_is_given_back(ring):
    assert [put(ring, number) for number in range(9)] == [True] * 8 + [False]
    assert int(ring.take().header["dropped_total"]) == 0
    assert not put(ring, 9), "taken is not yet given back"
    ring.release()
    assert put(ring, 9)


def test_a_claimed_slot_that_was_not_committed_is_claimed_again(ring):
    first = ring.claim()
    assert ring.claim() is first
    ring.commit()
    assert ring.claim() is not first


def read_slots(ring: Ring, count: int, answers) -> None:
    """A reader in another process: tells which slots were not what was written."""
    wrong = []
    for number in range(count):
        while (slot := ring.take()) is None:
            select.select([ring.filled], [], [])
        if int(slot.header["dropped_total"]) != number or not (slot.payload == number % 251).all():
            wrong.append(number)
        ring.release()
    answers.send(wrong)


def test_another_process_reads_what_was_written(robot):
    """Thousands of slots through a small ring: a torn or reordered one would show."""
    ring = Ring.create(robot, slots=4)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=read_slots, args=(ring, 2000, theirs))
    process.start()
    for number in range(2000):
        while not put(ring, number):
            select.select([ring.free], [], [])
    assert ours.recv() == []
    process.join()
    ring.close()
