"""The frame of the journal's chunks after https://mcap.dev/spec: little endian, no compression, a CRC-32 each.

Written here because a picture then goes to the disk without a copy, and read here because MCAP's own stream reader
passes over zeroes, trusts a length of any size, and checks no chunk whose CRC field reads 0.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

_MAGIC = b"\x89MCAP0\r\n"
_HEADER, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x01, 0x04, 0x05, 0x06, 0x0F
_RECORD_HEAD = struct.Struct("<BQ")  # opcode, length of what follows
_CHUNK_HEAD = struct.Struct("<QQQIIQ")  # first and last log time, size, CRC-32, length of compression's name: 0, size
_MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_CHANNEL_HEAD = struct.Struct("<HH")  # number, schema; then topic, encoding and the metadata's map
_LENGTH = struct.Struct("<I")  # of the string or map that follows

type Part = bytes | memoryview


class DamagedError(Exception):
    """Where and why reading stopped."""


@dataclass(frozen=True, slots=True)
class Channel:
    number: int
    topic: str
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class Message:
    channel: int
    sequence: int
    log_time_ns: int
    data: memoryview
    start_byte: int
    """Of the file, at which `data` begins."""


def chunk(messages: Sequence[tuple[int, int, int, Part]]) -> list[Part]:
    """One chunk of these messages (channel, sequence, log time in ns, data), in parts that follow each other."""
    parts: list[Part] = []
    for channel, sequence, log_time_ns, data in messages:
        head = _MESSAGE_HEAD.pack(channel, sequence, log_time_ns, log_time_ns)
        parts += [_RECORD_HEAD.pack(_MESSAGE, len(head) + len(data)) + head, data]
    size = crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
        size += len(part)
    times_ns = [log_time_ns for _, _, log_time_ns, _ in messages]
    head = _CHUNK_HEAD.pack(min(times_ns), max(times_ns), size, crc, 0, size)
    return [_RECORD_HEAD.pack(_CHUNK, len(head) + size) + head, *parts]


def records(file: BinaryIO) -> Iterator[Channel | Message]:
    """What the chunks with a right CRC hold, up to the first record that is cut off, of a kind that we do not write,
    or wrong. Raises DamagedError there."""
    for start, data in _chunks(file):
        yield from _in_chunk(data, start)


def _chunks(file: BinaryIO) -> Iterator[tuple[int, memoryview]]:
    """The content of each chunk, and the byte of the file at which it begins."""
    size = os.fstat(file.fileno()).st_size
    if file.read(len(_MAGIC)) != _MAGIC:
        raise DamagedError("no MCAP file")
    while (start := file.tell()) < size:
        head = file.read(_RECORD_HEAD.size)
        opcode, length = _RECORD_HEAD.unpack(head) if len(head) == _RECORD_HEAD.size else (0, size)
        if length > size - file.tell():
            raise DamagedError(f"cut off at byte {start} of {size}")
        body = memoryview(file.read(length))
        if opcode == _CHUNK:
            yield start + _RECORD_HEAD.size + _CHUNK_HEAD.size, _checked(body, start, size)
        elif opcode == _DATA_END:
            return
        elif opcode != _HEADER or start != len(_MAGIC):
            raise DamagedError(f"bad record at byte {start} of {size}")


def _checked(body: memoryview, start: int, size: int) -> memoryview:
    data = body[_CHUNK_HEAD.size :]
    # An empty chunk has the CRC 0: zeroes would pass for one.
    if not data or _CHUNK_HEAD.unpack_from(body)[4:] != (0, len(data)):
        raise DamagedError(f"bad chunk at byte {start} of {size}")
    if zlib.crc32(data) != _CHUNK_HEAD.unpack_from(body)[3]:
        raise DamagedError(f"wrong checksum at byte {start} of {size}")
    return data


def _in_chunk(data: memoryview, start: int) -> Iterator[Channel | Message]:
    place = 0
    while place < len(data):
        try:
            opcode, length = _RECORD_HEAD.unpack_from(data, place)
            first, place = place + _RECORD_HEAD.size, place + _RECORD_HEAD.size + length
            yield _record(opcode, data[first:place], start + first, length)
        except (struct.error, ValueError) as error:
            raise DamagedError(f"bad record at byte {start + place}") from error


def _record(opcode: int, content: memoryview, start: int, length: int) -> Channel | Message:
    """Raises struct.error, ValueError."""
    if length != len(content):
        raise ValueError("longer than its chunk")
    if opcode == _MESSAGE:
        channel, sequence, log_time_ns, _ = _MESSAGE_HEAD.unpack_from(content)
        size = _MESSAGE_HEAD.size
        return Message(channel, sequence, log_time_ns, content[size:], start + size)
    if opcode == _CHANNEL:
        number, _ = _CHANNEL_HEAD.unpack_from(content)
        topic, rest = _string(content[_CHANNEL_HEAD.size :])
        _, rest = _string(rest)
        return Channel(number, topic, _map(rest))
    raise ValueError(f"opcode {opcode}")


def _string(content: memoryview) -> tuple[str, memoryview]:
    """The string at the start, and what follows it. Raises struct.error, ValueError."""
    end = _LENGTH.size + _LENGTH.unpack_from(content)[0]
    return str(content[_LENGTH.size : end], "utf-8"), content[end:]


def _map(content: memoryview) -> dict[str, str]:
    found, rest = {}, content[_LENGTH.size :][: _LENGTH.unpack_from(content)[0]]
    while rest:
        key, rest = _string(rest)
        found[key], rest = _string(rest)
    return found
