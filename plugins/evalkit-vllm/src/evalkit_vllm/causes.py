"""Why an engine could not start or died, in one sentence with its remedy."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence

#: What stands in an error or among the last lines of the log -> what to do about it.
REMEDIES = (
    (
        r"no module named '?vllm",
        "pip install 'evalkit-vllm[engine]' there, or name the Python of an environment that has it with -M"
        " python=PATH",
    ),
    (
        r"torchvision::nms",
        "its torchvision does not fit its torch: pip uninstall torchvision torchaudio torchcodec there",
    ),
    (r"model architectures .* (are not supported|failed to be inspected)", "try the backend hf"),
    (
        r"out of memory|outofmemory|no available memory|free memory on device|available memory on node"
        r"|larger than the (maximum number of tokens|available kv cache)|kv cache is needed|not enough memory",
        "give it more or less of the memory with -M gpu_memory_utilization= or -M kv_cache_memory_bytes=, shorten"
        " -M max_model_len=, lower -M max_num_seqs=, or spread it with -M tensor_parallel_size=",
    ),
    (r"(bfloat16|float16|dtype).* (not supported|only supported)", "choose another -M dtype="),
    (r"address already in use", "another program holds the port: set VLLM_PORT or try again"),
    (
        r"unexpected keyword argument|validation errors? for",
        "see -M engine_args= and the options in `evalkit backends`",
    ),
    (r"divisible by tensor parallel size", "choose another -M tensor_parallel_size="),
)
#: The line of a traceback that says what was raised.
RAISED = re.compile(r"^(?:\([^)]*\) )?(?:ERROR [\d:. -]+\[[^\]]*\] )?([\w.]*(?:Error|Exception|Exit)\b.*)$")


def cause(failed: Mapping[str, str] | None, log: Sequence[str], code: int | None) -> str:
    """Why an engine ended: what it said itself, what its log says last, how its process ended; a part of a sentence."""
    said = failed["text"] if failed else ""
    told = _one_line(said)
    raised = [found.group(1) for line in log if (found := RAISED.match(line.strip()))]
    # An engine with workers only says that one of them failed; the reason is in what they printed.
    if raised and (not told or re.search(r"see root cause above|core proc\w* .*failed|worker", said, re.IGNORECASE)):
        told = next((one for one in raised if "root cause" not in one), told)
    if not told:
        told = _ended(code)
    where = f"{told} {said} {' '.join(raised)}"
    for pattern, remedy in REMEDIES:
        if re.search(pattern, where, re.IGNORECASE | re.DOTALL):
            return f"{told.rstrip('.')}; {remedy}"
    return told.rstrip(".")


def too_old(failed: Mapping[str, str]) -> bool:
    """Whether it was this vLLM's age."""
    return failed["kind"] == "OldVersionError"


def _one_line(said: str) -> str:
    # The first sentence says what is wrong, what follows is advice for callers of vLLM.
    first = re.split(r"(?<=[.!?]) (?=[A-Z])", " ".join(said.split()))[0]
    return first if len(first) <= 300 else f"{first[:300]} …"


def _ended(code: int | None) -> str:
    if code is None:
        return "it closed its line"
    if code == -signal.SIGKILL:
        return "its process was killed (signal 9), as systems do when memory runs out"
    if code < 0:
        return f"its process was ended by signal {-code}"
    return f"its process ended with exit code {code}"
