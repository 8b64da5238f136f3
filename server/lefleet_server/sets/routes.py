"""Named sets of episodes."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from fastapi.responses import StreamingResponse

from lefleet_server.auth import CurrentUser, Operator, ServicesDep
from lefleet_server.episodes.routes import Which
from lefleet_server.sets import service
from lefleet_server.sets.schemas import NewSet, SetChange, SetChanged, SetList, SetName, SetOut

router = APIRouter(prefix="/sets", tags=["people"])

Name = Annotated[SetName, Path()]


@router.get("")
async def list_sets(user: CurrentUser, services: ServicesDep) -> SetList:
    async with services.db.session() as session:
        return SetList(items=[SetOut.of(each) for each in await service.list_sets(session)])


@router.post("", status_code=201)
async def create_set(body: NewSet, user: Operator, services: ServicesDep) -> SetOut:
    """An empty set; its episodes stay where they are and may be in many."""
    async with services.db.transaction() as session:
        return SetOut.of(await service.create(session, user, body.name, body.note))


@router.get("/{name}")
async def get_set(name: Name, user: CurrentUser, services: ServicesDep) -> SetOut:
    """Its episodes: GET /api/v1/episodes?in_set=NAME."""
    async with services.db.session() as session:
        return SetOut.of(await service.get(session, name))


@router.delete("/{name}", status_code=204, response_class=Response)
async def delete_set(name: Name, user: Operator, services: ServicesDep) -> None:
    """The set only: its episodes stay."""
    async with services.db.transaction() as session:
        await service.remove_set(session, user, name)


@router.patch("/{name}/episodes")
async def change_set(name: Name, body: SetChange, user: Operator, services: ServicesDep) -> SetChanged:
    """Adds and removes episodes by their ids, up to 500 each, all or none."""
    async with services.db.transaction() as session:
        return SetChanged.model_validate(await service.change(session, user, name, body.add, body.remove))


@router.post("/{name}/episodes/matching")
async def add_matching(
    name: Name, user: Operator, services: ServicesDep, which: Annotated[Which, Depends()]
) -> SetChanged:
    """Adds every episode of the filters, up to 100,000."""
    async with services.db.transaction() as session:
        return SetChanged.model_validate(await service.add_matching(session, user, name, which.filter()))


@router.delete("/{name}/episodes/matching")
async def remove_matching(
    name: Name, user: Operator, services: ServicesDep, which: Annotated[Which, Depends()]
) -> SetChanged:
    """Removes every episode of the filters from the set."""
    async with services.db.transaction() as session:
        return SetChanged.model_validate(await service.remove_matching(session, user, name, which.filter()))


@router.get(
    "/{name}/export",
    response_class=Response,
    responses={200: {"content": {"application/jsonl": {}}}},
)
async def export_set(name: Name, user: CurrentUser, services: ServicesDep) -> StreamingResponse:
    """One JSON object a line and episode, oldest first: id, SHA-256, bytes, where its file is, what it was."""
    async with services.db.session() as session:
        await service.get(session, name)

    async def lines() -> AsyncIterator[bytes]:
        async with services.db.session() as session:
            async for piece in service.export(session, name):
                yield piece

    headers = {"Content-Disposition": f'attachment; filename="{name}.jsonl"'}
    return StreamingResponse(lines(), media_type="application/jsonl", headers=headers)
