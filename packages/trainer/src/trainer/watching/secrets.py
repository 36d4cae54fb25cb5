"""What must never stand in a log: passwords, keys and tokens in the texts that users and their commands write."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

#: What stands in a secret's place.
STRUCK = "***"

_NAME = r"(?:[\w-]*[_-]|api)?(?:key|token|secret|passw(?:or)?d|credential)s?"
#: ``NAME=value``, ``--name value`` and ``name: value``, the name ending in a word for something secret; plain numbers
#: are none (``max_tokens=512``).
_NAMED = re.compile(
    rf"""(?ix) ((?<![\w-]) (?:--?)? {_NAME} (?: ["']?\s*[=:]\s* | \s+(?=["']?[^\s-]*\d) ) ["']?)
    (?! [\d,.]+ (?![^\s"',}}]) ) ([^\s"']+)"""
)
#: Keys that can be told by their own form, of services that training and evaluation talk to.
_FORMS = re.compile(r"\b(?:sk-|hf_|ghp_|github_pat_|glpat-|xox[abp]-|AKIA)[\w-]{12,}")
_BEARER = re.compile(r"(?i)(bearer\s+)[\w.~+/=-]{8,}")
_ADDRESS = re.compile(r"(\w+://)[^/\s:@]*:[^/\s@]+@")
_SECRET_VARIABLE = re.compile(r"(?i)(^|_)(key|token|secret|passw(or)?d|credentials?)s?(_|$)")


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """A text with its secrets struck out, those included that environment variables hold by their names."""
    values = os.environ if environment is None else environment
    hidden = {value for name, value in values.items() if len(value) >= 8 and _SECRET_VARIABLE.search(name)}
    for value in sorted(hidden, key=len, reverse=True):
        text = text.replace(value, STRUCK)
    text = _ADDRESS.sub(rf"\1{STRUCK}@", text)
    text = _BEARER.sub(rf"\1{STRUCK}", text)
    return _NAMED.sub(rf"\1{STRUCK}", _FORMS.sub(STRUCK, text))
