"""How much of a sandbox this machine gives, found out by starting one and letting canaries loose in it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from evalkit.errors import EvalkitError
from evalkit.types import Finding
from evalkit_sandbox import canaries
from evalkit_sandbox.canaries import Canary
from evalkit_sandbox.inside import kernel, seccomp
from evalkit_sandbox.inside.layers import LAYERS, Limits
from evalkit_sandbox.sandbox import Sandbox
from evalkit_sandbox.worker import is_root

#: Consents to running code without a proven sandbox, together with ``--unsafe-code``.
CONSENT = "EVALKIT_UNSAFE_CODE"

LEVELS = {
    "A": "programs run in namespaces of their own, behind a filter of system calls, within limits",
    "B": "programs run behind a filter of system calls, within limits, but see the machine's own namespaces",
    "C": "programs can reach what they must not",
}

#: What each layer does.
DOES = {
    "uid": "programs are not root's",
    "namespaces": "own processes, files, network, memory segments; nothing of the machine is in sight",
    "landlock": "no file, port or process but the few that are named",
    "capabilities": "no right over the namespaces",
    "rlimits": "bounds on memory, time, files, threads",
    "seccomp": "no system call but those a calculation needs",
    "hidden": "no memory that another process could read",
}
#: How to have a layer where it is missing.
_CURES = {
    "uid": "let evalkit's container keep the capabilities SETUID and SETGID, or run it as an ordinary user",
    "namespaces": "allow unprivileged user namespaces (on Ubuntu with sysctl "
    "kernel.apparmor_restrict_unprivileged_userns=0, elsewhere with user.max_user_namespaces above 0, in Docker with "
    "--security-opt seccomp=unconfined --security-opt apparmor=unconfined)",
    "landlock": "use Linux 5.13 or newer with landlock among the modules that the boot parameter lsm= names",
    "seccomp": "use Linux on x86_64 or aarch64 with CONFIG_SECCOMP_FILTER, or a container or virtual machine of it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a machine gives."""

    level: str
    layers: frozenset[str]
    #: Layer that is not there -> why.
    missing: Mapping[str, str]
    #: Canary -> what became of it.
    canaries: Mapping[str, str]
    #: Canaries that got what they must not have, or did not get what they must.
    holes: tuple[str, ...]

    def cure(self, layer: str) -> str:
        """How to have a layer that is missing."""
        return _CURES[layer]

    def record(self, limits: Limits) -> dict[str, Any]:
        """What a run folder keeps of it."""
        note = "programs of the model ran without a sandbox"
        return {
            **({"notes": [note]} if self.level == "C" else {}),
            "sandbox": self.level,
            "layers": [layer for layer in LAYERS if layer in self.layers],
            "missing": dict(self.missing),
            "holes": list(self.holes),
            "limits": limits._asdict(),
            "kernel": platform.release(),
            "landlock": kernel.landlock_abi(),
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "machine": platform.machine(),
            "version": version("evalkit-sandbox"),
        }


def prove(layers: Collection[str] = LAYERS) -> Standing:
    """Start a sandbox with as many of the layers as this machine gives, and see what canaries can do in it.

    Raises EvalkitError where no program can be run at all.
    """
    if sys.platform != "linux":
        raise EvalkitError("Programs can be run on Linux only: use a virtual machine or a container of it.")
    wanted, missing = _offered(layers)
    with canaries.planted() as flock:
        while True:
            try:
                with Sandbox(layers=wanted, workers=1) as box:
                    return _standing(box, flock, _honest(box, flock), missing)
            except EvalkitError as error:
                doubtful = next((layer for layer in ("namespaces", "seccomp") if layer in wanted), None)
                if doubtful is None:
                    raise EvalkitError(f"No program can be run here, not even without a sandbox. {error}") from None
                missing[doubtful] = str(error).partition(": ")[2].rstrip(".")
                wanted -= {doubtful}


def require(standing: Standing, *, unsafe_code: bool) -> None:
    """Raise EvalkitError below level B, unless the user has consented in both ways and is not root."""
    if standing.level in ("A", "B"):
        return
    holes = ", ".join(standing.holes) or "nothing was tried"
    cures = "; or ".join(_CURES[layer] for layer in standing.missing) or "see `evalkit sandbox check`"
    if is_root():
        raise EvalkitError(
            f"Programs would run without a sandbox, as root's: they can {holes}. That is refused. To mend it: {cures}."
        )
    if not unsafe_code or os.environ.get(CONSENT) != "yes":
        raise EvalkitError(
            f"Programs would run without a sandbox: they can {holes}. To mend it: {cures}. To go on all the same, give "
            f"--unsafe-code and set {CONSENT}=yes, both."
        )


def findings(standing: Standing) -> Iterator[Finding]:
    """What a dry run says of a sandbox that is good enough but not the best; of level C, ``require`` speaks."""
    if standing.level == "B":
        cures = "; or ".join(_CURES[layer] for layer in standing.missing)
        yield Finding(
            level="note",
            text=f"The sandbox here is of level B: {LEVELS['B']}.",
            remedy=f"For level A: {cures or 'see `evalkit sandbox check`'}.",
        )


def _offered(layers: Collection[str]) -> tuple[frozenset[str], dict[str, str]]:
    """The layers that there is any use in trying, and why not the others."""
    missing = {}
    if not kernel.landlock_abi():
        missing["landlock"] = "the kernel has no Landlock, or keeps it switched off"
    try:
        seccomp.program(platform.machine())
    except KeyError:
        missing["seccomp"] = f"there is no list of system calls for {platform.machine()}"
    unneeded = set() if is_root() else {"uid"}
    return frozenset(layers) - missing.keys() - unneeded, missing


def _honest(box: Sandbox, flock: list[Canary]) -> dict[str, str]:
    """Let the honest canaries go first; raises EvalkitError where they cannot even begin."""
    found = _released(box, [one for one in flock if one.honest])
    for name, reason in found.items():
        if reason != "passed":
            raise EvalkitError(f"A right program does not pass: {name!r} ends as {reason!r}.")
    return found


def _released(box: Sandbox, flock: list[Canary]) -> dict[str, str]:
    return {one.name: box.run(one.program, limits=one.limits).reason for one in flock}


def _standing(box: Sandbox, flock: list[Canary], honest: Mapping[str, str], missing: Mapping[str, str]) -> Standing:
    found = {**honest, **_released(box, [one for one in flock if not one.honest])}
    holes = tuple(one.name for one in flock if not one.honest and found[one.name] == "passed")
    level = "C" if holes or "seccomp" not in box.layers else "A" if "namespaces" in box.layers else "B"
    return Standing(level=level, layers=box.layers, missing=missing, canaries=found, holes=holes)
