"""One's own password, from the API and from the dashboard: throttled like a log-in."""

from lefleet_server.accounts import service, throttle
from lefleet_server.accounts.schemas import PasswordChange
from lefleet_server.auth import Principal
from lefleet_server.services import Services


async def change(services: Services, login: Principal, address: str, wanted: PasswordChange) -> int:
    """Changes the password, ends one's links and other sessions, and returns how many tokens still work.

    Wrong old passwords count as failed log-ins. Raises Forbidden when the old one is wrong, or a first one comes
    long after the log-in; TooMany after too many of those.
    """
    name = login.user.username
    attempt = await throttle.admit(services.db, name, address, services.settings.login_attempts)
    async with services.db.transaction() as session:
        working = await service.change_password(session, name, wanted.old, wanted.new, login.session_id)
        await throttle.forgive(session, attempt)
        return working
