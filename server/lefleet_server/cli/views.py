"""`lefleet views`: one's own views of the fleet, the same as on the dashboard's fleet page."""

from typing import Annotated

import typer

from lefleet_server.cli import complete
from lefleet_server.cli.failures import usage
from lefleet_server.cli.fleet import Criteria
from lefleet_server.cli.look import (
    HealthOption,
    PolicyOption,
    ReleaseOption,
    SearchOption,
    SiteOption,
    SortOption,
    narrowed,
)
from lefleet_server.cli.options import (
    JsonOption,
    ProfileOption,
    YesOption,
    confirm,
    connect,
    examples,
)
from lefleet_server.cli.output import Column, answer, local, show_items

app = typer.Typer(no_args_is_help=True, help="Your views of the fleet: filters and order under a name.")

_PAGE = "fleet"


@app.command("list", epilog=examples("lefleet views list", "lefleet robots list --view 'Night shift'"))
def list_views(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List your views by name; nobody else sees them."""
    columns: list[Column] = [
        ("VIEW", lambda view: view["name"]),
        ("SHOWS", lambda view: view["query"]),
        ("SAVED", lambda view: local(view["saved_at"])),
    ]
    with connect(profile) as api:
        found = api.get("/me/views", {"page": _PAGE})["items"]
    show_items(as_json, found, columns, "no views; `lefleet views save` keeps one, as the fleet page does", ["SHOWS"])


@app.command("save", epilog=examples("lefleet views save 'Night shift' --site north --sort -late"))
def save(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    search: SearchOption = None,
    health: HealthOption = None,
    policy: PolicyOption = None,
    release: ReleaseOption = None,
    site: SiteOption = None,
    sort: SortOption = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep these filters and this order of robots under NAME; a view of the same name is replaced."""
    query = narrowed(Criteria(), search, health, policy, release, site, sort).query
    if not query:
        raise usage("give what the view shows: --health, --policy, --release, --site, --search or --sort")
    with connect(profile) as api:
        kept = api.put("/me/views", {"page": _PAGE, "name": name, "query": query})
    answer(as_json, kept, f"{kept['name']} is kept: {kept['query']}")


@app.command("delete", epilog=examples("lefleet views delete 'Night shift'"))
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete.views)],
    profile: ProfileOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a view of yours."""
    confirm(f"Delete your view {name}?", yes)
    with connect(profile) as api:
        api.delete("/me/views", {"page": _PAGE, "name": name})
    answer(as_json, {"name": name, "deleted": True}, f"{name} is deleted")
