"""What the store holds and for whom, what is on its way in, and what is wrong with it."""

from collections.abc import Sequence

from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.dashboard.filters import Filters
from lefleet_server.dashboard.frame import frame, head
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.lists import Column, Lines, cell, entry, line, main_cell, section, stat, term
from lefleet_server.dashboard.parts import Chip, Meter, Text, Time, box, empty, icon, link
from lefleet_server.dashboard.quality import QUARANTINED
from lefleet_server.dashboard.retention import Rules
from lefleet_server.dashboard.sections import page_for
from lefleet_server.episodes.usage import Check, OpenUpload, Place, RobotUsage, Usage, usage
from lefleet_server.services import Services
from lefleet_server.shared import Shared
from lefleet_server.units import number, size

PATH = "/storage"
_EVERY_S = 10.0
_KINDS = {"file": "Folder of this server", "s3": "S3", "gs": "Google Cloud Storage", "az": "Azure Blob Storage"}
_UPLOADS = (
    Column("Episode", "minmax(150px, 1.4fr)"),
    Column("Arrived", "minmax(160px, 2fr)"),
    Column("Size", "96px", "is-right"),
    Column("Began", "minmax(110px, 1fr)", "is-right"),
)
_ROBOTS = (
    Column("Robot", "minmax(120px, 1fr)"),
    Column("Share", "minmax(120px, 2fr)"),
    Column("Size", "96px", "is-right"),
    Column("Episodes", "104px", "is-right"),
    Column("Newest arrived", "minmax(120px, 1fr)", "is-right"),
)


class Storage:
    """One viewer's page; sends only what changed."""

    def __init__(self, services: Services, source: Shared[None, Usage], request: Request) -> None:
        self._source = source
        self._sees_place = user_on(request).role == Role.ADMIN
        self._min_free_bytes = services.settings.min_free_bytes
        self._shown: Usage | None = None
        text = "What the fleet has recorded, and the room that is left"
        with head("Storage", text), link("/holds", "lf-button"):
            icon("lock")
            Text("Legal holds", tag="span")
        with box("lf-card lf-stats"):
            self._episodes, _, self._episodes_hint = stat("Episodes")
            self._bytes, self._bytes_unit, self._bytes_hint = stat("Stored")
            self._free, self._free_unit, self._free_hint = stat("Free")
            with link(Filters(quality=QUARANTINED).address("/episodes"), "lf-stat-link"):
                self._bad, _, self._bad_hint = stat("Quarantined")
        with box("lf-two"):
            self._store = box("lf-card lf-panel", tag="section")
            self._check = box("lf-card lf-panel", tag="section")
        self._rules = Rules(services, request) if self._sees_place else None
        with section("On their way in"):
            self._uploads = Lines(_UPLOADS, "Uploads")
        with section("By robot"):
            self._robots = Lines(_ROBOTS, "Robots")

    async def refresh(self) -> None:
        if self._rules is not None:
            await self._rules.refresh()
        found = await self._source.get(None)
        before, self._shown = self._shown, found
        if found == before:
            return
        self._show_stats(found)
        if before is None or before.place != found.place:
            self._show_place(found.place)
        if before is None or (before.last_check, before.lost) != (found.last_check, found.lost):
            self._show_check(found.last_check, found.lost)
        if before is None or before.uploads != found.uploads:
            self._show_uploads(found.uploads, found.uploads_open)
        if before is None or before.robots != found.robots:
            self._show_robots(found.robots, found.bytes)

    def _show_stats(self, found: Usage) -> None:
        self._episodes.show(number(found.episodes, 0))
        self._episodes_hint.show(f"from {len(found.robots)} robots")
        _show_size(self._bytes, self._bytes_unit, found.bytes)
        mean = found.bytes / found.episodes if found.episodes else None
        self._bytes_hint.show(f"{size(mean)} an episode" if mean else "nothing yet")
        place = found.place
        _show_size(self._free, self._free_unit, place.free_bytes)
        room = (
            f"of {size(place.total_bytes)}"
            if place.total_bytes
            else f"{_KINDS.get(place.kind, place.kind)} does not say"
        )
        self._free_hint.show(room)
        self._bad.show(number(found.quarantined, 0))
        self._bad_hint.show("files that are wrong" if found.quarantined else "no file is wrong")

    def _show_place(self, place: Place) -> None:
        self._store.clear()
        with self._store:
            Text("Store", tag="h2")
            with box("lf-provenance", tag="dl"):
                entry("Kind", _KINDS.get(place.kind, place.kind))
                if self._sees_place:
                    entry("Place", place.address)
                with term("State"):
                    if place.state == "ok":
                        Chip("Takes files", "good")
                    else:
                        Chip("Takes none now", "bad")
                        Text(f"{place.state}. Robots keep what they record until it does.", "lf-panel-text")
                entry("Kept free", f"{size(self._min_free_bytes)}: with less, uploads wait on the robots")
            if place.total_bytes and place.free_bytes is not None:
                Meter("Disk used").set(1 - place.free_bytes / place.total_bytes)

    def _show_check(self, check: Check | None, lost: int) -> None:
        self._check.clear()
        with self._check:
            Text("Files and episodes compared", tag="h2")
            if check is None:
                Text(
                    "Never. Run lefleet-server fsck on the server: it compares every episode with its file.",
                    "lf-panel-text",
                )
            else:
                with box("lf-provenance", tag="dl"):
                    with term("Last"):
                        Time(check.at, "ago")
                    entry("How", "every byte read (--deep)" if check.deep else "names and sizes")
                    with term("Found"):
                        _build_result(check)
            if lost:
                Text(f"{lost} episodes lack their file. Their robots are asked for it again.", "lf-note")

    def _show_uploads(self, uploads: Sequence[OpenUpload], open_: int) -> None:
        if not uploads:
            with self._uploads.only():
                text = "Every upload has become an episode. One appears here while a robot sends it."
                empty("storage", "Nothing is on its way", text)
            return
        with self._uploads.rebuild():
            for upload in uploads:
                _build_upload(upload)
            if open_ > len(uploads):
                Text(f"and {open_ - len(uploads)} more", "lf-lines-more")

    def _show_robots(self, robots: Sequence[RobotUsage], whole: int) -> None:
        if not robots:
            with self._robots.only():
                empty("episodes", "No episodes yet", "A robot's first one appears here once it was uploaded.")
            return
        with self._robots.rebuild():
            for robot in robots:
                _build_robot(robot, whole)


def _show_size(value: Text, unit: Text, bytes_: int | None) -> None:
    shown, _, of = size(bytes_).partition(" ")
    value.show(shown)
    unit.show(f" {of}" if of else "")


def _build_result(check: Check) -> None:
    if check.remaining:
        Chip(f"{check.remaining} wrong", "bad")
        Text("Run lefleet-server fsck --repair: it mends what can be mended.", "lf-panel-text")
    elif check.found:
        Chip(f"{check.found} found, all mended", "warn")
    else:
        Chip("All is well", "good")


def _build_upload(upload: OpenUpload) -> None:
    with line(data_upload=upload.episode_id):
        main_cell(upload.robot_id, upload.episode_id[:12])
        with cell("Arrived", "lf-line-meter"):
            part = upload.arrived_bytes / upload.bytes
            Text(f"{100 * part:.0f} %", "lf-num lf-muted")
            Meter("Arrived").set_calm(part)
        with cell("Size", "lf-num is-right"):
            Text(size(upload.bytes))
        with cell("Began", "lf-muted is-right"):
            Time(upload.began_at, "ago")


def _build_robot(robot: RobotUsage, whole: int) -> None:
    with line(Filters(robot=robot.robot_id).address("/episodes"), data_robot=robot.robot_id):
        main_cell(robot.robot_id, f"{robot.lost} without their file" if robot.lost else "")
        with cell("Share", "lf-line-meter"):
            part = robot.bytes / whole if whole else 0.0
            Text(f"{100 * part:.0f} %", "lf-num lf-muted")
            Meter("Share of what is stored").set_calm(part)
        with cell("Size", "lf-num is-right"):
            Text(size(robot.bytes))
        with cell("Episodes", "lf-num is-right"):
            Text(number(robot.episodes, 0))
        with cell("Newest arrived", "lf-muted is-right"):
            Time(robot.newest_at, "ago")


def register(services: Services) -> None:
    async def load(_: None) -> Usage:
        return await usage(services)

    source: Shared[None, Usage] = Shared(load, 0.9 * _EVERY_S)

    @page_for(PATH, "Storage", Role.VIEWER)
    async def page(request: Request) -> None:
        with frame(request, "Storage") as fresh:
            storage = Storage(services, source, request)
            await storage.refresh()
            fresh.every(_EVERY_S, storage.refresh)
