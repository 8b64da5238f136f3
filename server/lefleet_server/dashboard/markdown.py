"""Markdown that people wrote, as HTML. Pure, and soon done with any text: it is read while a page is drawn."""

from functools import lru_cache
from html import escape

from markdown_it import MarkdownIt

_READER = MarkdownIt("commonmark", {"html": False}).enable("table")
"""Reads nothing that is nested deeper than 20, which some twenty thousand brackets would otherwise be."""


@lru_cache(maxsize=256)
def to_html(text: str) -> str:
    """HTML in it is shown, not obeyed. What cannot be read as Markdown is shown as it was written."""
    try:
        return str(_READER.render(text))
    except (RuntimeError, ValueError, LookupError):  # a RecursionError is the first of these
        return f"<pre>{escape(text)}</pre>"
