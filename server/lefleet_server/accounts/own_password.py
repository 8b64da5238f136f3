"""One's own password, from the API and from the dashboard: throttled like a log-in."""

from lefleet_server.accounts import service, throttle
from lefleet_server.accounts.schemas import PasswordChange
from lefleet_server.auth import Principal
from lefleet_server.services import Services


async def change(services: Services, login: Principal, address: str, wanted: PasswordChange) -> None:
    """Changes the password and ends one's other sessions. Wrong old passwords count as failed log-ins.

    Raises Forbidden when the old one is wrong, TooMany after too many of those.
    """
    name = login.user.username
    # In its own transaction: when the next one fails, this one's count must stay.
    async with services.db.transaction() as session:
        attempt = await throttle.admit(session, name, address, services.settings.login_attempts)
    async with services.db.transaction() as session:
        await service.change_password(session, name, wanted.old, wanted.new, login.session_id)
        await throttle.forgive(session, attempt)
