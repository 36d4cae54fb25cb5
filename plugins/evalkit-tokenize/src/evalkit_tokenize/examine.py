"""What a dry run says of a checkpoint: weights that are not whole, a template that does not open the model's turn."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from evalkit.errors import ModelError
from evalkit.types import Finding
from evalkit_tokenize.memory import header
from evalkit_tokenize.tokenizer import CheckpointTokenizer

#: How a file begins that stands in for a large one which was not fetched.
POINTER = b"version https://git-lfs"


def weight_findings(folder: Path) -> Iterator[Finding]:
    """An error for each file of weights that is missing or not whole; sizes and headers are read, no weights."""
    named: set[str] = set()
    for index in (*folder.glob("*.safetensors.index.json"), *folder.glob("*.bin.index.json")):
        try:
            named.update(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            yield _error(f"{index} cannot be read.", "Copy it there anew.")
    if missing := sorted(name for name in named if not (folder / name).exists()):
        yield _error(
            f"{folder} lacks {len(missing)} of the {len(named)} files of its weights, {missing[0]} among them.",
            "Copy them there, or download the model anew.",
        )
    for file in sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin")):
        if problem := _problem(file):
            yield problem


def template_findings(tokenizer: CheckpointTokenizer) -> Iterator[Finding]:
    """A warning where the template does not open the model's turn as it stands before the answers of a conversation.

    A template may need no opening: some end the user's turn with the mark behind which the answer stands.
    """
    user, answer = {"role": "user", "content": "question"}, {"role": "assistant", "content": "the-answer"}
    try:
        asked, bare = (tokenizer.as_chat([user], opened=opened) for opened in (True, False))
        whole, found, _ = tokenizer.as_chat([user, answer], opened=False).partition("the-answer")
    except ModelError:  # it may know no assistant, and need not
        return
    lacking = whole.removeprefix(asked)
    if asked == bare and found and whole.startswith(asked) and lacking.strip():
        yield Finding(
            level="warning",
            text=f"The chat template has no generation prompt: the model's turn is not opened with {lacking!r}.",
            remedy="Write it at the template's end behind `if add_generation_prompt`; give that by --chat-template.",
        )


def _problem(file: Path) -> Finding | None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if stream.read(len(POINTER)) == POINTER:
            return _error(f"{file} is a pointer of Git LFS, not the weights.", "Fetch them: git lfs pull.")
    if file.suffix == ".safetensors":
        try:
            ends = [tensor["data_offsets"][1] for tensor in header(file).values()]
        except (ModelError, KeyError, IndexError, TypeError):
            return _error(f"{file} is no safetensors file, or a damaged one.", "Copy it there anew.")
        with file.open("rb") as stream:
            whole = 8 + int.from_bytes(stream.read(8), "little") + max(ends, default=0)
        if size < whole:
            return _error(f"{file} is cut off: it has {size:,} of {whole:,} bytes.", "Copy it there anew.")
    elif not zipfile.is_zipfile(file) and not _is_old(file):
        return _error(f"{file} is cut off or damaged.", "Copy it there anew.")
    return None


def _is_old(file: Path) -> bool:
    """Whether torch wrote the file before 1.6: a pickle, which says nothing of its length."""
    with file.open("rb") as stream:
        return stream.read(1) == b"\x80"


def _error(text: str, remedy: str) -> Finding:
    return Finding(level="error", text=text, remedy=remedy)
