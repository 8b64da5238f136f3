"""Episodes: receipts for robots; finding, looking at and labelling for people."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from pydantic import AwareDatetime, BaseModel

from lefleet_server import downloads
from lefleet_server.analysis import FlagName, Quality
from lefleet_server.analysis import service as analyses
from lefleet_server.auth import CurrentRobot, CurrentUser, Operator, ServicesDep
from lefleet_server.episodes import ingest, labels, service
from lefleet_server.episodes.schemas import (
    Analysis,
    EpisodeDetail,
    EpisodeLabels,
    EpisodeOut,
    EpisodePage,
    Held,
    Label,
    Missing,
    Outcome,
    PolicyList,
    PolicyOut,
    Receipt,
    Relabelled,
    Signals,
)
from lefleet_server.fields import Line, Sha256, Text

router = APIRouter()

_IMMUTABLE = {"Cache-Control": "private, max-age=31536000, immutable"}


class Which(BaseModel):
    """Filters of the list; one that is left out does not restrict."""

    robot: Line | None = None
    policy: Line | None = None
    release: Line | None = None
    task: Text | None = None
    outcome: Outcome | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    interrupted: bool | None = None
    quarantined: bool | None = None
    flag: FlagName | None = None
    quality: Quality | None = None
    labelled: bool | None = None
    in_set: Line | None = None

    def filter(self) -> service.EpisodeFilter:
        return service.EpisodeFilter(**dict(self))


@router.get("/robot/receipts/{sha256}", tags=["uploads"])
async def get_receipt(sha256: Annotated[Sha256, Path()], robot: CurrentRobot, services: ServicesDep) -> Receipt:
    """Proof that these bytes are stored durably; 404 as long as they are not."""
    async with services.db.session() as session:
        return Receipt.of(await ingest.receipt(session, robot.id, sha256))


@router.post("/robot/receipts/missing", tags=["uploads"])
async def find_missing(body: Held, robot: CurrentRobot, services: ServicesDep) -> Missing:
    """Which of these the server does not have, though it gave receipts: it was restored from an older backup."""
    async with services.db.session() as session:
        return Missing(sha256=await ingest.missing(session, robot.id, body.sha256))


@router.get("/episodes", tags=["people"])
async def list_episodes(
    user: CurrentUser,
    services: ServicesDep,
    which: Annotated[Which, Depends()],
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=300)] = None,
) -> EpisodePage:
    """Episodes, newest first."""
    async with services.db.reading() as session:
        page = await service.list_episodes(session, which.filter(), limit, cursor)
    return EpisodePage(items=[EpisodeOut.model_validate(e) for e in page.items], next_cursor=page.next_cursor)


@router.patch("/episodes", tags=["people"])
async def patch_labels(body: EpisodeLabels, user: Operator, services: ServicesDep) -> Relabelled:
    """Labels of up to 500 episodes at once, all or none. Each is kept in the audit log."""
    async with services.db.transaction() as session:
        return Relabelled.of(await labels.label(session, user, body.changes(), body.only_if()))


@router.get("/policies", tags=["people"])
async def list_policies(user: CurrentUser, services: ServicesDep) -> PolicyList:
    """The policies of which there are episodes, by name."""
    async with services.db.reading() as session:
        return PolicyList(items=[PolicyOut(name=name) for name in await service.list_policies(session)])


@router.get("/episodes/{episode_id}", tags=["people"])
async def get_episode(episode_id: str, user: CurrentUser, services: ServicesDep) -> EpisodeDetail:
    async with services.db.session() as session:
        found = EpisodeDetail.model_validate(await service.get_episode(session, episode_id, with_meta=True))
        if judgement := await labels.last(session, episode_id):
            found.labelled_by, found.labelled_at = judgement.by, judgement.at
    return found


@router.get("/episodes/{episode_id}/analysis", tags=["people"])
async def get_analysis(episode_id: str, user: CurrentUser, services: ServicesDep) -> Analysis:
    """What was found in the file after its receipt; 404 until a worker has looked at it."""
    async with services.db.session() as session:
        await service.get_episode(session, episode_id)
        return Analysis.model_validate(await service.get_analysis(session, episode_id))


@router.post("/episodes/{episode_id}/analysis", status_code=202, tags=["people"], response_class=Response)
async def check_again(episode_id: str, user: Operator, services: ServicesDep) -> Response:
    """Has a worker look at the file again; what was found before stays until then. A right file leaves quarantine."""
    async with services.db.transaction() as session:
        await analyses.check_again(session, f"user:{user.username}", episode_id)
    return Response(status_code=202)


@router.get(
    "/episodes/{episode_id}/frames/{camera}/{index}.jpg",
    tags=["people"],
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
)
async def get_frame(episode_id: str, camera: str, index: int, user: CurrentUser, services: ServicesDep) -> Response:
    """What a camera saw at a frame."""
    async with services.db.session() as session:
        episode = await service.get_episode(session, episode_id)
    jpeg = await service.frame(services.blobs, episode, camera, index)
    return Response(jpeg, media_type="image/jpeg", headers=_IMMUTABLE)


@router.get("/episodes/{episode_id}/signals", tags=["people"], response_model=Signals)
async def get_signals(episode_id: str, user: CurrentUser, services: ServicesDep) -> Response:
    """The episode's numbers by column."""
    async with services.db.session() as session:
        episode = await service.get_episode(session, episode_id)
    found = await service.signals(services, episode)
    return Response(found, media_type="application/json", headers=_IMMUTABLE)


@router.get(
    "/episodes/{episode_id}/file",
    tags=["people"],
    response_class=Response,
    responses={
        200: {"content": {"application/x-hdf5": {}}},
        206: {"content": {"application/x-hdf5": {}}, "description": "The part that `Range` asks for."},
        307: {"description": "Where the object store gives it (`downloads_by: store`)."},
    },
)
async def get_file(
    episode_id: str,
    user: CurrentUser,
    services: ServicesDep,
    wanted: Annotated[str | None, Header(alias="Range", max_length=200)] = None,
    only_if: Annotated[str | None, Header(alias="If-Range", max_length=200)] = None,
    sendfile: Annotated[str | None, Header(alias="X-Sendfile-Type", include_in_schema=False)] = None,
) -> Response:
    """The episode as the robot sent it, HDF5. Its ETag is its SHA-256; `Range` and `If-Range` resume a download."""
    async with services.db.session() as session:
        episode = await service.get_episode(session, episode_id)
    await service.require_file(services.blobs, episode)
    name = {"Content-Disposition": f'attachment; filename="{episode.robot_id}-{episode.id}.h5"'}
    file = downloads.File(episode.sha256, episode.bytes, "application/x-hdf5", name | _IMMUTABLE, presign=True)
    return await downloads.answer(services, file, downloads.Asked(wanted, only_if, sendfile))


@router.put("/episodes/{episode_id}/label", tags=["people"])
async def put_label(episode_id: str, body: Label, user: Operator, services: ServicesDep) -> EpisodeOut:
    """A person's judgement, which filters and statistics use before the robot's. Kept in the audit log."""
    async with services.db.transaction() as session:
        return EpisodeOut.model_validate(await service.set_label(session, user, episode_id, body.outcome, body.note))
