"""Role jetson_containers: one host builds, proves and publishes the agent's image; all run exactly that one."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
OPEN, CLOSED = "172.29.77.251", "172.29.77.253"
# What the agent's command line needs; torch and LeRobot are stand-ins here (the whole fleet's test runs the real ones).
NEEDED = [
    "annotated-doc", "annotated-types", "anyio", "certifi", "click", "h11", "httpcore", "httpx", "idna", "lz4",
    "markdown-it-py", "mcap", "mdurl", "numpy", "pydantic", "pydantic-core", "pydantic-settings", "pygments",
    "python-dotenv", "pyyaml", "rich", "safetensors", "shellingham", "structlog", "typer", "typing-extensions",
    "typing-inspection", "zstandard",
]  # fmt: skip


def module(name: str) -> Any:
    """A module of images/, once."""
    full = f"fleet_images_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, HERE / "images" / f"{name}.py")
        assert spec and spec.loader
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", folder, "-c", "user.name=Test", "-c", "user.email=test@example.org", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A repository with what the role uses of jetson-containers, and its two commits."""
    folder = tmp_path_factory.mktemp("upstream")
    tool = '#!/bin/bash\nROOT="$(dirname "$(readlink -f "$0")")"\n'
    tool += '. "$ROOT/venv/bin/activate"\n[ "$1" != root ] || echo $ROOT\n'
    for name in ("jetson-containers", "autotag"):
        (folder / name).write_text(tool)
        (folder / name).chmod(0o755)
    (folder / ".env.default").write_text("# settings\n")
    (folder / ".gitignore").write_text("venv\n.env\n__pycache__\n")
    (folder / "jetson_containers").mkdir()
    (folder / "jetson_containers" / "__init__.py").write_text("import yaml\n")
    (folder / "jetson_containers" / "tag.py").write_text("print('usage: autotag')\n")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    commits = []
    for number in (1, 2):
        (folder / "README").write_text(f"{number}\n")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", str(number))
        commits.append(git(folder, "rev-parse", "HEAD"))
    git(folder, "update-server-info")
    return folder, commits


@dataclass(frozen=True)
class Fixture:
    builder: Any
    other: Any
    registry: Any
    closed: Any


@pytest.fixture(scope="module")
def two(fleet: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fixture]:
    """Two hosts with Docker that trust the registry: open at one address, with a password at another."""
    builder, other = fleet.host("h4-builder"), fleet.host("h4-other")
    folder, registries = tmp_path_factory.mktemp("registry"), module("registry")
    image = module("build").build("registry")
    opened = registries.start(image, "lefleet-fleet", OPEN, folder)
    closed = registries.start(image, "lefleet-fleet", CLOSED, folder, authenticated=True)
    for host in (builder, other):
        host.run("apt-get update && apt-get install --yes --no-install-recommends docker.io", timeout_s=600)
        runtimes = {"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}
        host.write("/etc/docker/daemon.json", json.dumps(runtimes))
        for registry in (opened, closed):
            host.run(f"mkdir -p /etc/docker/certs.d/{registry.address}")
            host.write(f"/etc/docker/certs.d/{registry.address}/ca.crt", registry.authority)
        host.run("systemctl restart docker")
    builder.run("mkdir -p /etc/lefleet/server/secrets")
    builder.write("/etc/lefleet/server/secrets/registry_password", registries.PASSWORD + "\n")
    yield Fixture(builder, other, opened, closed)
    opened.close()
    closed.close()


@pytest.fixture(scope="module")
def system(two: Fixture) -> str:
    """The stand-in for NVIDIA's l4t-jetpack image, by digest."""
    archive = module("build").archive("debian")
    subprocess.run(["docker", "cp", archive, f"{two.builder.container}:/root/debian.tar"], check=True)
    name = f"{two.closed.address}/l4t-jetpack:r36.4.3"
    reference = module("build").reference("debian")
    two.builder.run(
        f"docker load -qi /root/debian.tar && rm /root/debian.tar && docker tag {reference} {name} &&"
        f"docker login -u {module('registry').USER} -p {module('registry').PASSWORD} {two.closed.address} &&"
        f"docker push -q {name} && docker logout {two.closed.address} && docker image rm {name} {reference}",
        timeout_s=600,
    )
    return f"{two.registry.address}/l4t-jetpack@{two.registry.digest('l4t-jetpack', 'r36.4.3')}"


def wheel(folder: Path, name: str, version: str, code: str) -> None:
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        info = f"{name}-{version}.dist-info"
        file.writestr(f"{name}/__init__.py", code)
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeFleet's repository as far as the images need it, with a torch of its own that sees no GPU."""
    folder = tmp_path_factory.mktemp("source")
    skipped = shutil.ignore_patterns("__pycache__")
    for path in ("docker", "agent/lefleet_agent", "agent/demo/checkpoint"):
        shutil.copytree(REPO / path, folder / path, ignore=skipped)
    pinned = (REPO / "agent" / "requirements.txt").read_text().splitlines()
    lines = [line for line in pinned if re.split("[ =]", line)[0] in {*NEEDED, "torch", "nvidia-cublas", "triton"}]
    assert len(lines) == len(NEEDED) + 3
    (folder / "agent" / "requirements.txt").write_text("\n".join(lines) + "\n")
    set_gpu(folder, False)
    wheel(folder / "docker" / "wheels", "lerobot", "0.6.1", "")
    return folder


def set_gpu(folder: Path, available: bool) -> None:
    code = f"class cuda:\n    @staticmethod\n    def is_available(): return {available}\n"
    code += "class version: cuda = '12.6'\n__version__ = '2.11.0'\n"
    wheel(folder / "docker" / "wheels", "torch", "2.11.0", code)


@pytest.fixture
def provide(play: Callable[..., Any], two: Fixture, source: Path, system: str) -> Callable[..., Any]:
    """Plays the role for the agent's image alone, with a base image of its own build."""

    def run(*hosts: Any, check: bool = False, **variables: Any) -> Any:
        own = {
            "checkout": False,
            "registry": two.registry.address,
            "push_registry": two.closed.address,
            "registry_secret_host": two.builder.name,
            "builder": two.builder.name,
            "base_source": "build",
            "l4t_image": system,
            "source_dir": str(source),
            **variables,
        }
        named = {f"jetson_containers_{name}": value for name, value in own.items()}
        return play(["jetson_containers"], hosts or [two.builder, two.other], named, check=check)

    return run


# --- the checkout -----------------------------------------------------------------------------------------------------


def checkout(upstream: tuple[Path, list[str]], host: Any, commit: int = 0) -> dict[str, Any]:
    """Variables for a checkout from a copy of the repository on the host."""
    folder, commits = upstream
    if not host.exists("/srv/upstream"):
        subprocess.run(["docker", "cp", f"{folder}", f"{host.container}:/srv/upstream"], check=True)
        host.run("chown -R root:root /srv/upstream")
        bundle = Path("/etc/ssl/certs/ca-certificates.crt")
        subprocess.run(["docker", "cp", bundle, f"{host.container}:/root/trust.crt"], check=True)
    return {
        "jetson_containers_agent": False,
        "jetson_containers_repo": "/srv/upstream",
        "jetson_containers_version": commits[commit],
        "jetson_containers_python_packages": ["PyYAML==6.0.3"],
        "jetson_containers_environment": {"PIP_CERT": "/root/trust.crt"},
    }


def test_check_mode_on_a_bare_host_says_what_it_would_check_out(
    two: Fixture, upstream: tuple[Path, list[str]], play: Callable[..., Any]
) -> None:
    done = play(["jetson_containers"], [two.other], checkout(upstream, two.other), check=True, diff=True)
    assert done.rc == 0 and "would check out /srv/upstream at" in done.output
    assert not two.other.exists("/mnt/lefleet/jetson-containers")


def test_the_tools_are_usable_and_a_second_run_changes_nothing(
    two: Fixture, upstream: tuple[Path, list[str]], play: Callable[..., Any]
) -> None:
    variables = checkout(upstream, two.other)
    assert play(["jetson_containers"], [two.other], variables).rc == 0
    assert two.other.run("cd / && jetson-containers root").stdout.strip() == "/mnt/lefleet/jetson-containers"
    two.other.run("mv /srv/upstream /srv/away")  # a run asks no git server for what it has
    second = play(["jetson_containers"], [two.other], variables)
    two.other.run("mv /srv/away /srv/upstream")
    assert second.rc == 0 and second.changed == {two.other.name: 0}


def test_another_commit_is_checked_out(
    two: Fixture, upstream: tuple[Path, list[str]], play: Callable[..., Any]
) -> None:
    done = play(["jetson_containers"], [two.other], checkout(upstream, two.other, commit=1))
    assert done.rc == 0 and done.changed == {two.other.name: 1}
    assert two.other.read("/mnt/lefleet/jetson-containers/README") == "2\n"


def test_a_checkout_that_broke_off_is_finished(
    two: Fixture, upstream: tuple[Path, list[str]], play: Callable[..., Any]
) -> None:
    two.other.run("cd /mnt/lefleet/jetson-containers && rm -r jetson-containers jetson_containers venv")
    assert play(["jetson_containers"], [two.other], checkout(upstream, two.other, commit=1)).rc == 0
    assert two.other.run("jetson-containers root").stdout.strip() == "/mnt/lefleet/jetson-containers"


def test_verify_finds_tools_that_do_not_start(
    two: Fixture, upstream: tuple[Path, list[str]], play: Callable[..., Any]
) -> None:
    two.other.run("echo 'import nothing_of_that_name' > /mnt/lefleet/jetson-containers/jetson_containers/tag.py")
    variables = checkout(upstream, two.other, commit=1)
    done = play(["jetson_containers"], [two.other], variables, tags=["jetson_containers_verify"])
    assert done.rc != 0 and "nothing_of_that_name" in done.output
    two.other.run("git -C /mnt/lefleet/jetson-containers checkout --quiet .")
    assert play(["jetson_containers"], [two.other], variables, tags=["jetson_containers_verify"]).rc == 0


# --- wrong variables --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"l4t_image": "l4t-jetpack:r36.4.0"}, "NVIDIA's l4t-jetpack image"),
        ({"base_source": "registry", "base_image": "lerobot:latest"}, "jetson_containers_base_image=lerobot:latest"),
        ({"base_source": "archive", "base_archive": "/nowhere.tar"}, "no such file on the controller"),
        ({"builder": "nobody"}, "jetson_containers_builder=nobody is no host of the inventory"),
        ({"registry": "https://server/"}, "must be host:port"),
        ({"checkout": True, "version": "dd206bf"}, "all its 40 digits"),
    ],
)
def test_wrong_variables_are_refused_with_a_sentence(
    two: Fixture, provide: Callable[..., Any], variables: dict[str, Any], sentence: str
) -> None:
    done = provide(two.builder, **variables)
    assert done.rc != 0 and sentence in " ".join(done.output.split())


# --- the agent's image ------------------------------------------------------------------------------------------------


def agents(host: Any) -> set[str]:
    """The agent's images on a host, by digest."""
    form = "{{.Repository}}@{{.Digest}}"
    lines = host.run(f"docker image ls --digests --format '{form}' '*/lefleet/agent'").stdout.split()
    return {line for line in lines if "<none>" not in line}


def test_check_mode_builds_and_pushes_nothing(two: Fixture, provide: Callable[..., Any]) -> None:
    done = provide(check=True)
    assert done.rc == 0 and done.output.count("would build") == 2 and "would push" in done.output
    assert "would pull" in done.output
    assert two.registry.tags("lefleet/agent") == set()


def test_an_image_whose_torch_sees_no_gpu_is_neither_published_nor_used(
    two: Fixture, provide: Callable[..., Any]
) -> None:
    done = provide()
    words = " ".join(done.output.split())
    assert done.failed == {two.builder.name: 1, two.other.name: 1}
    assert "torch does not see the GPU of h4-builder" in words and '"available": false' in words
    assert "the builder h4-builder has not built this version yet" in words
    assert two.registry.tags("lefleet/agent-base") | two.registry.tags("lefleet/agent") == set()
    # What was built lies in wait for a better torch.
    assert "agent-base" in two.builder.run("docker image ls").stdout


def test_one_host_builds_and_all_pull_the_same_digest(two: Fixture, provide: Callable[..., Any], source: Path) -> None:
    set_gpu(source, True)
    first = provide()
    assert first.rc == 0
    (tag,) = two.registry.tags("lefleet/agent")
    wanted = f"{two.registry.address}/lefleet/agent@{two.registry.digest('lefleet/agent', tag)}"
    assert wanted in agents(two.builder) and agents(two.other) == {wanted}
    assert "lefleet-agent" in two.other.run(f"docker run --rm --network none {wanted} --help").stdout
    assert (
        "nvidia-cublas" not in two.other.run(f"docker run --rm --network none --entrypoint pip {wanted} freeze").stdout
    )  # the wheels bring their own CUDA
    second = provide()
    assert second.rc == 0 and second.changed == {two.builder.name: 0, two.other.name: 0}


def test_the_password_is_left_nowhere(two: Fixture, provide: Callable[..., Any]) -> None:
    assert "not-a-secret" not in provide().output
    found = two.builder.run("grep -rls auths /root/.docker /tmp/lefleet-* 2>/dev/null", check=False).stdout
    assert "config.json" not in found or CLOSED not in two.builder.run("cat /root/.docker/config.json").stdout


def test_a_new_host_needs_no_builder_while_the_registry_has_the_image(
    two: Fixture, provide: Callable[..., Any]
) -> None:
    two.other.run("docker image ls -q | xargs docker image rm --force")
    two.builder.cut()
    try:
        done = provide()
    finally:
        two.builder.join()
        two.builder.wait()
    assert done.unreachable[two.builder.name] == 1
    assert done.failed[two.other.name] == 0 and done.changed[two.other.name] == 1
    assert len(agents(two.other)) == 1


def test_new_code_gets_a_small_layer_on_the_same_base(two: Fixture, provide: Callable[..., Any], source: Path) -> None:
    bases = two.registry.tags("lefleet/agent-base")
    (source / "agent" / "lefleet_agent" / "new.py").write_text("# new\n")
    done = provide()
    # The builder names the base as the registry has it, builds, pushes and pulls; the other pulls.
    assert done.rc == 0 and done.changed == {two.builder.name: 4, two.other.name: 1}
    assert two.registry.tags("lefleet/agent-base") == bases and len(two.registry.tags("lefleet/agent")) == 2


def test_a_run_that_broke_off_before_the_push_is_continued(
    two: Fixture, provide: Callable[..., Any], source: Path
) -> None:
    (source / "agent" / "lefleet_agent" / "new.py").write_text("# newer\n")
    subprocess.run(["docker", "stop", "--time", "0", two.closed.container], check=True)
    broken = provide()
    subprocess.run(["docker", "start", two.closed.container], check=True)
    assert broken.failed == {two.builder.name: 1, two.other.name: 1}
    done = provide()
    assert done.rc == 0 and done.changed == {two.builder.name: 2, two.other.name: 1}  # pushed, pulled; pulled
    assert len(two.registry.tags("lefleet/agent")) == 3


def test_a_jetson_alone_makes_its_image_without_a_registry(two: Fixture, provide: Callable[..., Any]) -> None:
    alone = {"registry": "", "push_registry": "", "builder": "", "registry_secret_host": ""}
    first = provide(two.builder, **alone)
    assert first.rc == 0
    second = provide(two.builder, **alone)
    assert second.rc == 0 and second.changed == {two.builder.name: 0}
