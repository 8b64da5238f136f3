"""Migrations beside the release before, which goes on reading and writing: nothing that would make it wait, or fail.

squawk knows what each statement locks, and what an older program would miss. Two migrations have tests of their own.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import event

from lefleet_server import schema

BEFORE = "0008"
"""Until here there was no release."""
LEFT_OUT = "prefer-robust-stmts"
"""A migration is one transaction unless it says otherwise, and those that do begin again at their beginning."""


def statements_of(db) -> list[str]:
    """Grows with what is executed."""
    found: list[str] = []

    @event.listens_for(db.engine.sync_engine, "before_cursor_execute")
    def note(connection, cursor, statement, *rest):
        found.append(statement.strip().rstrip(";"))

    return found


def findings(files: Mapping[str, list[str]], folder: Path) -> list[str]:
    """What squawk says of the statements in each file; one line each."""
    paths = []
    for name, statements in files.items():
        paths.append(folder / f"{name}.sql")
        paths[-1].write_text(";\n\n".join(statements) + ";\n")
    squawk = Path(sys.executable).with_name("squawk")
    command = [squawk, "--pg-version=15", f"--exclude={LEFT_OUT}", "--reporter=json", *paths]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 1), ran.stderr
    found = []
    for each in json.loads(ran.stdout):
        name = Path(each["file"]).stem
        line = Path(each["file"]).read_text().splitlines()[each["line"]]
        if not (each["rule_name"] == "require-concurrent-index-creation" and is_of_a_new_table(line, files[name])):
            found.append(f"{name}: {each['rule_name']}: {line}: {each['message']}")
    return found


def is_of_a_new_table(create_index: str, statements: list[str]) -> bool:
    table = create_index.partition(" ON ")[2].partition(" ")[0]
    return any(
        each.startswith((f"CREATE TABLE {table} ", f"CREATE TABLE IF NOT EXISTS {table} ")) for each in statements
    )


async def test_no_migration_locks_out_the_release_before(db, tmp_path):
    revisions = [each.revision for each in ScriptDirectory.from_config(schema._config()).walk_revisions()]
    assert BEFORE in revisions
    statements, files = statements_of(db), {}
    for revision in sorted(each for each in revisions if each > BEFORE):
        statements.clear()
        await schema.migrate(db.engine, revision)
        files[revision] = list(statements)
    assert findings(files, tmp_path) == []


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("ALTER TABLE robots ADD COLUMN x text NOT NULL", "adding-required-field"),
        ("ALTER TABLE robots DROP COLUMN hw", "ban-drop-column"),
        ("ALTER TABLE robots RENAME COLUMN hw TO hardware", "renaming-column"),
        ("CREATE INDEX x ON robots (hw)", "require-concurrent-index-creation"),
        ("ALTER TABLE robots ALTER COLUMN hw TYPE varchar(9)", "changing-column-type"),
    ],
)
def test_what_would_is_found(statement, rule, tmp_path):
    assert any(f": {rule}: " in each for each in findings({"bad": [*schema.TIMEOUTS, statement]}, tmp_path))


async def test_what_a_migration_sets_for_itself_does_not_hold_for_the_next(db):
    """0011 takes its time at its end."""
    statements = statements_of(db)
    await schema.migrate(db.engine)
    added = next(at for at, each in enumerate(statements) if "CREATE TABLE robot_orders" in each)
    last = max(at for at, each in enumerate(statements[:added]) if each == "SET statement_timeout = 0")
    assert set(schema.TIMEOUTS) <= set(statements[last:added])
