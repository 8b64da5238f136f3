"""What can be on a disk after a power cut between two of the events that `disk_log` saw.

Synced data is all there, and nothing else is certain: each page written since the last sync of its file is as it was,
as it should be, as it was in between, or zero; the file is as long as any of these; a page can be torn between two
sectors; a name that its folder was not synced for is there, or not yet, in the order in which they were given.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from disk_log import FOLDERS, Data, Event, FolderSynced, Named, Removed, Synced

PAGE, SECTOR = 4096, 512


def disk_after(events: Sequence[Event], cut: int, chance: np.random.Generator, state: Path) -> None:
    """Write the folders of a disk whose power went after `events[:cut]` into `state`."""
    past = events[:cut]
    for folder in FOLDERS:
        (state / folder).mkdir(parents=True)
        for name, inode in _names(past, folder, chance).items():
            (state / folder / name).write_bytes(_content(past, inode, chance))


def synced_content(events: Sequence[Event], cut: int, inode: int) -> bytes:
    """What a power cut may not take."""
    content = bytearray()
    for event in events[: _synced_upto(events[:cut], inode)]:
        _apply(event, inode, content)
    return bytes(content)


def _synced_upto(past: Sequence[Event], inode: int) -> int:
    return max((event.upto for event in past if isinstance(event, Synced) and event.inode == inode), default=0)


def _names(past: Sequence[Event], folder: str, chance: np.random.Generator) -> dict[str, int]:
    upto = max((event.upto for event in past if isinstance(event, FolderSynced) and event.folder == folder), default=0)
    changes = [
        (place, event)
        for place, event in enumerate(past)
        if isinstance(event, Named | Removed) and event.folder == folder
    ]
    certain = sum(place < upto for place, _ in changes)
    names: dict[str, int] = {}
    for _, event in changes[: chance.integers(certain, len(changes), endpoint=True)]:
        if isinstance(event, Removed):
            names.pop(event.name, None)
            continue
        names.pop(event.old or "", None)
        names[event.name] = event.inode
    return names


def _content(past: Sequence[Event], inode: int, chance: np.random.Generator) -> bytes:
    upto = _synced_upto(past, inode)
    content = bytearray()
    for event in past[:upto]:
        _apply(event, inode, content)
    sizes, versions = [len(content)], dict[int, list[bytes]]()
    for event in past[upto:]:
        if not isinstance(event, Data) or event.inode != inode:
            continue
        first, last = event.offset // PAGE, (event.offset + len(event.data or b"") - 1) // PAGE
        for page in range(first, last + 1 if event.data else first):
            # Never synced before: what the disk gives for it is zero.
            versions.setdefault(page, [_page(content, page)])
        _apply(event, inode, content)
        sizes.append(len(content))
        for page in range(first, last + 1 if event.data else first):
            versions[page].append(_page(content, page))
    if len(sizes) == 1:
        return bytes(content)
    return _torn(content, sizes, versions, chance)


def _torn(content: bytearray, sizes: list[int], versions: dict[int, list[bytes]], chance: np.random.Generator) -> bytes:
    written = chance.choice([0.0, 0.3, 0.7, 0.95, 1.0])  # how far the kernel had come
    content.extend(bytes(-len(content) % PAGE))
    for page, found in versions.items():
        place = len(found) - 1 if chance.random() < written else int(chance.integers(len(found)))
        chosen = found[place]
        if place and chance.random() < 0.1:
            sectors = int(chance.integers(PAGE // SECTOR)) * SECTOR
            chosen = chosen[:sectors] + found[place - 1][sectors:]
        content[page * PAGE : (page + 1) * PAGE] = chosen
    low, high = (int(size) for size in pairwise_choice(sizes, chance))
    return bytes(content[: chance.integers(low, high, endpoint=True)])


def pairwise_choice(sizes: list[int], chance: np.random.Generator) -> tuple[int, int]:
    """Two sizes that followed each other, the last ones half of the time."""
    pairs = list(pairwise(sizes))
    pair = pairs[-1] if chance.random() < 0.5 else pairs[int(chance.integers(len(pairs)))]
    return min(pair), max(pair)


def _page(content: bytearray, page: int) -> bytes:
    return bytes(content[page * PAGE : (page + 1) * PAGE]).ljust(PAGE, b"\0")


def _apply(event: Event, inode: int, content: bytearray) -> None:
    if isinstance(event, Data) and event.inode == inode:
        end = event.offset + len(event.data or b"")
        content.extend(bytes(max(0, end - len(content))))
        if event.data is not None:
            content[event.offset : end] = event.data
