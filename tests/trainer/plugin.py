"""Plugins as pip would install them, and the command line as tests call it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

#: Runs a command in an empty folder; exit code, standard output and standard error.
Cli = Callable[..., tuple[object, str, str]]


def put(place: Path, distribution: str, module: str, text: str, name: str = "riddles") -> None:
    """Install a distribution of one module with one entry point into a folder on the path of modules."""
    (place / f"{module}.py").write_text(text)
    metadata = place / f"{distribution.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[trainer.sources]\n{name} = {module}\n")
