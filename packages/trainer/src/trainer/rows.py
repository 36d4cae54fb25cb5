"""Rows from the files that a dataset's publisher offers: JSON lists, JSON lines, TSV, gzipped or in a zip archive."""

from __future__ import annotations

from pathlib import Path


class Files:
    """A folder of raw files, or one file; remembers the SHA-256 of what was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
