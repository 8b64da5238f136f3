"""Writes empty stand-ins for the CUDA libraries that torch is linked with: `cuda-stand-ins.py SITE_PACKAGES OUT`.

The index's torch for Python 3.12+ is the CUDA build, which does not load without them; without a GPU none of their
functions is ever called. Each stand-in has its library's name and the functions, with versions, that torch asks for.
"""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

# By size; what is small stays as it is, the CUDA runtime too: it says that there is no GPU.
LIBRARIES = ["cublasLt", "cublas", "cufft", "cusparseLt", "nccl", "cusparse", "curand", "nvJitLink", "nvshmem_host"]


def symbols(library: Path, *options: str) -> set[str]:
    """Names of dynamic symbols, `name@@version` or `name`."""
    found = subprocess.run(["nm", "-D", *options, str(library)], capture_output=True, text=True, check=True)
    return {line.split()[-1].replace("@@", "@") for line in found.stdout.splitlines()}


def write(library: Path, wanted: set[str], folder: Path) -> None:
    versions = defaultdict(list)
    for symbol in sorted(symbols(library, "--defined-only") & wanted):
        name, _, version = symbol.partition("@")
        if name != version:
            versions[version].append(name)
    names = [name for group in versions.values() for name in group]
    (folder / "stand-in.c").write_text("".join(f"void {name}(void) {{}}\n" for name in names))
    script = "".join(
        f"{version} {{ global: {'; '.join(group)}; }};\n" for version, group in sorted(versions.items()) if version
    )
    (folder / "stand-in.map").write_text(script)
    out = folder / library.relative_to(library.parents[2])
    out.parent.mkdir(parents=True, exist_ok=True)
    words = [f"-Wl,--version-script={folder / 'stand-in.map'}"] if script else []
    command = ["gcc", "-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{library.name}", *words]
    subprocess.run([*command, "-o", str(out), str(folder / "stand-in.c")], check=True)
    print(
        f"{library.name}: {len(names)} functions, {library.stat().st_size / 1e6:.0f} MB -> {out.stat().st_size} bytes"
    )


def main() -> None:
    packages, folder = map(Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {symbol for library in packages.glob("torch/lib/*.so*") for symbol in symbols(library, "--undefined-only")}
    for name in LIBRARIES:
        for library in packages.glob(f"nvidia/*/lib/lib{name}.so.*"):
            write(library, wanted, folder)


main()
