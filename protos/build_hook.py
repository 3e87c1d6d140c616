"""Lets an installation generate the proto code, and a distribution bring the built page: neither is committed."""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Generate(BuildHookInterface):  # type: ignore[misc]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        runpy.run_path(str(root / "protos" / "generate.py"))["generate"](root, root)
        # From a work tree the page is built by `make`, when its sources have changed.
        if self.target_name == "wheel" and version == "standard":
            runpy.run_path(str(root / "services" / "gateway" / "web" / "build.py"))["main"]([])
