"""Where episode files go, as a settings file says it."""

import json
from pathlib import Path

import pytest
import yaml

from lefleet_server.config import ConfigError, load


@pytest.fixture
def read(tmp_path: Path):
    def load_with(**values: object):
        path = tmp_path / "server.yml"
        path.write_text(yaml.safe_dump({"state_dir": "state", **values}))
        return load(path, {})

    return load_with


def test_without_an_address_files_go_to_the_state_folder(read):
    settings = read()
    assert (settings.blobs_dir, settings.incoming_dir) == (Path("state/blobs"), Path("state/incoming"))


def test_a_file_address_names_the_folder_of_blobs_and_incoming_alike(read):
    settings = read(store_url="file:///mnt/big%20disk")
    assert (settings.blobs_dir, settings.incoming_dir) == (Path("/mnt/big disk/blobs"), Path("/mnt/big disk/incoming"))


@pytest.fixture
def credentials(tmp_path):
    def write(**values: object) -> str:
        (tmp_path / "store.yml").write_text(yaml.safe_dump(values))
        return str(tmp_path / "store.yml")

    return write


S3 = {"access_key_id": "me", "secret_access_key": "hidden-word"}
GOOGLE_KEY = {
    "type": "service_account",
    "private_key": "hidden-word",
    "private_key_id": "1",
    "client_email": "me@example.org",
    "disable_oauth": True,
}
GOOGLE = {"service_account_key": json.dumps(GOOGLE_KEY)}
AZURE = {"account_name": "me", "account_key": "aGlkZGVuLXdvcmQ="}


@pytest.mark.parametrize(
    ("url", "values"),
    [
        ("s3://bucket/fleet", S3),
        ("gs://bucket", GOOGLE),
        ("gs://bucket", {"service_account_key": GOOGLE_KEY}),
        ("az://container/a/b", AZURE),
    ],
)
def test_an_object_store_has_no_folder(read, credentials, url, values):
    assert read(store_url=url, store_credentials_file=credentials(**values)).store_dir is None


@pytest.mark.parametrize(
    ("url", "values", "why"),
    [
        ("az://container", S3, "access_key_id: not an option of az://container, which mostly needs"),
        ("gs://bucket", AZURE, "account_(name|key): not an option of gs://bucket, .* service_account_key"),
        ("s3://bucket", AZURE, "account_(name|key): not an option of s3://bucket, .* access_key_id"),
        ("az://container", {"account_key": "aGlkZGVuLXdvcmQ="}, "not the credentials of .* account_name and"),
        ("az://container", {"account_name": "me", "account_key": "hidden-word"}, "not the credentials of az://"),
        ("gs://bucket", {"service_account_key": "hidden-word"}, "not the credentials of gs://bucket"),
    ],
)
def test_the_credentials_of_another_cloud_are_refused_at_the_start(read, credentials, url, values, why):
    with pytest.raises(ConfigError, match=f"store_credentials_file: .*{why}") as refused:
        read(store_url=url, store_credentials_file=credentials(**values))
    assert "hidden-word" not in str(refused.value) and "aGlkZGVu" not in str(refused.value)


def test_a_cloud_without_its_account_is_refused_at_the_start(read, monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ConfigError, match=r"store_credentials_file: is not set, .* account_name and account_key"):
        read(store_url="az://container")


@pytest.mark.parametrize("url", ["gs://bucket", "az://container"])
def test_a_region_is_s3s_alone(read, url):
    with pytest.raises(ConfigError, match=f"store_region goes with s3://; leave it out with store_url {url}"):
        read(store_url=url, store_region="eu-central-1")


@pytest.mark.parametrize(
    ("url", "values", "name"),
    [("s3://b", S3, "endpoint"), ("gs://b", GOOGLE, "base_url"), ("az://b", AZURE, "endpoint")],
)
def test_each_cloud_may_have_another_address(read, credentials, url, values, name):
    address = "http://127.0.0.1:9000"
    read_ = read(store_url=url, store_endpoint=address + "/", store_credentials_file=credentials(**values))
    assert read_.store_options == {name: address}


@pytest.mark.parametrize("url", ["ftp://host/x", "file://host/x", "s3:///prefix", "/var/lib/x", "file:///"])
def test_another_address_is_refused_with_those_that_would_be_right(read, url):
    with pytest.raises(ConfigError, match=r"store_url: .*s3://bucket/prefix"):
        read(store_url=url)


def test_credentials_in_the_address_are_refused_and_not_shown(read):
    with pytest.raises(ConfigError, match="store_credentials_file") as refused:
        read(store_url="s3://key:hidden-word@bucket/fleet")
    assert "hidden-word" not in str(refused.value)


def test_options_of_an_object_store_need_one(read):
    with pytest.raises(ConfigError, match="store_endpoint goes with an object store"):
        read(store_endpoint="http://127.0.0.1:9000")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"downloads_by": "store"}, "store goes with an object store; set store_url"),
        ({"downloads_by": "proxy", "store_url": "s3://bucket"}, "proxy goes with a folder; with an object store"),
        ({"downloads_by": "caddy"}, "downloads_by: 'caddy': Input should be 'server', 'proxy' or 'store'"),
    ],
)
def test_files_are_sent_from_where_they_are(read, values, why):
    with pytest.raises(ConfigError, match=why):
        read(**values)


@pytest.mark.parametrize("text", [None, "", "hidden-word", "a: [hidden-word"])
def test_a_credentials_file_that_holds_none_is_named_and_not_shown(read, tmp_path, text):
    path = tmp_path / "store.yml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=f"store_credentials_file: {path}") as refused:
        read(store_url="s3://bucket", store_credentials_file=str(path))
    assert "hidden-word" not in str(refused.value)
