import os

from lefleet_agent.recording.child import PatientStream


def test_lines_are_written_whole(tmp_path):
    reader, writer = os.pipe()
    stream = PatientStream(writer)
    print("one", 1, file=stream, flush=True)
    print("two\nthree", file=stream)
    assert os.read(reader, 1000) == b"one 1\ntwo\nthree\n"
    os.close(reader)
    os.close(writer)


def test_a_log_that_cannot_be_written_ends_nothing_and_is_told_later(tmp_path):
    reader, writer = os.pipe()
    stream = PatientStream(writer)
    os.close(reader)
    for _ in range(3):
        print("nobody reads this", file=stream)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer)
    print("and this finds no room", file=stream)
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, writer)
    print("back", file=stream)
    assert (tmp_path / "log").read_text() == "(4 lines of this log could not be written)\nback\n"
    for fd in (full, log, writer):
        os.close(fd)
