"""Role container_image: the image is there, exactly that one, and nothing is fetched twice."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

IMAGES = Path(__file__).resolve().parent / "images"
ADDRESS = "172.29.77.252"


def module(name: str) -> Any:
    """A module of images/, once."""
    full = f"fleet_images_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, IMAGES / f"{name}.py")
        assert spec and spec.loader
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture(scope="module")
def bare(fleet: Any) -> Any:
    return fleet.host("h4-image")


@pytest.fixture(scope="module")
def registry(bare: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    image = module("build").build("registry")
    made = module("registry").start(image, "lefleet-fleet", ADDRESS, tmp_path_factory.mktemp("registry"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def host(bare: Any, registry: Any) -> Any:
    """The host with Docker, which trusts the registry."""
    bare.run("apt-get update && apt-get install --yes --no-install-recommends docker.io", timeout_s=600)
    bare.run(f"mkdir -p /etc/docker/certs.d/{registry.address}")
    bare.write(f"/etc/docker/certs.d/{registry.address}/ca.crt", registry.authority)
    return bare


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An archive of a small image, and its id."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "greeting").write_text("hello\n")
    with subprocess.Popen(["tar", "-C", folder, "-c", "greeting"], stdout=subprocess.PIPE) as tar:
        subprocess.run(["docker", "import", "-", "lefleet-test/small:1"], stdin=tar.stdout, check=True)
    path = folder / "small.tar"
    subprocess.run(["docker", "save", "--output", path, "lefleet-test/small:1"], check=True)
    form = ["--format", "{{.Id}}", "lefleet-test/small:1"]
    image = subprocess.run(["docker", "image", "inspect", *form], check=True, capture_output=True, text=True)
    subprocess.run(["docker", "image", "rm", "lefleet-test/small:1"], check=True)
    return path, image.stdout.strip()


@pytest.fixture
def have(play: Callable[..., Any]) -> Callable[..., Any]:
    """Plays the role with variables, without their prefix."""

    def run(host: Any, check: bool = False, **variables: Any) -> Any:
        named = {f"container_image_{name}": value for name, value in variables.items()}
        return play(["container_image"], [host], named, check=check)

    return run


@pytest.fixture(scope="module")
def pushed(host: Any, registry: Any, small: tuple[Path, str]) -> Callable[[str], str]:
    """Puts the small image into the registry, and nowhere else. Returns its digest."""
    path, image = small

    def push(tag: str) -> str:
        subprocess.run(["docker", "cp", path, f"{host.container}:/root/small.tar"], check=True)
        name = f"{registry.address}/small:{tag}"
        host.run(f"docker load -qi /root/small.tar && docker tag {image} {name} && docker push -q {name}")
        host.run(f"docker image rm --force {image}")
        return str(registry.digest("small", tag))

    return push


def test_check_mode_on_a_host_without_docker_says_what_it_would_do(bare: Any, have: Any) -> None:
    if bare.exists("/usr/bin/docker"):
        pytest.skip("the host has Docker by now")
    done = have(bare, check=True, ref=f"small@sha256:{'0' * 64}")
    assert done.rc == 0 and "would have the image small@sha256:" in done.output


def test_a_host_without_docker_is_told_which_role_installs_it(bare: Any, have: Any) -> None:
    if bare.exists("/usr/bin/docker"):
        pytest.skip("the host has Docker by now")
    done = have(bare, ref=f"small@sha256:{'0' * 64}")
    assert done.rc != 0 and "role docker installs it" in done.output


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"ref": "postgres:17"}, "does not say which image"),
        ({"ref": "postgres:latest", "by_tag": True}, "not `latest`"),
        ({"ref": ""}, "does not say which image"),
        ({"source": "archive", "archive": "images/small.tar"}, "must be the absolute path"),
        ({"source": "archive", "archive": "/nowhere/small.tar"}, "no such file on the controller"),
        ({"source": "build", "ref": "small", "build_root": "/nowhere"}, "must be a name with a tag"),
        ({"source": "hope"}, "value of container_image_source must be one of"),
    ],
)
def test_wrong_variables_are_refused_with_a_sentence(
    bare: Any, have: Any, variables: dict[str, Any], sentence: str
) -> None:
    done = have(bare, **variables)
    assert done.rc != 0 and sentence in " ".join(done.output.split())


def test_an_archive_is_loaded_once_and_leaves_nothing_behind(host: Any, have: Any, small: tuple[Path, str]) -> None:
    path, image = small
    variables = {"source": "archive", "archive": str(path)}
    would = have(host, check=True, **variables)
    assert would.rc == 0 and f"would load {path}" in would.output
    first = have(host, **variables)
    assert first.rc == 0 and first.changed == {host.name: 1}
    assert host.run(f"docker image inspect --format '{{{{.Id}}}}' {image}").stdout.strip() == image
    assert host.run("find /var/lib/lefleet-images -type f").stdout == ""
    second = have(host, **variables)
    assert second.rc == 0 and second.changed == {host.name: 0}
    host.run(f"docker image rm --force {image}")


def test_an_archive_with_another_hash_is_not_loaded(host: Any, have: Any, small: tuple[Path, str]) -> None:
    path, image = small
    done = have(host, source="archive", archive=str(path), archive_sha256="0" * 64)
    assert done.rc != 0 and "it is another file or was damaged" in done.output
    assert host.run(f"docker image inspect {image}", check=False).returncode != 0


def test_an_archive_on_the_host_is_loaded_from_there(host: Any, have: Any, small: tuple[Path, str]) -> None:
    path, image = small
    subprocess.run(["docker", "cp", path, f"{host.container}:/root/there.tar"], check=True)
    variables = {"source": "archive", "archive": "/root/there.tar", "archive_on": "host"}
    assert have(host, **variables).changed == {host.name: 1}
    assert have(host, **variables).changed == {host.name: 0}
    assert host.exists("/root/there.tar")
    host.run(f"docker image rm --force {image}")


def test_an_image_is_pulled_by_its_digest_once(host: Any, have: Any, registry: Any, pushed: Any) -> None:
    ref = f"{registry.address}/small@{pushed('1')}"
    would = have(host, check=True, ref=ref)
    assert would.rc == 0 and f"would pull {ref}" in would.output
    assert host.run(f"docker image inspect {ref}", check=False).returncode != 0
    assert have(host, ref=ref).changed == {host.name: 1}
    assert have(host, ref=ref).changed == {host.name: 0}
    host.run(f"docker image rm --force {ref}")


def test_a_content_tag_becomes_a_digest_and_needs_no_registry_again(
    host: Any, registry: Any, pushed: Any, playbook: Callable[..., Any]
) -> None:
    tag = f"content-{'a1' * 16}"
    digest = pushed(tag)
    tasks = [
        {
            "ansible.builtin.include_role": {"name": "container_image"},
            "vars": {"container_image_ref": f"{registry.address}/small:{tag}"},
        },
        {"ansible.builtin.debug": {"msg": "is {{ __container_image_ref }}"}},
    ]
    plays = [{"name": "Test", "hosts": "all", "become": True, "gather_facts": False, "tasks": tasks}]
    inventory = sys.modules["fleet"].inventory([host])
    for changed in (1, 0):
        done = playbook(plays, inventory)
        assert done.rc == 0 and done.changed == {host.name: changed}
        assert f"is {registry.address}/small@{digest}" in done.output
        subprocess.run(["docker", "stop", "--time", "0", registry.container], check=True)
    subprocess.run(["docker", "start", registry.container], check=True)
    host.run(f"docker image rm --force {registry.address}/small@{digest}")


def test_an_image_that_the_registry_lacks_is_named(host: Any, have: Any, registry: Any) -> None:
    done = have(host, ref=f"{registry.address}/small@sha256:{'0' * 64}", retries=0)
    assert done.rc != 0 and "manifest unknown" in done.output


def test_an_image_is_built_once_from_its_content(host: Any, have: Any, tmp_path: Path) -> None:
    (tmp_path / "code" / "__pycache__").mkdir(parents=True)
    (tmp_path / "code" / "main.py").write_text("print('hello')\n")
    (tmp_path / "code" / "__pycache__" / "main.pyc").write_text("bytecode")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nARG GREETING\nLABEL greeting=${GREETING}\nCOPY code /code\n")
    variables = {
        "source": "build",
        "ref": "lefleet-test/built:1",
        "build_root": str(tmp_path),
        "build_paths": ["Dockerfile", "code"],
        "build_arguments": {"GREETING": "good day"},
    }
    would = have(host, check=True, **variables)
    assert would.rc == 0 and "would build lefleet-test/built:1" in would.output
    assert have(host, **variables).changed == {host.name: 1}
    assert have(host, **variables).changed == {host.name: 0}
    label = "docker image inspect --format '{{index .Config.Labels \"greeting\"}}' lefleet-test/built:1"
    assert host.run(label).stdout.strip() == "good day"
    host.run("docker create --name built lefleet-test/built:1 true")
    assert "pyc" not in host.run("docker export built | tar -t").stdout
    host.run("docker rm built; docker image rm lefleet-test/built:1")


def test_it_works_without_mitogen_too(host: Any, small: tuple[Path, str], play: Callable[..., Any]) -> None:
    path, image = small
    variables = {"container_image_source": "archive", "container_image_archive": str(path)}
    host.run(f"docker image rm --force {image}", check=False)
    for changed in (1, 0):
        done = play(["container_image"], [host], variables, environment={"ANSIBLE_STRATEGY": "linear"})
        assert done.rc == 0 and done.changed == {host.name: changed}
    host.run(f"docker image rm --force {image}")
