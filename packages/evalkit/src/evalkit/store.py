"""The run folder: what was asked and answered, kept so that no crash can take it back."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evalkit import codec
from evalkit.errors import RunError
from evalkit.journal import parse_line
from evalkit.types import Record, Verdict

FORMAT = 1


class RunFolder:
    """One benchmark, model and setting: ``run.json``, ``responses*.jsonl``, ``records.jsonl``, ``summary.json``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """The run folder at a path; raises RunError where there is none that this version reads."""
        folder = cls(path)
        found = folder.manifest.get("format")
        if found != FORMAT:
            raise RunError(f"{path} has format {found!r}; this version of evalkit reads format {FORMAT}.")
        return folder

    @property
    def manifest(self) -> dict[str, Any]:
        """What ``run.json`` holds."""
        return self._read("run.json", "it is not a run folder")

    @property
    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` holds."""
        remedy = f"the run is not finished: repeat its command, or `evalkit score {self.path}` for what is there"
        return self._read("summary.json", remedy)

    @property
    def verified(self) -> dict[str, Any] | None:
        """How the verdicts were made that the last summary counted; None where there is no word of it."""
        return self.summary.get("verified") if (self.path / "summary.json").exists() else None

    def note(self, remarks: Iterable[str]) -> None:
        """Add remarks to the notes in ``run.json``, each once."""
        manifest = self.manifest
        notes = list(dict.fromkeys([*manifest.get("notes", ()), *remarks]))
        if notes != manifest.get("notes", []):
            _write(self.path / "run.json", [codec.pretty({**manifest, "notes": notes}).encode() + b"\n"])

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace ``summary.json``."""
        _write(self.path / "summary.json", [codec.pretty(summary).encode() + b"\n"])

    def write_records(self, records: Iterable[Record]) -> None:
        """Replace ``records.jsonl``; it comes into being whole or not at all."""
        _write(self.path / "records.jsonl", (codec.dumps(_record_out(record)) + b"\n" for record in records))

    def records(self) -> Iterator[dict[str, Any]]:
        """The lines of ``records.jsonl``, in example order."""
        path = self.path / "records.jsonl"
        if not path.exists():
            raise RunError(f"{self.path} has no records yet: repeat its command, or `evalkit score {self.path}`.")
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield parse_line(line, path, number)

    def _read(self, name: str, otherwise: str) -> dict[str, Any]:
        path = self.path / name
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise RunError(f"{self.path} has no {name}: {otherwise}.") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read ({error}).") from None
        if not isinstance(value, dict):
            raise RunError(f"{path} is damaged: it should hold one JSON object.")
        return value


def open_folder(out: Path, binds: Mapping[str, Any], besides: Mapping[str, Any], *, resume: Path | None) -> RunFolder:
    """The folder of the run that these settings bind, made when there is none yet.

    ``resume`` names the folder instead; raises RunError when it is bound to other settings.
    """
    if resume is not None:
        return _bound(resume, binds)
    path = out / binds["benchmark"].replace(":", "-") / f"{_label(binds['model'])}-{codec.digest(binds)[:8]}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not (path / "run.json").exists():
            manifest = {"format": FORMAT, "binds": binds, **besides}
            _write(path / "run.json", [codec.pretty(manifest).encode() + b"\n"])
    except OSError as error:
        raise RunError(f"Cannot write the run folder {path} ({error.strerror}); choose another with --out.") from None
    return _bound(path, binds)


def _bound(path: Path, binds: Mapping[str, Any]) -> RunFolder:
    folder = RunFolder.existing(path)
    if found := differences(folder.manifest.get("binds", {}), json.loads(codec.dumps(binds))):
        raise RunError(f"{path} is another run: it differs in {'; '.join(found)}.")
    return folder


def nearest(folder: RunFolder) -> tuple[Path, list[str]] | None:
    """The run of the same benchmark and model beside this one that differs in the fewest settings, and in which."""
    mine = folder.manifest["binds"]
    best: tuple[Path, list[str]] | None = None
    for path in sorted(folder.path.parent.iterdir()):
        if path == folder.path:
            continue
        try:
            theirs = RunFolder.existing(path).manifest["binds"]
            if any(theirs["model"][part] != mine["model"][part] for part in ("backend", "name")):
                continue
            found = differences(theirs, mine)
        except (RunError, KeyError):  # not a run, or a damaged one, which is no concern of this one
            continue
        if best is None or len(found) < len(best[1]):
            best = path, found
    return best


def differences(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """The settings in which two runs differ, ``seed (42 there, 7 here)``."""
    there, here = dict(_leaves(theirs)), dict(_leaves(mine))
    return [
        f"{name} ({_short(there.get(name))} there, {_short(here.get(name))} here)"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    ]


def machine() -> dict[str, str]:
    """What the run's numbers were made on."""
    return {"python": platform.python_version(), "system": platform.platform()}


def _verdict_out(verdict: Verdict) -> dict[str, Any]:
    """A verdict without what was measured: records are the same however often they are made."""
    return {"passed": verdict.passed, "reasons": verdict.reasons}


def _record_out(record: Record) -> dict[str, Any]:
    return {
        **codec.flat(record.example),
        "request": codec.flat(record.request),
        "response": codec.response_out(record.response),
        "answers": record.answers,
        **({"verdict": _verdict_out(record.verdict)} if record.verdict else {}),
        "scores": record.scores,
    }


def _write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file beside its place and move it there, so that a reader never meets half of it."""
    # In containers that share the folder, every process may bear the same number.
    draft = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}). Make room, then repeat the command.") from None
    finally:
        draft.unlink(missing_ok=True)


def _label(model: Mapping[str, Any]) -> str:
    """A model's name as a folder name."""
    name = str(model["name"]).rstrip("/").rsplit("/", 1)[-1] or str(model["backend"])
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:80].lstrip(".") or "model"


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, held in value.items():
        if isinstance(held, Mapping):
            yield from _leaves(held, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", held


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
