"""Parts of a file: what `Range` and `If-Range` ask for, and that the bytes are those of the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lefleet_server.problems import RangeWrong
from lefleet_server.ranges import Span, asked

SIZE = st.integers(1, 1000)
PLACE = st.none() | st.integers(0, 1100)


@given(SIZE, PLACE, PLACE)
def test_a_span_is_what_slicing_gives(size, first, last):
    whole = bytes(number % 251 for number in range(size))
    if first is None:
        expected = whole if last is None else whole[max(size - last, 0) :]
    else:
        expected = whole[first:] if last is None else whole[first : last + 1]
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        assert asked(header, None, '"a"', size) is None
    elif not expected:
        with pytest.raises(RangeWrong) as refused:
            asked(header, None, '"a"', size)
        assert refused.value.headers == {"Content-Range": f"bytes */{size}"}
    else:
        span = asked(header, None, '"a"', size)
        assert whole[span.start : span.start + span.length] == expected
        assert span.content_range == f"bytes {span.start}-{span.start + span.length - 1}/{size}"


@given(st.none() | st.text(max_size=30) | st.from_regex(r"\Abytes=[0-9]{0,4}-[0-9]{0,4}\Z"), st.integers(0, 3000))
def test_whatever_the_header_says_the_bytes_are_within_the_file(header, size):
    try:
        span = asked(header, None, '"a"', size)
    except RangeWrong:
        return
    assert span is None or 0 <= span.start < span.start + span.length <= size
    assert span is None or asked(span.range, None, '"a"', size) == span


@pytest.mark.parametrize("header", ["bytes=5-9", "Bytes=5-9", " bytes = 5 - 9 ", "bytes=5 -\t9"])
def test_white_space_and_capitals_do_not_matter(header):
    assert asked(header, None, '"a"', 100) == Span(5, 5, 100)


@pytest.mark.parametrize(
    "header", [None, "", "bytes", "bytes=", "bytes=1-2,5-6", "lines=1-2", "bytes=a-b", "bytes=-1-2"]
)
def test_what_is_no_single_range_of_bytes_is_answered_whole(header):
    assert asked(header, None, '"a"', 100) is None


def test_a_part_of_another_file_is_answered_whole():
    assert asked("bytes=5-", '"a"', '"a"', 100) == Span(5, 95, 100)
    for other in ('"b"', 'W/"a"', "Sun, 01 Nov 2026 12:00:00 GMT"):
        assert asked("bytes=5-", other, '"a"', 100) is None
    assert asked("bytes=500-", '"b"', '"a"', 100) is None


@pytest.mark.parametrize("store", ["local", "s3", "azure"])
async def test_a_file_is_read_in_parts_from_every_store(robot, operator, episode_file, store):
    path = episode_file(ticks=400)
    whole = path.read_bytes()
    assert (await robot.upload(path)).is_success
    url = f"/api/v1/episodes/{path.stem}/file"
    first = await operator.get(url)
    assert (first.status_code, first.content, first.headers["accept-ranges"]) == (200, whole, "bytes")
    at, etag = len(whole) // 3, first.headers["etag"]
    for header, expected in [
        (f"bytes={at}-", whole[at:]),
        (f"bytes={at}-{at}", whole[at : at + 1]),
        ("bytes=-7", whole[-7:]),
    ]:
        part = await operator.get(url, headers={"Range": header, "If-Range": etag})
        assert (part.status_code, part.content, part.headers["etag"]) == (206, expected, etag)
        assert int(part.headers["content-length"]) == len(expected)
    assert (await operator.get(url, headers={"Range": f"bytes={at}-", "If-Range": '"another"'})).content == whole
    beyond = await operator.get(url, headers={"Range": f"bytes={len(whole)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole)}")
    assert beyond.json()["errors"] == [{"field": "Range", "message": f"must begin below {len(whole)}"}]
