"""Numbers as people read them. Pure; a missing number is a dash, never a zero."""

DASH = "—"


def size(bytes_: float | None) -> str:
    """Decimal units, as disks are sold: `12.4 GB`."""
    if bytes_ is None:
        return DASH
    for unit in ("B", "kB", "MB", "GB"):
        if abs(bytes_) < 1000:
            return f"{bytes_:.0f} {unit}" if unit in {"B", "kB"} or bytes_ >= 100 else f"{bytes_:.1f} {unit}"
        bytes_ /= 1000
    return f"{bytes_:.1f} TB"


def number(value: float | None, digits: int = 1) -> str:
    return DASH if value is None else f"{value:,.{digits}f}".replace(",", "\u2009")


def thousands(value: int) -> str:
    return f"{value:,}".replace(",", "\u2009")


def counted(episodes: int) -> str:
    return f"{thousands(episodes)} episode{'' if episodes == 1 else 's'}"


def percent(part: int, whole: int) -> str:
    return DASH if whole == 0 else f"{100 * part / whole:.0f}"


def duration(seconds: float) -> str:
    """`8.4 s`, `2:05 min`, `1:02:05 h`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def lasting(seconds: float) -> str:
    """A length of time in its largest unit: `15 minutes`, `1 day`."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return f"{seconds:.0f} seconds"


def short_commit(commit: str) -> str:
    return commit[:7]


def shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def repo_name(repo: str) -> str:
    """The last part of a Hub repo or path: what tells policies apart at a glance."""
    return repo.rstrip("/").rsplit("/", 1)[-1] or repo
