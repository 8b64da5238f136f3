"""API tokens: what a program sends instead of a person's log-in."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts.models import ApiToken, User
from lefleet_server.accounts.roles import Scope
from lefleet_server.audit.service import audit
from lefleet_server.db import utc_now
from lefleet_server.problems import NotFound, TooMany
from lefleet_server.secret import TOKEN_PREFIX, digest, new_token

MAX_DAYS = 366
MAX_ACTIVE = 100
_SHOWN = len(TOKEN_PREFIX) + 6
"""Letters of a secret that lists show: 36 bits fewer to guess of 256."""


async def create_token(
    session: AsyncSession, user: User, name: str, scopes: Sequence[Scope], days: int
) -> tuple[ApiToken, str]:
    """A new token and its secret, which is never to be had again. Raises TooMany at 100 that are valid."""
    # Locked, so that two requests at once do not both count ninety-nine.
    await session.get(User, user.id, with_for_update=True)
    if len(await list_tokens(session, user.id)) >= MAX_ACTIVE:
        raise TooMany(f"{user.username} has {MAX_ACTIVE} tokens; revoke some")
    secret = new_token(TOKEN_PREFIX)
    made = ApiToken(
        user_id=user.id,
        name=name,
        prefix=secret[:_SHOWN],
        token_hash=digest(secret),
        scopes=sorted({scope.value for scope in scopes}),
        expires_at=utc_now() + timedelta(days=days),
    )
    session.add(made)
    await session.flush()
    detail = {"name": name, "prefix": made.prefix, "scopes": made.scopes, "expires_at": made.expires_at.isoformat()}
    audit(session, f"user:{user.username}", "token.created", f"token:{made.id}", detail)
    await session.refresh(made)
    return made, secret


async def list_tokens(session: AsyncSession, user_id: int | None = None) -> Sequence[ApiToken]:
    """Those that are valid, newest first; of one person, or of everybody."""
    query = select(ApiToken).where(ApiToken.revoked_at.is_(None), ApiToken.expires_at > utc_now())
    if user_id is not None:
        query = query.where(ApiToken.user_id == user_id)
    return (await session.scalars(query.order_by(ApiToken.id.desc()))).all()


async def owned_tokens(session: AsyncSession) -> Sequence[tuple[ApiToken, str]]:
    """Everybody's valid tokens with their owners' names, newest first."""
    query = (
        select(ApiToken, User.username)
        .join(User, User.id == ApiToken.user_id)
        .where(ApiToken.revoked_at.is_(None), ApiToken.expires_at > utc_now())
        .order_by(ApiToken.id.desc())
    )
    return [(token, username) for token, username in await session.execute(query)]


async def revoke_tokens(session: AsyncSession, user: User, actor: str) -> int:
    """Ends all of this person's tokens at once; returns how many were valid."""
    take = (
        update(ApiToken).where(ApiToken.user_id == user.id, ApiToken.revoked_at.is_(None)).values(revoked_at=utc_now())
    )
    ended = (await session.execute(take.returning(ApiToken.id, ApiToken.prefix, ApiToken.expires_at))).all()
    for token_id, prefix, _ in ended:
        audit(session, actor, "token.revoked", f"token:{token_id}", {"prefix": prefix})
    return sum(expires_at > utc_now() for _, _, expires_at in ended)


async def revoke_token(session: AsyncSession, token_id: int, owner_id: int | None, actor: str) -> None:
    """Ends the token at once. `owner_id`: only this person's; None: anybody's. Raises NotFound."""
    take = update(ApiToken).where(ApiToken.id == token_id, ApiToken.revoked_at.is_(None)).values(revoked_at=utc_now())
    if owner_id is not None:
        take = take.where(ApiToken.user_id == owner_id)
    prefix = (await session.execute(take.returning(ApiToken.prefix))).scalar_one_or_none()
    if prefix is None:
        raise NotFound(f"no valid token {token_id}; GET /api/v1/tokens lists yours")
    audit(session, actor, "token.revoked", f"token:{token_id}", {"prefix": prefix})
