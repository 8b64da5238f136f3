"""Deleting episodes, and holding them against it."""

from typing import Annotated

from fastapi import APIRouter, Query

from lefleet_server.auth import Admin, CurrentUser, Operator, ServicesDep
from lefleet_server.deletion import holds, service
from lefleet_server.deletion.schemas import DeletedOut, HoldList, HoldOut, HoldRequest
from lefleet_server.fields import INT64_MAX, Reason

router = APIRouter(tags=["deletion"])


@router.delete("/episodes/{episode_id}")
async def delete_episode(
    episode_id: str,
    user: Admin,
    services: ServicesDep,
    reason: Annotated[Reason, Query(description="Why; kept in the audit log and told to whoever asks for it.")],
) -> DeletedOut:
    """Deletes an episode for good, with its files `deleted_file_grace_s` later. 409 of type `held` under a hold.

    Its robot is not asked for it again, and need not keep its copy.
    """
    async with services.db.transaction() as session:
        grace_s = services.settings.deleted_file_grace_s
        return DeletedOut.model_validate(
            await service.delete_episode(session, episode_id, f"user:{user.username}", reason, grace_s)
        )


@router.get("/holds")
async def list_holds(
    user: CurrentUser,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    cursor: Annotated[int | None, Query(ge=0, le=INT64_MAX)] = None,
) -> HoldList:
    """Legal holds, newest first."""
    async with services.db.session() as session:
        page = await holds.list_holds(session, limit, cursor)
        return HoldList(items=[HoldOut.model_validate(e) for e in page.items], next_cursor=page.next_cursor)


@router.put("/episodes/{episode_id}/hold")
async def hold_episode(episode_id: str, body: HoldRequest, user: Operator, services: ServicesDep) -> HoldOut:
    """Nothing deletes the episode until an administrator releases it."""
    async with services.db.transaction() as session:
        placed = await holds.place_on_episode(session, episode_id, f"user:{user.username}", body.reason)
        return HoldOut.model_validate(placed)


@router.delete("/episodes/{episode_id}/hold", status_code=204)
async def release_episode(episode_id: str, user: Admin, services: ServicesDep) -> None:
    """Ends the episode's own hold; one on its robot stays."""
    async with services.db.transaction() as session:
        await holds.release_episode(session, episode_id, f"user:{user.username}")


@router.put("/robots/{robot_id}/hold")
async def hold_robot(robot_id: str, body: HoldRequest, user: Operator, services: ServicesDep) -> HoldOut:
    """Nothing deletes any episode of the robot, those to come included, until an administrator releases it."""
    async with services.db.transaction() as session:
        placed = await holds.place_on_robot(session, robot_id, f"user:{user.username}", body.reason)
        return HoldOut.model_validate(placed)


@router.delete("/robots/{robot_id}/hold", status_code=204)
async def release_robot(robot_id: str, user: Admin, services: ServicesDep) -> None:
    """Ends the robot's hold; those on single episodes stay."""
    async with services.db.transaction() as session:
        await holds.release_robot(session, robot_id, f"user:{user.username}")
