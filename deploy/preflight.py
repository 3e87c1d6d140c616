"""Says in one sentence each what this machine lacks for an installation, and the way out. Standard library only.

    python3 deploy/preflight.py

Runs with whatever Python there is, so it keeps to what Python 3.7 understands. Exit code 0: nothing is missing.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from pathlib import Path

PYTHON = (3, 11)
DISK_BYTES = 4 * 1024**3
CUDA_DISK_BYTES = 12 * 1024**3
GLIBC = (2, 31)
MACHINES = ("x86_64", "aarch64")


def missing(root: Path) -> list[str]:
    """One sentence for each thing that is missing for an installation in the folder `root`."""
    installed = (root / ".venv" / ".installed").exists()
    found = [
        check_python(tuple(sys.version_info[:2])),
        check_venv([name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]),
        "" if installed else check_disk(shutil.disk_usage(str(root)).free),
        check_platform(platform.system(), platform.machine(), platform.libc_ver()),
    ]
    return [sentence for sentence in found if sentence]


def check_python(version: tuple[int, ...]) -> str:
    """Empty if this Python is new enough."""
    if version >= PYTHON:
        return ""
    wanted = dotted(PYTHON)
    return f"Python {dotted(version)} is too old; install Python {wanted} or newer and run: make PYTHON=python{wanted}"


def check_venv(absent: list[str]) -> str:
    """Empty if no module that makes virtual environments is absent."""
    if not absent:
        return ""
    package = f"python{dotted(tuple(sys.version_info[:2]))}-venv"
    modules = " and ".join(absent)
    return f"Python lacks the standard module {modules}; on Debian and Ubuntu run: apt-get install {package}"


def check_disk(free_bytes: int) -> str:
    """Empty if an installation fits."""
    if free_bytes >= DISK_BYTES:
        return ""
    free, wanted = f"{free_bytes / 1024**3:.1f}", DISK_BYTES // 1024**3
    return f"only {free} GiB of disk are free here and an installation needs {wanted}; free some or use a larger disk"


def check_platform(system: str, machine: str, libc: tuple[str, str]) -> str:
    """Empty if the embedded servers and the wheels run here."""
    if system != "Linux" or machine not in MACHINES:
        return f"the embedded servers run on Linux on x86_64 or aarch64, not on {system} on {machine}; use a container"
    name, version = libc
    wanted = f"a distribution with glibc {dotted(GLIBC)} or newer, for example Debian 12"
    if name != "glibc":
        return f"this Linux has another C library than glibc; use {wanted}"
    if tuple(int(part) for part in version.split(".")[:2]) < GLIBC:
        return f"glibc {version} is too old; use {wanted}"
    return ""


def advice(root: Path) -> str:
    """A hint that stops nothing; empty if there is none to give."""
    if (root / ".venv").exists() or platform.machine() != "x86_64" or Path("/dev/nvidiactl").exists():
        return ""
    if shutil.disk_usage(str(root)).free >= CUDA_DISK_BYTES:
        return ""
    return (
        "there is no NVIDIA GPU and little disk here; if pip begins to download CUDA packages, stop it and run make "
        "with TORCH_INDEX= and the address of PyTorch's index of CPU builds"
    )


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def main() -> int:
    """Prints what is missing; the exit code."""
    root = Path(__file__).resolve().parent.parent
    hint = advice(root)
    if hint:
        print(f"note: {hint}")
    sentences = missing(root)
    for sentence in sentences:
        print(f"missing: {sentence}", file=sys.stderr)
    return 1 if sentences else 0


if __name__ == "__main__":
    sys.exit(main())
