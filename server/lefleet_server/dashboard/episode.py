"""One episode: its cameras and joints played in step, what it was, and what a person thinks of it."""

import json
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import quote

from starlette.requests import Request

from lefleet_server import problems
from lefleet_server.accounts.models import Role
from lefleet_server.analysis import service as analyses
from lefleet_server.dashboard import queries, so101_pose
from lefleet_server.dashboard.deletion import Deleter, build_tombstone
from lefleet_server.dashboard.errors import nothing_here
from lefleet_server.dashboard.filters import Filters
from lefleet_server.dashboard.frame import frame
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.hold_panel import HoldPanel, of_episode
from lefleet_server.dashboard.label import LabelPanel
from lefleet_server.dashboard.open_in import build_open_in
from lefleet_server.dashboard.parts import Chip, Text, Time, box, icon, link, outcome_chip, set_outcome
from lefleet_server.dashboard.provenance import build_provenance
from lefleet_server.dashboard.quality_panel import QualityPanel
from lefleet_server.dashboard.sections import page_for
from lefleet_server.deletion import holds, tombstones
from lefleet_server.deletion.models import LegalHold
from lefleet_server.episodes import labels, service
from lefleet_server.episodes.models import Episode
from lefleet_server.previews import service as previews
from lefleet_server.previews.models import EpisodePreview
from lefleet_server.previews.schemas import address
from lefleet_server.robots import events
from lefleet_server.robots.events import Event
from lefleet_server.services import Services

LIST = "/episodes"


class EpisodeHead:
    """The title line: which episode, how it ended, where to go from here."""

    def __init__(
        self,
        episode: Episode,
        filters: Filters,
        neighbours: tuple[str | None, str | None],
        unlabelled: str | None,
        quarantined: bool,
    ) -> None:
        with box("lf-head", tag="header"):
            with box("lf-head-text"):
                with link(filters.address(LIST), "lf-back"):
                    icon("previous")
                    Text("Episodes", tag="span")
                self._build_title(episode, quarantined)
                with box("lf-sub"):
                    Text(f"{episode.task or 'No task'} · ", tag="span")
                    Time(episode.started_at)
            with box("lf-actions"):
                newer, older = neighbours
                _neighbour(newer, filters, "previous", "Newer episode (K)", "k")
                _neighbour(older, filters, "next", "Older episode (J)", "j")
                if unlabelled:
                    _unlabelled(unlabelled, filters)
                with link(f"/api/v1/episodes/{episode.id}/file", "lf-button", download=f"{episode.id}.h5"):
                    icon("download")
                    Text("HDF5", tag="span")
                build_open_in(episode, quarantined)

    def _build_title(self, episode: Episode, quarantined: bool) -> None:
        with box("lf-title"):
            Text(episode.robot_id, tag="h1")
            with box().style("display: contents"):
                self._outcome = outcome_chip(episode.result)
            if episode.interrupted:
                Chip("Interrupted", "warn", "is-plain")
            if quarantined:
                Chip("Quarantined", "bad", "is-plain")

    def show_outcome(self, episode: Episode) -> None:
        set_outcome(self._outcome, episode.result)


def _neighbour(episode_id: str | None, filters: Filters, icon_name: str, title: str, key: str) -> None:
    classes = "lf-icon-button" if episode_id else "lf-icon-button is-off"
    target = filters.address(f"{LIST}/{episode_id}") if episode_id else ""
    with link(target, classes, title=title, aria_label=title, data_key=key):
        icon(icon_name)


def _unlabelled(episode_id: str, filters: Filters) -> None:
    title = "Next episode that nobody has labelled (N)"
    with link(filters.address(f"{LIST}/{episode_id}"), "lf-button", title=title, data_key="n"):
        Text("Next unlabelled", tag="span")


def _build_player(episode: Episode, made: Sequence[EpisodePreview], told: Sequence[Event]) -> None:
    base = f"/api/v1/episodes/{quote(episode.id)}"
    robot_type = str(episode.meta.get("robot_type") or "")
    videos = {each.camera: address(each) for each in made if each.kind == "video" and each.sha256}
    box(
        "lf-card",
        tag="lf-player",
        signals=f"{base}/signals",
        frames=f"{base}/frames/{{camera}}/{{tick}}.jpg",
        data_episode=episode.id,
        robot_type=robot_type,
        told=json.dumps([_told(event, episode) for event in told]),
        **({"kinematics": json.dumps(so101_pose.described())} if so101_pose.drawn(robot_type) else {}),
        # All or none: a camera that plays pictures beside one that plays a video would be out of step.
        **({"videos": json.dumps(videos)} if videos.keys() >= set(episode.cameras) else {}),
    )


def _told(event: Event, episode: Episode) -> dict[str, object]:
    """For the time line (static/player/events.js)."""
    at_s = (event.at - episode.started_at).total_seconds()
    text = f"{event.what} {event.detail}".strip() + (f" by {event.by}" if event.by else "")
    return {"at_s": at_s, "stop": event.stop, "text": text}


def _build_keeping(
    services: Services, request: Request, episode: Episode, filters: Filters, held: Sequence[LegalHold]
) -> None:
    """What holds the episode, and for administrators its deletion."""
    deleter = Deleter(services, request, episode.id, filters.address(f"{LIST}/{episode.id}"))
    shown = HoldPanel(services, request, of_episode(episode), deleter.show)
    with shown.acts():
        deleter.build()
    shown.show(held)
    deleter.show(held)


def register(services: Services) -> None:
    @page_for(LIST + "/{episode_id}", "Episode", Role.VIEWER)
    async def page(request: Request, episode_id: str) -> None:
        filters = Filters.parse(request.query_params).first_page()
        user = user_on(request)
        try:
            async with services.db.session() as session:
                episode = await service.get_episode(session, episode_id, with_meta=True)
                neighbours = await queries.neighbours(session, filters, episode)
                judgement = await labels.last(session, episode_id)
                found = (await analyses.of_episodes(session, [episode_id])).get(episode_id)
                held = await holds.of_episode(session, episode)
                unlabelled = await queries.next_unlabelled(session, filters, episode)
                ended_at = episode.started_at + timedelta(seconds=episode.duration_s)
                told = await events.during(session, episode.robot_id, episode.started_at, ended_at)
                made = (await previews.of_episodes(session, [episode_id])).get(episode_id, [])
        except (problems.Gone, problems.NotFound):
            async with services.db.session() as session:
                deleted = await tombstones.of_episode(session, episode_id)
            with frame(request, "Episodes"):
                if deleted is not None:
                    build_tombstone(request, deleted, filters)
                else:
                    nothing_here("There is no such episode", f"No episode has the id {episode_id}.")
            return
        with frame(request, "Episodes", "player/player.js"):
            quarantined = found is not None and found.state == "quarantined"
            top = EpisodeHead(episode, filters, neighbours, unlabelled, quarantined)
            with box("lf-episode"):
                _build_player(episode, made, told)
                with box("lf-side"):
                    may_label = Role(user.role).covers(Role.OPERATOR)
                    LabelPanel(services, request, episode, judgement, may_label, top.show_outcome)
                    QualityPanel(services, request, episode.id, found)
                    _build_keeping(services, request, episode, filters, held)
                    build_provenance(episode)
