"""What the commands have in common: their options, the way to the database, and how they answer people and scripts."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import TypeAdapter, ValidationError

from lefleet_server import logs
from lefleet_server.config import CONFIG_VARIABLE, ConfigError, Settings, load

# Commands import what they alone need: SQLAlchemy, FastAPI and NiceGUI take seconds on a small machine.
# ruff: noqa: PLC0415
if TYPE_CHECKING:
    from lefleet_server.db import Database

ConfigOption = Annotated[
    Path, typer.Option("--config", envvar=CONFIG_VARIABLE, help="The server's settings, YAML.", metavar="FILE")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")]


def settings_of(config: Path) -> Settings:
    """The settings, and logs as they say; ends with exit status 2 when they are wrong."""
    try:
        settings = load(config)
    except ConfigError as error:
        fail(str(error), status=2)
    logs.configure(settings)
    return settings


def with_database[R](settings: Settings, work: Callable[["Database"], Awaitable[R]], *, migrating: bool = False) -> R:
    """Waits for the database, does the work, and turns what people can mend into one line and exit status 1."""
    import asyncpg  # type: ignore[import-untyped]
    from sqlalchemy.exc import SQLAlchemyError

    from lefleet_server import schema
    from lefleet_server.db import Database, DatabaseDownError
    from lefleet_server.problems import Problem

    async def main() -> R:
        db = Database(settings)
        try:
            await db.wait(maintenance=migrating)
            if not migrating:
                await schema.require_current(db.engine)
            return await work(db)
        finally:
            await db.close()

    try:
        return asyncio.run(main())
    except (DatabaseDownError, schema.SchemaError, Problem) as error:
        fail(str(error))
    except (SQLAlchemyError, asyncpg.PostgresError, OSError) as error:
        fail(f"database: {error}")


def check(kind: Any, name: str, value: str) -> None:
    """Ends with exit status 2 when `value` is none of `kind`; `name`: what people call it."""
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        fail(f"{name}: {value!r}: {error.errors()[0]['msg']}", status=2)


def show(as_json: bool, values: dict[str, Any], text: str) -> None:
    typer.echo(json.dumps(values) if as_json else text)


def fail(message: str, status: int = 1) -> NoReturn:
    """Exit status 1: cannot be done now, 2: wrong use or wrong settings."""
    typer.echo(message, err=True)
    raise typer.Exit(status)
