"""What `make demo` says at its end: where the dashboard is, a log-in that works once, and what to look at."""

import argparse
import json
import subprocess
import sys
from urllib.parse import urlsplit

from here import REPO, STATE, SUPERVISOR_CONFIG, VENV, refuse
from rich.console import Console
from rich.table import Table
from rich.text import Text

SERVER_CONFIG = STATE / "server" / "server.yml"


def new_link() -> str:
    """An address that logs in once. Raises CalledProcessError while the server's database does not run."""
    command = [str(VENV / "bin" / "lefleet-server"), "login-link", "--config", str(SERVER_CONFIG), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return str(json.loads(done.stdout)["url"])


def show(console: Console, link: str) -> None:
    address = f"{urlsplit(link).scheme}://{urlsplit(link).netloc}"
    supervisorctl = VENV / "bin" / "supervisorctl"
    if supervisorctl.is_relative_to(REPO):
        supervisorctl = supervisorctl.relative_to(REPO)
    console.print()
    console.rule("[bold green]LeFleet is running[/]")
    console.print()
    places = Table.grid(padding=(0, 2))
    places.add_row("  [bold]Dashboard[/]", f"[link={address}]{address}[/]")
    places.add_row("  [bold]Log in[/]", Text(link, style=f"cyan link {link}", overflow="fold"))
    places.add_row("", "[dim]works once; `make login` prints another[/]")
    console.print(places)
    console.print("\n  [bold]Three things to look at[/]\n")
    sights = Table.grid(padding=(0, 1))
    sights.add_row("  [green]1[/]", "[bold]Fleet[/]: two arms at work, with the rate they hold and how late they are.")
    sights.add_row(
        "  [green]2[/]",
        "[bold]Episodes[/]: open one, and both cameras play in step with joints and actions.",
    )
    sights.add_row("  [green]3[/]", "[bold]Pull the plug[/] on a robot; what it recorded arrives all the same:")
    console.print(sights)
    config = SUPERVISOR_CONFIG.relative_to(REPO)
    console.print(f"      [cyan]{supervisorctl} -c {config} signal KILL robot-1-control[/]", soft_wrap=True)
    console.print("\n  [dim]make status[/] what runs   [dim]make stop[/] end it   [dim]make clean[/] forget its data\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--login", action="store_true", help="only print a new log-in")
    only_login = parser.parse_args().login
    if not SERVER_CONFIG.exists():
        return refuse("the demo does not run here yet; start it with: make demo")
    try:
        link = new_link()
    except subprocess.CalledProcessError:
        return refuse("the server gave no log-in (its words are above); is the demo running? See: make status")
    if only_login:
        print(link)
    else:
        show(Console(highlight=False), link)
    return 0


if __name__ == "__main__":
    sys.exit(main())
