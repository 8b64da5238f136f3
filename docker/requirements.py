"""The pinned requirements that are to come from the package index: `requirements.py FILE [NAME|WHEEL]...`.

Whoever brings a torch of their own brings it for the CUDA of their machine: the libraries of the index's torch, which
are pinned there too, are left out with it. Prints the rest.
"""

import re
import sys
from pathlib import Path

CUDA_OF_TORCH = re.compile(r"(nvidia|cuda)-|triton$")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def remaining(lines: list[str], left_out: list[str]) -> list[str]:
    """The requirements whose project is not left out; each of `left_out` is a project's name or a wheel's file name."""
    out = {normal(Path(word).name.split("-")[0] if word.endswith(".whl") else word) for word in left_out}
    kept = []
    for line in lines:
        name = normal(re.split(r"[ =<>~!;\[]", line, maxsplit=1)[0])
        if name and not name.startswith("#") and name not in out and not ("torch" in out and CUDA_OF_TORCH.match(name)):
            kept.append(line)
    return kept


if __name__ == "__main__":
    file, *words = sys.argv[1:]
    print("\n".join(remaining(Path(file).read_text().splitlines(), words)))
