"""One's own views of the dashboard's pages."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from lefleet_server.accounts.models import Role, User
from lefleet_server.accounts.roles import Scope
from lefleet_server.auth import CurrentUser, ServicesDep, require_role
from lefleet_server.problems import NotFound
from lefleet_server.views import service
from lefleet_server.views.schemas import Name, Page, ViewIn, ViewList, ViewOut

router = APIRouter(prefix="/me/views", tags=["people"])

# Whoever may look may keep views; a token that only reads changes nothing, not even these.
Owner = Annotated[User, Depends(require_role(Role.VIEWER, Scope.OPERATE))]


@router.get("")
async def list_views(user: CurrentUser, services: ServicesDep, page: Page = "fleet") -> ViewList:
    """One's own views of a page, by name."""
    async with services.db.session() as session:
        found = await service.list_views(session, user.id, page)
    return ViewList(items=[ViewOut.model_validate(view) for view in found])


@router.put("")
async def save_view(body: ViewIn, user: Owner, services: ServicesDep) -> ViewOut:
    """Keeps filters and order of a page under a name; 409 when one keeps fifty views of it already."""
    async with services.db.transaction() as session:
        return ViewOut.model_validate(await service.save(session, user, body.page, body.name, body.query))


@router.delete("", status_code=204)
async def delete_view(name: Annotated[Name, Query()], user: Owner, services: ServicesDep, page: Page = "fleet") -> None:
    async with services.db.transaction() as session:
        if not await service.forget(session, user, page, name):
            raise NotFound(f"you keep no view {name!r} of this page; `lefleet views list` names those you keep")
