"""What an engine is started with: its interpreter, its environment, and the arguments of vLLM."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import ModelError
from evalkit.types import Finding

#: Words of the name of a variable that holds a secret.
SECRET = re.compile(r"(^|_)(KEY|KEYS|TOKEN|TOKENS|SECRET|SECRETS|PASSWORD|PASSWD|PAT|CREDENTIAL|CREDENTIALS)(_|$)")
#: Those that give access to weights on the hub.
HUB = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"})
#: What an engine's variables are where the user has not set them.
DEFAULTS = {
    # The engine core within the engine's process: it starts several times faster, and evalkit does the work that
    # vLLM's own front end would do beside it.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "PYTHONUNBUFFERED": "1",
}


def interpreter(python: str | None) -> list[str]:
    """The command of the Python that runs an engine; raises ModelError where there is none.

    Another environment's Python ignores this one's PYTHONPATH.
    """
    if python is None:
        return [sys.executable, "-P"]
    found = shutil.which(python) or (shutil.which(str(Path(python, "bin", "python"))) if os.sep in python else None)
    if found is None:
        raise ModelError(f"There is no program {python}: python= names the Python of an environment that has vLLM.")
    return [found, "-I"]


def findings(python: str | None) -> Iterator[Finding]:
    """An error where vLLM cannot be run, as far as that can be seen without starting it."""
    try:
        interpreter(python)
    except ModelError as error:
        yield Finding(level="error", text=str(error), remedy="Correct -M python=.")
    if python is None and importlib.util.find_spec("vllm") is None:
        yield Finding(
            level="error",
            text="There is no vLLM beside evalkit.",
            remedy="pip install 'evalkit-vllm[engine]', or name the Python of an environment that has it: -M python=.",
        )


def environments(source: str, *, replicas: int, devices: int, eager: bool) -> list[dict[str, str]]:
    """The environment of each engine: without secrets, and with its own part of the visible devices.

    ``devices`` is how many one engine needs. Raises ModelError where CUDA_VISIBLE_DEVICES names too few.
    """
    kept = {name: value for name, value in os.environ.items() if _is_kept(name, source)}
    shared = {**DEFAULTS, **kept}
    if eager:
        # Some of its functions are compiled even so, a minute each with a C++ compiler.
        shared.setdefault("TORCHDYNAMO_DISABLE", "1")
    if replicas == 1:
        return [shared]
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    counted = [str(one) for one in range(replicas * devices)]
    all_devices = counted if named is None else [one for one in named.split(",") if one]
    if all_devices and len(all_devices) < replicas * devices:
        raise ModelError(
            f"data_parallel_size={replicas} needs {replicas * devices} devices, and CUDA_VISIBLE_DEVICES names"
            f" {len(all_devices)}."
        )
    parts = [all_devices[one * devices : (one + 1) * devices] for one in range(replicas)]
    return [{**shared, "CUDA_VISIBLE_DEVICES": ",".join(part)} for part in parts]


def _is_kept(name: str, source: str) -> bool:
    if name in HUB:
        return not Path(source).is_dir()
    return not SECRET.search(name.upper())


def require_positive(**sizes: int | None) -> None:
    """Raise ModelError for a size that is given and below 1."""
    for name, value in sizes.items():
        if value is not None and value < 1:
            raise ModelError(f"{name}={value} cannot work: give 1 or more.")


def read_arguments(text: str) -> dict[str, Any]:
    """The JSON object of ``engine_args``; raises ModelError where it is none."""
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise ModelError(
            f"engine_args is not JSON ({error}): write -M engine_args='{{\"cpu_offload_gb\": 8}}'."
        ) from None
    if not isinstance(found, dict):
        raise ModelError("engine_args must be a JSON object: write -M engine_args='{\"cpu_offload_gb\": 8}'.")
    return found


def arguments(source: str, named: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``vllm.LLM``: those of options that were given, and the others; raises ModelError on a clash."""
    if both := sorted({*named, "model", "data_parallel_size"} & set(others)):
        raise ModelError(f"engine_args may not hold {both[0]}: it is an option of its own.")
    given = {name: value for name, value in named.items() if value is not None}
    return {"model": source, **given, **others}
