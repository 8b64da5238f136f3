"""Whose account a person of the OpenID Connect provider has: by issuer and subject, which nobody can change.

Never by a name or an e-mail address: whoever may edit their own at the provider would be let into another's account.
"""

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts import service, sessions, tokens
from lefleet_server.accounts.models import ProviderIdentity, Role, User
from lefleet_server.accounts.provider import Claims
from lefleet_server.audit.service import audit
from lefleet_server.fields import USERNAME
from lefleet_server.oidc_settings import OidcSettings
from lefleet_server.problems import Conflict

ACTOR = "oidc"


def role_of(settings: OidcSettings, claims: Claims) -> Role | None:
    """The role that the person's groups give, the highest of them; None when none does."""
    said = claims.get(settings.oidc_groups_claim)
    groups = said if isinstance(said, list) else [said]
    given = [settings.oidc_roles[group] for group in groups if isinstance(group, str) and group in settings.oidc_roles]
    return max(given, key=list(Role).index, default=None)


async def admit(session: AsyncSession, settings: OidcSettings, claims: Claims) -> tuple[User | None, str]:
    """The account of a person whom the provider vouches for, with the role that it says now; None and why not.

    To be committed also when nobody is let in: it may have taken something away. Raises Conflict when nobody would be
    left to administer.
    """
    issuer, subject = settings.oidc_issuer or "", claims["sub"]
    role = role_of(settings, claims) if settings.oidc_roles else None
    groups_wrong = f"none of your groups at {settings.oidc_name} has a role here; ask whoever keeps them"
    identity = await session.get(ProviderIdentity, (issuer, subject))
    if identity is None:
        if not settings.oidc_create_accounts:
            how = f"`lefleet-server users bind NAME --subject {subject}`"
            return None, f"no account here belongs to {subject} of {settings.oidc_name}; an administrator says {how}"
        if settings.oidc_roles and role is None:
            return None, groups_wrong
        return await _create(session, settings, claims, role or Role.VIEWER)
    user = await session.get_one(User, identity.user_id)
    if user.disabled_at is not None:
        return None, f"the account {user.username} is disabled; ask an administrator"
    if settings.oidc_roles and role is None:
        await _shut_out(session, user)
        return None, groups_wrong
    if role is not None and role != user.role:
        user = await service.change_user(session, user.username, ACTOR, role=role)
    return user, ""


async def bind(session: AsyncSession, username: str, issuer: str, subject: str, actor: str) -> bool:
    """From now on this person of the provider has this account; says whether that changed anything.

    Raises NotFound, and Conflict when they have another one.
    """
    user = await service.get_user(session, username)
    new = insert(ProviderIdentity).values(issuer=issuer, subject=subject, user_id=user.id).on_conflict_do_nothing()
    if (await session.execute(new.returning(ProviderIdentity.user_id))).scalar_one_or_none() is not None:
        audit(session, actor, "user.bound", f"user:{username}", {"issuer": issuer, "subject": subject})
        return True
    owner = (await session.get_one(ProviderIdentity, (issuer, subject))).user_id
    if owner != user.id:
        other = (await session.get_one(User, owner)).username
        raise Conflict(f"{subject} has the account {other}; `lefleet-server users unbind {other}` ends that")
    return False


async def unbind(session: AsyncSession, username: str, actor: str) -> int:
    """No person of a provider has this account any more, and its log-ins end; returns how many had."""
    user = await service.get_user(session, username)
    gone = await session.execute(
        delete(ProviderIdentity)
        .where(ProviderIdentity.user_id == user.id)
        .returning(ProviderIdentity.issuer, ProviderIdentity.subject)
    )
    for issuer, subject in (rows := gone.all()):
        audit(session, actor, "user.unbound", f"user:{username}", {"issuer": issuer, "subject": subject})
    if rows:
        await sessions.end_sessions(session, user, actor)
    return len(rows)


async def _create(session: AsyncSession, settings: OidcSettings, claims: Claims, role: Role) -> tuple[User | None, str]:
    name = claims.get(settings.oidc_username_claim)
    if not isinstance(name, str) or not USERNAME.fullmatch(name):
        return None, f"{settings.oidc_name} says no {settings.oidc_username_claim} that can be a name here"
    try:
        user = await service.add_user(session, name, role, ACTOR)
    except Conflict:
        how = f"`lefleet-server users bind {name} --subject {claims['sub']}`, if it is yours"
        return (
            None,
            f"there is an account {name} that is not bound to {settings.oidc_name}; an administrator says {how}",
        )
    await bind(session, name, settings.oidc_issuer or "", claims["sub"], ACTOR)
    return user, ""


async def _shut_out(session: AsyncSession, user: User) -> None:
    """The provider took every role away: what the account has open ends, and what it could do."""
    if user.role != Role.VIEWER:
        await service.change_user(session, user.username, ACTOR, role=Role.VIEWER)
    await sessions.end_sessions(session, user, ACTOR)
    await tokens.revoke_tokens(session, user, ACTOR)
