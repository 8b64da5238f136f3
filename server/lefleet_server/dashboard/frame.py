"""What stands around every page: navigation, the person, the theme switch."""

from collections.abc import Iterator
from contextlib import contextmanager

from nicegui import ui
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.dashboard import acting, assets
from lefleet_server.dashboard.fresh import Fresh
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.parts import Text, box, icon, link

# Name, address, icon, and the least role that sees it (the page itself asks again).
_SECTIONS = (
    ("Fleet", "/", "fleet", Role.VIEWER),
    ("Episodes", "/episodes", "episodes", Role.VIEWER),
    ("Storage", "/storage", "storage", Role.VIEWER),
    ("Jobs", "/jobs", "jobs", Role.VIEWER),
    ("Tokens", "/tokens", "tokens", Role.VIEWER),
    ("People", "/people", "people", Role.ADMIN),
    ("Audit", "/audit", "audit", Role.ADMIN),
)
ACCOUNT = "/account"


def is_dark(request: Request) -> bool:
    """The viewer's choice; dark unless they made one."""
    return request.cookies.get("lefleet_theme") != "light"


@contextmanager
def frame(request: Request, section: str, *modules: str) -> Iterator[Fresh]:
    """The page's surroundings; what is built inside goes into the main part. `modules` are scripts it needs.

    Yields what keeps the page up to date. Whatever a person does on it and fails for the database is told to them.
    """
    assets.add_head(*modules)
    ui.on_exception(acting.tell)
    ui.colors(primary="#726bff")
    ui.dark_mode(is_dark(request))
    with box("lf-shell"):
        _navigation(request, section)
        with box("lf-main", tag="main"):
            yield Fresh()


@contextmanager
def head(title: str, subtitle: str = "") -> Iterator[None]:
    """The page's title line; what is built inside stands at its right end."""
    with box("lf-head", tag="header"):
        with box("lf-head-text"):
            Text(title, tag="h1")
            if subtitle:
                Text(subtitle, "lf-sub")
        with box("lf-actions"):
            yield


def _navigation(request: Request, section: str) -> None:
    with box("lf-nav", tag="aside"):
        with link("/", "lf-brand", aria_label="LeFleet: to the fleet"):
            ui.html(assets.BRAND, sanitize=False).style("display: contents")
        with box("lf-links", tag="lf-sections", role="navigation", aria_label="Sections"):
            role = Role(user_on(request).role)
            for name, target, icon_name, needs in _SECTIONS:
                if not role.covers(needs):
                    continue
                entry = link(target, "lf-link")
                if name == section:
                    entry.props["aria-current"] = "page"
                with entry:
                    icon(icon_name)
                    Text(name, tag="span")
        _person(request, section)


def _person(request: Request, section: str) -> None:
    user = user_on(request)
    with box("lf-nav-foot"):
        account = link(ACCOUNT, "lf-person", title="Your password and log-ins", aria_label="Your account")
        if section == "Account":
            account.props["aria-current"] = "page"
        with account:
            Text(user.username[:2], "lf-avatar")
            with box("lf-person-text lf-cut"):
                Text(user.username, "lf-person-name lf-cut")
                Text(user.role, "lf-person-role")
        for attribute, icon_name, label in (
            ("data-theme-switch", "theme", "Switch between dark and light"),
            ("data-log-out", "logout", "Log out"),
        ):
            button = box("lf-icon-button is-quiet", tag="button", type="button", title=label, aria_label=label)
            button.props[attribute] = ""
            with button:
                icon(icon_name)
