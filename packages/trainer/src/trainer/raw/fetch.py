"""The published files of sources, each held to its SHA-256: the pinned one, or the one of its first fetch."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainer.errors import DataError
from trainer.raw.download import Tell, Unreachable, download
from trainer.sources import Published, Source

#: In the folder of raw files: what was fetched, and its hashes.
LOCK = "fetched.json"

#: How files begin; what comes without a known hash is held to it, or an error page would be recorded as the file.
_BEGINNINGS = {".zip": (b"PK",), ".gz": (b"\x1f\x8b",), ".json": (b"[", b"{"), ".jsonl": (b"{",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What became of one file."""

    file: Published
    #: ``fetched``, ``already there``; with what is known of its hash.
    outcome: str = ""
    size: int = 0
    error: DataError | None = None

    @property
    def unreachable(self) -> bool:
        """Whether its server did not answer, so that somebody may have to bring the file by hand."""
        return isinstance(self.error, Unreachable)


def fetch(source: Source, folder: Path, *, tell: Tell, away: dict[str, Unreachable]) -> Iterator[Fetched]:
    """Bring each file of a source into a folder; yields what became of it as soon as that is known.

    ``away`` holds the servers that did not answer, so that each is tried once; give the same for all sources.
    """
    for file in source.published:
        host = urlsplit(file.url).netloc
        try:
            outcome = _fetched(file, folder, tell, away.get(host))
            yield Fetched(file=file, outcome=outcome, size=(folder / file.path).stat().st_size)
        except Unreachable as error:
            away[host] = error
            yield Fetched(file=file, error=error)
        except DataError as error:
            yield Fetched(file=file, error=error)
        except OSError as error:
            yield Fetched(file=file, error=DataError(f"{file.path} cannot be kept ({error.strerror or error})."))


def caution(licence: str) -> str:
    """What a licence forbids that people overlook, in a few words; empty where nothing is known of that kind."""
    if "NC" in licence.upper().replace("-", " ").split():
        return "no commercial use"
    return "licence unclear" if not licence or "unclear" in licence.lower() else ""


def known(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """Path -> what the lock file says of a file that was fetched or found."""
    at = folder / LOCK
    if not at.is_file():
        return {}
    try:
        return dict(json.loads(at.read_text(encoding="utf-8"))["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{at} cannot be read ({error}); move it away.") from None


def state(path: str, sha256: str, files: Iterable[Published], folder: Path) -> str:
    """How a raw file that was read compares with what is published: ``as pinned``, ``changed`` and the like."""
    for file in files:
        if Path(file.path).name == Path(path).name:
            if file.sha256:
                return "as pinned" if sha256 == file.sha256 else "not the pinned file"
            first = known(folder).get(file.path, {}).get("sha256", "")
            return "not pinned" if not first else "as first fetched" if sha256 == first else "not as first fetched"
    return "not a published file"


def _fetched(file: Published, folder: Path, tell: Tell, away: Unreachable | None) -> str:
    target = folder / file.path
    expected = file.sha256 or str(known(folder).get(file.path, {}).get("sha256", ""))
    if target.exists():
        found = _sha256(target)
        if expected and found != expected:
            raise DataError(
                f"{target} is there, but is not {_which(file)} (SHA-256 {found[:12]}, expected {expected[:12]}); "
                "move it away and repeat the command."
            )
        _note(folder, file, found, target.stat().st_size)
        return f"already there, {_held(file, expected)}"
    part = target.with_name(f"{target.name}.part")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise Unreachable("HF_HUB_OFFLINE is set.")
    if away:
        raise away
    part.parent.mkdir(parents=True, exist_ok=True)
    found = _downloaded(file, part, expected, tell)
    _note(folder, file, found, part.stat().st_size)
    part.replace(target)
    return f"fetched, {_held(file, expected)}"


def _downloaded(file: Published, part: Path, expected: str, tell: Tell) -> str:
    """Bring the file into its part, and return its SHA-256."""
    resumed = part.exists()
    if not (resumed and expected and _sha256(part) == expected):  # else an earlier call was stopped just before its end
        download(file.url, part, tell)
    found = _sha256(part)
    if expected and found != expected and resumed:  # two halves of two files, perhaps
        part.unlink()
        download(file.url, part, tell)
        found = _sha256(part)
    if expected and found != expected:
        part.unlink()
        remedy = "" if file.sha256 else f" To take it all the same, delete its entry in {LOCK}."
        raise DataError(
            f"{file.url} is not {_which(file)} (SHA-256 {found[:12]}, expected {expected[:12]}); "
            f"it was thrown away.{remedy}"
        )
    if not expected:
        _require_plausible(file, part)
    return found


def _require_plausible(file: Published, part: Path) -> None:
    suffix = Path(file.path).suffix
    with part.open("rb") as opened:
        start = opened.read(4096).lstrip()
    fits = not start.startswith(b"<") and start.startswith(_BEGINNINGS.get(suffix, (b"",)))
    if not fits or (suffix == ".zip" and not zipfile.is_zipfile(part)):
        part.unlink()
        raise DataError(f"{file.url} gives no {suffix.lstrip('.')} file, but {start[:30]!r}...; it was thrown away.")


def _which(file: Published) -> str:
    return "the pinned file" if file.sha256 else f"the file that was fetched first (see {LOCK})"


def _held(file: Published, expected: str) -> str:
    if file.sha256:
        return "as pinned"
    return "as first fetched" if expected else f"SHA-256 recorded in {LOCK}"


def _note(folder: Path, file: Published, sha256: str, size: int) -> None:
    """Write down a file's hash before it is in place, so that none lies there unknown."""
    noted = dict(known(folder))
    if noted.get(file.path, {}).get("sha256") == sha256:
        return
    today = datetime.now(UTC).date().isoformat()
    noted[file.path] = {"url": file.url, "sha256": sha256, "bytes": size, "date": today}
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{LOCK}.part"
    draft.write_text(json.dumps({"format": 1, "files": noted}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    draft.replace(folder / LOCK)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
