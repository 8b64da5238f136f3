"""The dashboard's own files, served by us: nothing is fetched from another host."""

import hashlib
import time
from pathlib import Path

from nicegui import app as nicegui_app
from nicegui import ui

# Registers ECharts and three.js, which NiceGUI ships, under the names that static/player's scripts import.
from nicegui.elements import echart as _echart  # noqa: F401
from nicegui.elements import scene as _scene  # noqa: F401

STATIC = Path(__file__).parent / "static"
PREFIX = "/_lefleet"


def _version() -> str:
    """Changes with any file, so that browsers may keep what they have for ever."""
    files = sorted(path for path in STATIC.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


BASE = f"{PREFIX}/{_version()}"
LOGO = (STATIC / "logo.svg").read_text(encoding="utf-8")
BRAND = f"{LOGO}<span>Le<b>Fleet</b></span>"


def serve() -> None:
    nicegui_app.add_static_files(BASE, STATIC, max_cache_age=365 * 86400)


def add_head(*modules: str) -> None:
    """Puts the look and the named scripts into the head of the page being built."""
    ui.add_head_html(
        f'<script src="{BASE}/theme.js"></script>'
        + "".join(
            f'<link rel="stylesheet" href="{BASE}/{name}.css">'
            for name in ("lefleet", "pages", "player", "lists", "robots")
        )
        + f'<meta name="lefleet-now" content="{time.time_ns() // 1_000_000}">'
        + "".join(f'<script type="module" src="{BASE}/{name}"></script>' for name in ("shell.js", *modules))
    )
