"""Generates the Python code of all protos beside them: `python protos/generate.py [OUTPUT_FOLDER]`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def generate(root: Path, out: Path) -> None:
    """Run protoc over `root`/protos/**/*.proto and write modules and type stubs below `out`.

    Raises subprocess.CalledProcessError when a proto is wrong; protoc has then printed file and line.
    """
    protos = sorted(str(path.relative_to(root)) for path in (root / "protos").rglob("*.proto"))
    # Beside this Python, or, in pip's isolated build, wherever PATH leads.
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "--proto_path=.",
            f"--plugin=protoc-gen-mypy={shutil.which('protoc-gen-mypy', path=places)}",
            f"--plugin=protoc-gen-mypy_grpc={shutil.which('protoc-gen-mypy_grpc', path=places)}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out=quiet:{out}",
            f"--mypy_grpc_out=quiet:{out}",
            *protos,
        ],
        cwd=root,
        check=True,
    )


if __name__ == "__main__":
    repository = Path(__file__).resolve().parent.parent
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else repository
    target.mkdir(parents=True, exist_ok=True)
    generate(repository, target.resolve())
