"""The settings file: what is wrong is named, with its value and what would be right."""

import pytest

from lefleet_server.config import ConfigError, Settings, load


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


def test_an_unknown_variable_is_named(write):
    with pytest.raises(ConfigError, match="LEFLEET_SERVER_PROT"):
        load(write("state_dir: s"), {"LEFLEET_SERVER_PROT": "1"})


def test_settings_are_frozen_and_hide_the_database_password(write):
    settings = load(write("state_dir: s\ndatabase_url: postgresql://u:hidden@h/d"), {})
    assert "hidden" not in repr(settings)
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1
    assert isinstance(settings, Settings)
