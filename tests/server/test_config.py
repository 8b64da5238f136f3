"""The settings file: what is wrong is named, with its value and what would be right."""

import pytest

from lefleet_server.config import ConfigError, Settings, load
from lefleet_server.db import connection_arguments


@pytest.fixture
def write(tmp_path):
    def make(text: str):
        path = tmp_path / "server.yml"
        path.write_text(text)
        return path

    return make


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("state_dir: s\nport: 70000", "port: 70000: "),
        ("state_dir: s\nprot: 8000", "prot: no such setting"),
        ("port: 8000", "state_dir: must be set"),
        ("state_dir: s\nlog_format: xml", "log_format: 'xml'"),
        ("state_dir: s\npublic_url: example.org", "public_url: 'example.org'"),
        ("- a\n- b", "must hold `name: value` lines"),
        ("a: [", "is not YAML"),
        ("state_dir: s\ndatabase_url: postgresql://u:hidden@h/d\npostgres_dir: p", "not both"),
        ("state_dir: s\ndatabase_url: postgresql://u:hidden@h/d\ndatabase_password_file: p", "keep the file's"),
        ("state_dir: s\npostgres_dir: p\ndatabase_password_file: p", "goes with database_url"),
        ("state_dir: s\ntrusted_proxies: [caddy]", "'caddy' does not appear to be an IPv4 or IPv6 network"),
        ("state_dir: s\ndatabase_url: postgresql://u@h/d\ndatabase_password_file: /none", "/none: cannot be read"),
        ("state_dir: s\nmetrics_token_file: /dev/null", "metrics_token_file: /dev/null: must hold one line"),
    ],
)
def test_what_is_wrong_is_named(write, text, said):
    with pytest.raises(ConfigError) as failure:
        load(write(text), {})
    assert said in str(failure.value)
    assert "hidden" not in str(failure.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yml: cannot be read"):
        load(tmp_path / "none.yml", {})


def test_the_environment_overrides_the_file(write, monkeypatch):
    monkeypatch.setenv("LEFLEET_SERVER_PORT", "9000")
    assert load(write("state_dir: s\nport: 8000")).port == 9000


def test_the_variable_that_names_the_file_is_no_setting(write):
    assert load(write("state_dir: s"), {"LEFLEET_SERVER_CONFIG": "elsewhere"}).port == 8000


def test_the_database_password_is_read_from_its_file_at_each_connection(write, tmp_path):
    secret = tmp_path / "password"
    secret.write_text("hidden\n")
    settings = load(write(f"state_dir: s\ndatabase_url: postgresql://u@h/d\ndatabase_password_file: {secret}"), {})
    assert "hidden" not in repr(settings)
    assert connection_arguments(settings)["password"] == "hidden"
    secret.write_text("newer\n")
    assert connection_arguments(settings)["password"] == "newer"


def test_an_unknown_variable_is_named(write):
    with pytest.raises(ConfigError, match="LEFLEET_SERVER_PROT"):
        load(write("state_dir: s"), {"LEFLEET_SERVER_PROT": "1"})


def test_settings_are_frozen_and_hide_the_database_password(write):
    settings = load(write("state_dir: s\ndatabase_url: postgresql://u:hidden@h/d"), {})
    assert "hidden" not in repr(settings)
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1
    assert isinstance(settings, Settings)
