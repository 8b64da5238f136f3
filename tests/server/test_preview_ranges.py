"""The header Range, whatever it says."""

from hypothesis import given
from hypothesis import strategies as st

from lefleet_server.previews import ranges
from lefleet_server.previews.ranges import Bytes


@given(st.none() | st.text(max_size=30) | st.from_regex(r"\Abytes=[0-9]{0,4}-[0-9]{0,4}\Z"), st.integers(0, 3000))
def test_whatever_the_header_says_the_bytes_are_within_the_file(header, size):
    try:
        found = ranges.wanted(header, size)
    except ranges.UnsatisfiableError:
        return
    assert found is None or 0 <= found.start < found.stop <= size


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(1, 1000))
def test_a_range_is_the_bytes_that_a_slice_takes(first, last, size):
    if first < size and first <= last:
        found = ranges.wanted(f"bytes={first}-{last}", size)
        assert found == Bytes(first, min(last + 1, size))
