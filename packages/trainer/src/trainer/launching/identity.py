"""What a rank was started with: settings, data, model, code and versions, as short texts that ranks can compare."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import trainer
from trainer.preparation import prepared
from trainer.training.settings import Settings

#: Folders may lie elsewhere on another machine: what is in them is compared, not where they are.
_PLACES = ("model", "data", "held_out")
_DISTRIBUTIONS = ("torch", "transformers", "deepspeed", "peft", "numpy")
#: Bytes at the start and at the end of a file of weights that stand for all of it; a header is within the first.
_SAMPLE = 1 << 16


def card(settings: Settings) -> dict[str, str]:
    """Everything that must be the same on all ranks, by the name that a message gives it.

    Raises DataError where the prepared data, or TrainerError where the model's folder, cannot be read.
    """
    own = {key: str(value) for key, value in asdict(settings).items() if key not in _PLACES}
    return {
        **own,
        "the prepared data": _prepared(settings.data),
        "the held-out data": _prepared(settings.held_out) if settings.held_out else "none",
        "the model": model(Path(settings.model)),
        "the newest checkpoint": _newest(Path(settings.out)),
        "trainer's code": _code(),
        "Python": platform.python_version(),
        **{name: _version(name) for name in _DISTRIBUTIONS},
    }


def model(folder: Path) -> str:
    """A short hash of a model's folder: its small files whole, of weights their sizes, starts and ends.

    What is no folder stands for itself, as a hub's id would.
    """
    if not folder.is_dir():
        return str(folder)
    found = hashlib.sha256()
    for file in sorted(one for one in folder.iterdir() if one.is_file() and not one.name.startswith(".")):
        size = file.stat().st_size
        found.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            found.update(stream.read(_SAMPLE))
            stream.seek(max(_SAMPLE, size - _SAMPLE))
            found.update(stream.read(_SAMPLE))
    return found.hexdigest()[:12]


def _prepared(folder: str) -> str:
    return str(prepared.read_manifest(Path(folder))["key"])[:12]


def _newest(out: Path) -> str:
    names = [one.name for one in out.glob("checkpoints/step-*") if one.suffix != ".part"]
    return max(names, default="none")


def _code() -> str:
    home = Path(str(trainer.__file__)).parent
    found = hashlib.sha256()
    for file in sorted(one for one in home.rglob("*") if one.suffix in {".py", ".jinja"}):
        content = file.read_bytes()
        found.update(f"{file.relative_to(home).as_posix()}\0{len(content)}\0".encode() + content)
    return found.hexdigest()[:12]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
