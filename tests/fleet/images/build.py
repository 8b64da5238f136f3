"""The images of a test's fleet: LeFleet's own by its own Dockerfiles, and stand-ins for those that production pulls.

Each has the tag of its content, so what did not change is not built again; `NAME:current` is the newest.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[2]
sys.path.insert(0, str(HERE.parent))

import fleet  # noqa: E402

SUITE = "trixie"
TRUST = Path("/etc/ssl/certs/ca-certificates.crt")
ARCHIVES = fleet.CACHE / "images"
# What no machine without a GPU misses; the rest of CUDA goes in agent-base.Dockerfile, because torch loads it.
WITHOUT_GPU = "triton cmake cuda-bindings nvidia-cuda-nvrtc nvidia-cusolver"


@dataclass(frozen=True, slots=True)
class Image:
    """How one image is built: `base` is the image that `base_arg` names; `inputs` are paths in `context`."""

    name: str
    dockerfile: Path
    base: str = "debian"
    base_arg: str = "BASE"
    context: Path = HERE
    inputs: tuple[str, ...] = ()
    arguments: dict[str, str] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """The files that the build copies, in order."""
        found = (self.context / path for path in self.inputs)
        every = (file for path in found for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
        return sorted(file for file in every if "__pycache__" not in file.parts)


def _shipped(name: str, base: str, base_arg: str, *inputs: str, **arguments: str) -> Image:
    """One of docker/; the agent's base image as it ships is `agent-full` here."""
    dockerfile = "agent-base" if name == "agent-full" else name
    return Image(name, REPO / "docker" / f"{dockerfile}.Dockerfile", base, base_arg, REPO, inputs, arguments)


IMAGES = {
    image.name: image
    for image in [
        Image("debian", HERE / "debian.Dockerfile", base=""),
        _shipped(
            "agent-full", "debian", "SYSTEM", "agent/requirements.txt", "docker/requirements.py", LEAVE_OUT=WITHOUT_GPU
        ),
        Image("agent-base", HERE / "agent-base.Dockerfile", base="agent-full", inputs=("cuda-stand-ins.py",)),
        _shipped("agent", "agent-base", "BASE", "agent/lefleet_agent", "agent/demo/checkpoint"),
        _shipped(
            "server", "debian", "SYSTEM", "server/requirements.txt", "docker/requirements.py", "server/lefleet_server"
        ),
        Image("postgres", HERE / "postgres.Dockerfile", inputs=("postgres-entrypoint",)),
        Image("caddy", HERE / "caddy.Dockerfile"),
        Image("registry", HERE / "registry.Dockerfile", inputs=("registry.yml",)),
        Image("prometheus", HERE / "prometheus.Dockerfile"),
    ]
}


def reference(name: str) -> str:
    """The image's name with the tag of its content and of everything below it."""
    image = IMAGES[name]
    digest = hashlib.sha256(f"{reference(image.base) if image.base else fleet.mirror()} {image.arguments}".encode())
    for file in [image.dockerfile, *image.files(), *([] if image.base else [TRUST])]:
        digest.update(f"{file.name} {file.stat().st_mode & 0o111}".encode())
        digest.update(file.read_bytes())
    return f"lefleet-test/{name}:{digest.hexdigest()[:16]}"


def build(name: str) -> str:
    """Build an image and those below it, where their content is new. Returns its reference."""
    fleet.ensure_engine()
    image, made = IMAGES[name], reference(name)
    if not fleet.image_exists(made):
        base = build(image.base) if image.base else fleet.bootstrap(SUITE)
        words = {image.base_arg: base, "VERSION": "test", "REVISION": made.rpartition(":")[2], **image.arguments}
        if image.base:
            _docker_build(made, image.dockerfile, image.context, words)
        else:
            with tempfile.TemporaryDirectory(prefix="lefleet-") as folder:
                shutil.copy(TRUST, Path(folder) / "trust.crt")
                _docker_build(made, image.dockerfile, Path(folder), words)
        _forget(name, made)
    fleet.run("docker", "tag", made, f"lefleet-test/{name}:current")
    return made


def _docker_build(name: str, dockerfile: Path, context: Path, arguments: dict[str, str]) -> None:
    text = dockerfile.read_text()
    declared = {key: value for key, value in arguments.items() if f"ARG {key}" in text}
    words = [word for key, value in declared.items() for word in ("--build-arg", f"{key}={value}")]
    print(f"images: build {name}", file=sys.stderr)
    done = fleet.run(
        "docker", "build", "--network", "host", "--force-rm", "--tag", name, "--file", dockerfile, *words, context,
        env={**os.environ, "DOCKER_BUILDKIT": "0"}, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise fleet.FleetError(f"{dockerfile.name} failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")


def _forget(name: str, newest: str) -> None:
    """Remove older builds; one that a container runs stays."""
    tags = fleet.run("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", f"lefleet-test/{name}").stdout
    for tag in set(tags.split()) - {newest}:
        fleet.run("docker", "image", "rm", tag, check=False)


def archive(name: str, folder: Path = ARCHIVES) -> Path:
    """The image as a file of `docker save`, made once; older ones of that name are removed."""
    made = build(name)
    path = folder / f"{name}-{made.rpartition(':')[2]}.tar"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        fleet.run("docker", "save", "--output", part, made)
        part.rename(path)
        for old in folder.glob(f"{name}-????????????????.tar"):
            if old != path:
                old.unlink()
    return path


def identity(name: str) -> str:
    """The image's id, `sha256:...`, of the newest build."""
    return str(fleet.run("docker", "image", "inspect", "--format", "{{.Id}}", build(name)).stdout.strip())


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Images to build; none: all.")] = None,
    show: Annotated[bool, typer.Option("--list", help="Print the names and sizes of what is built.")] = False,
    archives: Annotated[Path | None, typer.Option("--archive", help="Also save them into this folder.")] = None,
) -> None:
    unknown = sorted(set(names or ()) - IMAGES.keys())
    if unknown:
        raise typer.BadParameter(f"no image {', '.join(unknown)}; there are: {', '.join(IMAGES)}")
    for name in names or [name for name in IMAGES if name != "agent-full"]:
        if show:
            size = fleet.run(
                "docker", "image", "inspect", "--format", "{{.Size}}", reference(name), check=False
            ).stdout.strip()
            print(f"{reference(name):48} {f'{int(size) / 1e6:.0f} MB' if size else 'not built'}")
        else:
            print(archive(name, archives) if archives else build(name))


if __name__ == "__main__":
    try:
        typer.run(main)
    except fleet.FleetError as error:
        print(f"images: {error}", file=sys.stderr)
        raise SystemExit(1) from error
