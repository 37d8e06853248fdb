"""Builds the JupyterLab extension and the widgets' component into the package, where that was not done before and Node is at hand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_BUILT = "cts_jupyter/labextension"
_WIDGETS = "cts_jupyter/widgets/static"
_INSTALLED = "share/jupyter/labextensions/cts-jupyter"
_COMMANDS = (("jlpm", "workspaces", "focus", "--production"), ("jlpm", "build"))


class LabExtensionHook(BuildHookInterface[Any]):
    """Packs the built extension; an installation from source without Node is told what it lacks."""

    @property
    def _is_built(self) -> bool:
        return (
            Path(self.root, _BUILT, "package.json").exists()
            and Path(self.root, _WIDGETS, "panel.js").exists()
        )

    def dependencies(self) -> list[str]:
        """Return what the build needs in its environment."""
        return [] if self._is_built or not shutil.which("node") else ["jupyter-builder>=1.3"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the extension if it is missing, and name its files."""
        # In an editable installation `make lab` builds it, and links it into the environment.
        if version == "editable":
            return
        if not self._is_built:
            self._build()
        if not self._is_built:
            return
        build_data["artifacts"] += [f"/{_BUILT}", f"/{_WIDGETS}"]
        if self.target_name == "wheel":
            build_data["shared_data"][_BUILT] = _INSTALLED

    def _build(self) -> None:
        try:
            for command in _COMMANDS:
                subprocess.run(  # noqa: S603 - commands of our own
                    command, cwd=Path(self.root, "labextension"), check=True
                )
        except (OSError, subprocess.CalledProcessError) as e:
            self.app.display_warning(
                f"The JupyterLab extension is left out, since it cannot be built here ({e}). Notebooks show jobs as "
                "snapshots instead of live cards, and have no panel. With Node on the path, or from a released wheel, it is there."
            )
