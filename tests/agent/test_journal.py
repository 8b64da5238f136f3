import os
import resource

import numpy as np
import pytest
from mcap.reader import NonSeekingReader
from mcap.records import Chunk
from mcap.stream_reader import StreamReader

from lefleet_agent.episode import EpisodeInfo, Outcome
from lefleet_agent.recording import journal
from lefleet_agent.recording.journal import JournalError, JournalReader, JournalWriter, LockedJournal, Picture
from lefleet_agent.recording.messages import EpisodeEnd

END = EpisodeEnd(Outcome.SUCCESS, False, "task done", frames_dropped=2, ended_wall_ns=1_700_000_001_000_000_000)


def read(path) -> tuple[list, str | None]:
    reader = JournalReader(path)
    return list(reader), reader.damage


def ticks_of(entries) -> list[bytes]:
    return [entry for entry in entries if isinstance(entry, bytes)]


def test_what_was_written_is_read_back_in_order(make_journal, make_info, robot):
    info = make_info()
    entries, damage = read(make_journal(6, end=END, info=info))
    assert damage is None
    assert entries[0] == info
    assert entries[-1] == END
    kinds = [entry.camera if isinstance(entry, Picture) else "tick" for entry in entries[1:-1]]
    assert kinds == [0, 1, "tick", 1, "tick", 1, "tick"] * 2
    assert [entry.seq for entry in entries if isinstance(entry, Picture) and entry.camera == 0] == [1, 2]


def test_any_mcap_reader_can_read_it(make_journal):
    path = make_journal(5, end=END)
    with path.open("rb") as file:
        topics = [channel.topic for _, channel, _ in NonSeekingReader(file, validate_crcs=True).iter_messages()]
    assert sorted(set(topics)) == ["camera/front", "camera/wrist", "end", "episode", "tick"]
    assert topics.count("tick") == 5


def test_each_tick_lies_in_a_chunk_with_a_checksum(make_journal):
    with make_journal(5, end=END).open("rb") as file:
        records = list(StreamReader(file, emit_chunks=True, validate_crcs=True).records)
    chunks = [record for record in records if isinstance(record, Chunk)]
    assert len(chunks) == 7
    assert all(chunk.uncompressed_crc and not chunk.compression for chunk in chunks)


def test_a_journal_that_was_not_ended_gives_everything_it_holds(make_journal):
    entries, damage = read(make_journal(9))
    assert damage is None
    assert len(ticks_of(entries)) == 9


def test_a_journal_is_under_its_name_only_when_it_is_on_the_disk(tmp_path, make_info):
    info = make_info()
    writer = JournalWriter.create(tmp_path, info)
    assert [path.name for path in tmp_path.iterdir()] == [f"{info.episode_id}.mcap"]
    assert read(writer.journal.path)[0] == [info]


def test_a_journal_being_written_belongs_to_its_writer(tmp_path, make_info):
    writer = JournalWriter.create(tmp_path, make_info())
    assert journal.lock(writer.journal.path) is None
    writer.journal.close()
    locked = journal.lock(writer.journal.path)
    assert locked is not None
    locked.delete()
    locked.close()
    assert journal.lock(writer.journal.path) is None


@pytest.fixture
def whole(make_journal) -> tuple[bytes, list, "os.PathLike"]:
    path = make_journal(20, end=END)
    return path.read_bytes(), read(path)[0], path


def assert_is_a_beginning(path, whole: list) -> None:
    entries, _ = read(path)
    assert entries == whole[: len(entries)]


@pytest.mark.parametrize("seed", range(5))
def test_a_truncated_journal_is_recovered_up_to_the_cut(whole, seed):
    data, entries, path = whole
    chance = np.random.default_rng(seed)
    for _ in range(60):
        cut = chance.integers(len(data))
        path.write_bytes(data[:cut])
        assert_is_a_beginning(path, entries)


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_ends_the_journal_there(whole, seed):
    data, entries, path = whole
    chance = np.random.default_rng(seed)
    for _ in range(60):
        damaged = bytearray(data)
        damaged[chance.integers(len(data))] ^= 1 << int(chance.integers(8))
        path.write_bytes(damaged)
        assert_is_a_beginning(path, entries)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\x06"], ids=["zeroes", "ones", "chunk-opcodes"])
def test_a_lost_page_ends_the_journal_there(whole, seed, filler):
    """What a power cut leaves of pages that were not written yet, in the middle or at the end."""
    data, entries, path = whole
    chance = np.random.default_rng(seed)
    for _ in range(20):
        start = int(chance.integers(len(data) // 512)) * 512
        length = min(int(chance.choice([512, 4096, len(data)])), len(data) - start)
        path.write_bytes(data[:start] + filler * length + data[start + length :])
        assert_is_a_beginning(path, entries)


@pytest.mark.parametrize("seed", range(3))
def test_everything_before_the_damage_is_recovered(whole, seed):
    data, entries, path = whole
    chance = np.random.default_rng(seed)
    for _ in range(20):
        cut = chance.integers(len(data))
        path.write_bytes(data[:cut])
        by_truncation = len(read(path)[0])
        path.write_bytes(data[:cut] + b"\0" * (len(data) - cut))
        recovered, damage = read(path)
        assert len(recovered) == by_truncation or recovered == entries
        assert damage or cut > len(data) - 64


def test_zeroes_in_place_of_a_chunk_are_no_chunk(whole):
    """Its opcode and length survive, its content does not: an empty chunk would have the right checksum."""
    data, entries, path = whole
    with path.open("rb") as file:
        reader = StreamReader(file, emit_chunks=True)
        chunk = next(record for record in reader.records if isinstance(record, Chunk))
    start = data.index(chunk.data) - 40
    path.write_bytes(data[:start] + bytes(40 + len(chunk.data)) + data[start + 40 + len(chunk.data) :])
    assert read(path)[0] == []
    assert_is_a_beginning(path, entries)


def test_lengths_of_any_size_are_survived(whole):
    data, entries, path = whole
    for length in (2**31, 2**40, 2**63, 2**64 - 1):
        second = data.index(b"\x06", 60)  # the first chunk's opcode
        path.write_bytes(data[: second + 1] + length.to_bytes(8, "little") + data[second + 9 :])
        assert_is_a_beginning(path, entries)


def test_something_that_is_no_journal_is_empty_and_said_so(tmp_path):
    for content in (b"", b"\0" * 5000, b"hello"):
        path = tmp_path / "x.mcap"
        path.write_bytes(content)
        assert read(path) == ([], "no MCAP file")


def test_a_message_of_another_version_is_damage(tmp_path, make_info, monkeypatch):
    writer = JournalWriter.create(tmp_path, make_info())
    writer._add(1, 0, b'{"some": "future"}')
    writer._writer.flush()
    entries, damage = read(writer.journal.path)
    assert len(entries) == 1
    assert isinstance(entries[0], EpisodeInfo)
    assert "this version cannot read" in damage


def test_a_full_disk_is_named(make_info, tmp_path):
    full = LockedJournal(tmp_path / "x.mcap", os.open("/dev/full", os.O_RDWR))
    with pytest.raises(JournalError, match=r"x\.mcap: No space left on device; free disk space"):
        JournalWriter(full, make_info())
    full.close()


def test_a_write_that_fails_half_way_leaves_whole_ticks_and_more_can_follow(tmp_path, make_info):
    writer = JournalWriter.create(tmp_path, make_info())
    path = writer.journal.path
    writer.add(b"t" * 100, 1, [])
    whole = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (whole + 1000, hard))
    try:
        with pytest.raises(JournalError, match="File too large"):
            writer.add(b"u" * 100, 1, [Picture(0, 1, 1, b"j" * 50_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.stat().st_size == whole
    writer.add(b"v" * 100, 1, [])
    entries, damage = read(path)
    assert damage is None
    assert ticks_of(entries) == [b"t" * 100, b"v" * 100]


def test_a_journal_that_cannot_be_created_is_named(tmp_path, make_info):
    with pytest.raises(JournalError, match="No such file or directory"):
        JournalWriter.create(tmp_path / "gone", make_info())
