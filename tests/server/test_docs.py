"""Documents and code say the same."""

import re
from pathlib import Path

from pydantic_core import PydanticUndefined

from lefleet_server.app import openapi_document
from lefleet_server.config import Settings
from lefleet_server.metrics import Metrics

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_openapi_document_is_the_committed_one():
    committed = (DOCS / "openapi.json").read_text()
    assert openapi_document() == committed, "run: lefleet-server openapi > docs/openapi.json"


def test_every_setting_is_documented_with_its_default_and_meaning():
    table = (DOCS / "server-settings.md").read_text().partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))
    expected = {name: f"{_default(field)} | {field.description}" for name, field in Settings.model_fields.items()}
    assert rows == expected


def _default(field) -> str:
    if field.default is PydanticUndefined:
        return "required"
    return "none" if field.default is None else f"`{str(field.default).lower()}`"


def test_every_metric_is_documented():
    page = (DOCS / "server-settings.md").read_text()
    names = {metric.name for metric in Metrics().registry.collect()}
    assert names
    assert [name for name in sorted(names) if f"`{name}" not in page] == []
