"""Byte ranges of a file over HTTP (RFC 9110, section 14), so that a download that was cut goes on where it stopped."""

import re
from dataclasses import dataclass

from lefleet_server.problems import RangeWrong

_ONE = re.compile(r"[ \t]*bytes[ \t]*=[ \t]*([0-9]{0,19})[ \t]*-[ \t]*([0-9]{0,19})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """`length` bytes from `start`, of a file of `size`."""

    start: int
    length: int
    size: int

    @property
    def range(self) -> str:
        """What a caller writes to get it."""
        return f"bytes={self.start}-{self.start + self.length - 1}"

    @property
    def content_range(self) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.size}"


def head(span: Span | None, etag: str, size: int) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer that has this part, or (None) the whole file."""
    headers = {"ETag": etag, "Content-Length": str(span.length if span else size)}
    return (206, headers | {"Content-Range": span.content_range}) if span else (200, headers)


def asked(wanted: str | None, only_if: str | None, etag: str, size: int) -> Span | None:
    """The part that `Range` asks for, None for the whole file. Pure; raises RangeWrong, whose headers tell the size.

    `only_if` (`If-Range`): a caller that holds a part of another file gets this one whole. Several ranges at once, and
    what is no range of bytes, are answered with the whole file, as the standard allows.
    """
    found = _ONE.fullmatch(wanted or "")
    if found is None or found.groups() == ("", "") or (only_if is not None and only_if != etag):
        return None
    first, last = found.groups()
    if not first:  # the last so many bytes
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    if start >= end:
        raise RangeWrong(
            f"Range: {wanted!r}: a file of {size} bytes has none of these; ask below its size, or without Range",
            fields=[("Range", f"must begin below {size}")],
            headers={"Content-Range": f"bytes */{size}"},
        )
    return Span(start, end - start, size)
