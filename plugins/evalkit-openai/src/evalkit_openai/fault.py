"""What can go wrong with one call, sorted by what to do about it.

Again        try again: a limit, an outage, an answer that got lost
Refused      this request fails, the others go on
Unfit        a parameter that the model does not take
EvalkitError the run ends: nothing else would be answered either
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from typing import Any, Literal

from evalkit.errors import Interrupted, ModelError
from evalkit_openai.settings import Settings

#: What a server may be asked to leave alone, by the names that its refusals use.
PARAMETERS = (
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_logprobs",
    "logprobs",
    "top_p",
    "seed",
    "stop",
    "echo",
    "n",
)
_TOO_LONG = re.compile(
    r"context.{0,4}(length|size|window)|exceed_context_size|too many (input )?tokens|(prompt|input) is too long"
    r"|max_model_len|at most \d+ completion tokens",
    re.I,
)
_FILTERED = re.compile(r"content.?(filter|policy|management)|responsible.?ai|safety system", re.I)
_QUOTA = re.compile(r"insufficient_quota|billing|exceeded your current quota", re.I)
_TOO_LARGE = re.compile(r"request too large", re.I)
_NO_MODEL = re.compile(r"model_not_found|model .{0,80}(does not exist|not found)", re.I)


class Again(Exception):
    """A call that failed in a way that another try may mend."""

    def __init__(
        self,
        text: str,
        *,
        kind: Literal["limited", "unreachable", "broken"],
        wait: float | None = None,
        lost: bool = False,
    ) -> None:
        super().__init__(text)
        self.kind = kind
        #: Seconds that the server asks to wait.
        self.wait = wait
        #: The server may have answered, and will be paid for it.
        self.lost = lost
        #: Those of the refusal, in small letters.
        self.headers: Mapping[str, str] = {}


class Refused(Exception):
    """A request that the server will never answer."""


class Unfit(Exception):
    """A parameter that the model refuses."""

    def __init__(self, parameter: str, text: str) -> None:
        super().__init__(text)
        self.parameter = parameter


def of_connection(error: Exception) -> Again:
    """The fault of a call that got no whole answer."""
    cause = error.__cause__ or error
    name = type(cause).__name__
    if name in ("ConnectError", "ConnectTimeout"):
        return Again(f"no connection ({cause})", kind="unreachable")
    if isinstance(cause, TimeoutError) or "Timeout" in name:
        return Again("no answer in time", kind="broken", lost=name != "PoolTimeout")
    return Again(f"the connection broke ({str(cause) or name})", kind="broken", lost=True)


def of_status(status: int, body: Any, headers: Mapping[str, str], settings: Settings) -> Exception:
    """The fault that a status other than 200 stands for; ``body`` is what the server said, in whatever form."""
    text, marks = _said(body)
    told = f"{status}: {text}" if text else str(status)
    where = f"The server at {settings.host}"
    wait = retry_after(headers)
    if status in (401, 403):
        return ModelError(f"{where} refuses the key ({told}). Set a valid one in the environment; see -M key_env=NAME.")
    if status == 402 or (status == 429 and _QUOTA.search(marks)):
        return Interrupted(f"{where} wants to be paid ({told}). Mend that, then repeat the command to go on.")
    if status == 404 or (400 <= status < 500 and _NO_MODEL.search(marks)):
        return ModelError(f"{where} has no model {settings.model!r} at this address ({told}). Check name and base_url.")
    if status == 429:
        too_large = Refused(f"The request is larger than the rate limit allows ({told}).")
        return too_large if _TOO_LARGE.search(text) else Again(told, kind="limited", wait=wait)
    if status in (408, 409, 425) or (status >= 500 and status not in (501, 505)):
        return Again(told, kind="broken", wait=wait, lost=status == 504)
    return _of_refusal(told, text, marks, body)


def _of_refusal(told: str, text: str, marks: str, body: Any) -> Exception:
    if _TOO_LONG.search(marks):
        return Refused(f"The prompt and its answer are too long for the model ({told}).")
    if _FILTERED.search(marks):
        return Refused(f"The server's content filter refused the prompt ({told}).")
    named = body.get("param") if isinstance(body, Mapping) else None
    if named in PARAMETERS:
        return Unfit(str(named), told)
    for parameter in PARAMETERS:
        if re.search(rf"['\"`]{parameter}['\"`]", text):
            return Unfit(parameter, told)
    return Refused(f"The server refuses the request ({told}).")


def of_body(body: Mapping[str, Any], settings: Settings) -> Exception:
    """The fault that a server reports with status 200."""
    error = body.get("error")
    code = error.get("code") if isinstance(error, Mapping) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return of_status(status, error, {}, settings)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, by any of the headers in use; None where it does not say."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, ValueError):
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError, TypeError):
        return None


def _said(body: Any) -> tuple[str, str]:
    """A server's own sentence, in one line, and all the text by which to know it."""
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
        body = body["error"]
    if isinstance(body, Mapping):
        text = str(body.get("message") or "")
        marks = f"{text} {body.get('code')} {body.get('type')}"
    else:
        text = marks = "" if body is None else str(body)
    return " ".join(text.split())[:300].rstrip("."), marks
