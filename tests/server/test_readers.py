"""The processes that read strangers' files: the same answers either way, a child for each file, and nothing is left."""

import asyncio
import errno
import json
import os
import random
import signal
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from lefleet_server.episodes.bounded import EndedEarlyError, FileFaultError, Fresh, LateError, TooSlowError
from lefleet_server.episodes.limits import is_machines_fault
from lefleet_server.episodes.readers import Readers
from lefleet_server.episodes.validation import READER, examine
from lefleet_server.problems import Invalid, Unavailable


@pytest.fixture
async def readers():
    made = Readers(READER, at_once=4)
    yield made
    await made.close()


@pytest.fixture(params=["fresh", "forked"])
def reader(request):
    return Fresh(READER) if request.param == "fresh" else request.getfixturevalue("readers")


@pytest.fixture
def stuck(tmp_path):
    """A file whose reading never ends: nobody writes into the pipe."""
    path = tmp_path / "stuck"
    os.mkfifo(path)
    return path


def forking(readers: Readers) -> psutil.Process:
    assert readers._parent is not None
    return psutil.Process(readers._parent.process.pid)


async def child_of(readers: Readers) -> psutil.Process:
    while readers._parent is None or not forking(readers).children():  # noqa: ASYNC110 - another process has no event
        await asyncio.sleep(0.01)
    return forking(readers).children()[0]


@asynccontextmanager
async def reading(readers: Readers, path: Path, work=None):
    """While a child is at the file."""
    task = asyncio.create_task(work or readers.ask(path, timeout_s=60))
    try:
        yield await child_of(readers), task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, FileFaultError, EndedEarlyError, Invalid, Unavailable):
            await task


async def test_a_good_file_and_a_wrong_one_are_told_apart(reader, episode_file, tmp_path):
    path = episode_file()
    assert json.loads(await reader.ask(path, timeout_s=60))["attributes"]["episode_id"] == path.stem
    assert json.loads(await reader.ask("--signals", path, timeout_s=60))["frames"] == 12
    wrong = tmp_path / "wrong"
    for content in (b"", b"no HDF5", path.read_bytes()[:-3000]):
        wrong.write_bytes(content)
        assert json.loads(await reader.ask(wrong, timeout_s=60))["error"]["field"]


async def test_an_answer_has_a_limit(reader, episode_file):
    with pytest.raises(FileFaultError, match="holds more than"):
        await reader.ask(episode_file(), timeout_s=60, most_bytes=1000)


async def test_a_file_that_hangs_ends_in_time(reader, stuck):
    with pytest.raises(LateError, match="could not be read within"):
        await reader.ask(stuck, timeout_s=2)


@pytest.mark.parametrize(
    ("number", "judged"),
    [
        (signal.SIGXCPU, Invalid),
        (signal.SIGSEGV, Invalid),
        (signal.SIGBUS, Unavailable),  # a page of a mapped file that its disk does not give
        (signal.SIGKILL, Unavailable),
    ],
)
async def test_only_what_the_file_does_counts_against_it(readers, stuck, number, judged):
    async with reading(readers, stuck, examine(readers, stuck, 60)) as (child, task):
        child.send_signal(number)
        with pytest.raises(judged):
            await task


async def test_a_file_that_a_busy_machine_does_not_get_to_is_asked_for_again(readers, stuck):
    with pytest.raises(Unavailable, match="the server is busy") as raised:
        await examine(readers, stuck, 0.5)
    assert raised.value.headers["Retry-After"]


async def test_a_file_that_this_machine_cannot_open_is_asked_for_again(readers, tmp_path):
    with pytest.raises(Unavailable, match="No such file"):
        await examine(readers, tmp_path / "none", 60)
    assert is_machines_fault(MemoryError()) and is_machines_fault(OSError(errno.EIO, "Input/output error"))
    assert not is_machines_fault(OSError("file signature not found"))


async def test_the_processors_time_is_bounded_too(readers, stuck):
    async with reading(readers, stuck, readers.ask("--cpu-s=7", stuck, timeout_s=60)) as (child, task):
        while "Seccomp:\t2" not in Path(f"/proc/{child.pid}/status").read_text():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        assert child.rlimit(psutil.RLIMIT_CPU) == (7, 17)
        child.send_signal(signal.SIGXCPU)
        with pytest.raises(TooSlowError) as raised:
            await task
    assert not isinstance(raised.value, LateError)


async def test_after_a_file_that_hangs_its_child_is_gone_and_the_next_file_is_read(readers, stuck, episode_file):
    with pytest.raises(FileFaultError):
        await readers.ask(stuck, timeout_s=2)
    while forking(readers).children():  # noqa: ASYNC110 - another process has no event
        await asyncio.sleep(0.01)
    assert b"attributes" in await readers.ask(episode_file(), timeout_s=60)


async def test_mutants_get_the_answer_that_a_fresh_process_gives(readers, episode_file, tmp_path):
    data, rng = episode_file().read_bytes(), random.Random(9)  # noqa: S311 - mutants, not secrets
    paths = []
    for number in range(12):
        mutant = bytearray(data)
        for _ in range(rng.randint(1, 20)):
            mutant[rng.randrange(min(len(mutant), 6000))] ^= 1 << rng.randrange(8)
        paths.append(tmp_path / f"mutant-{number}")
        paths[-1].write_bytes(mutant)

    async def verdict(reader, path):
        try:
            return json.loads(await reader.ask(path, timeout_s=60))
        except FileFaultError as error:
            return str(error)

    for path in paths:
        assert await verdict(readers, path) == await verdict(Fresh(READER), path)


async def test_a_child_is_confined_and_holds_nothing_of_its_parents(readers, stuck):
    async with reading(readers, stuck) as (child, _):
        while "Seccomp:\t2" not in Path(f"/proc/{child.pid}/status").read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert "NoNewPrivs:\t1" in Path(f"/proc/{child.pid}/status").read_text()
        # Standard input, output and error, and the file that it is about to open.
        assert {int(each.name) for each in Path(f"/proc/{child.pid}/fd").iterdir()} <= {0, 1, 2, 3, 4}
        assert "DATABASE" not in Path(f"/proc/{child.pid}/environ").read_text().upper()


async def test_a_crash_is_the_files_and_the_next_file_meets_another_process(readers, stuck, episode_file):
    async with reading(readers, stuck) as (child, task):
        before = forking(readers).pid
        child.send_signal(signal.SIGSEGV)
        with pytest.raises(FileFaultError, match="SIGSEGV"):
            await task
    assert b"attributes" in await readers.ask(episode_file(), timeout_s=60)
    assert forking(readers).pid != before


async def test_a_child_that_the_system_killed_says_nothing_about_the_file(readers, stuck):
    async with reading(readers, stuck) as (child, task):
        child.kill()
        with pytest.raises(EndedEarlyError):
            await task


async def test_when_the_forking_process_is_killed_its_files_are_asked_for_again(readers, stuck, episode_file):
    async with reading(readers, stuck) as (child, task):
        forking(readers).kill()
        while child.is_running():  # noqa: ASYNC110 - another process has no event
            await asyncio.sleep(0.01)
        assert b"attributes" in await readers.ask(episode_file(), timeout_s=60)
        task.cancel()


async def test_nothing_is_left_when_it_is_closed_while_a_file_is_read(stuck):
    readers = Readers(READER)
    async with reading(readers, stuck) as (child, _):
        parent = forking(readers)
        await readers.close()
        while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        assert not parent.is_running()


async def test_many_at_once_each_get_their_own_answer(readers, episode_file):
    paths = [episode_file() for _ in range(12)]
    answers = await asyncio.gather(*(readers.ask(path, timeout_s=60) for path in paths))
    assert [json.loads(answer)["attributes"]["episode_id"] for answer in answers] == [path.stem for path in paths]
