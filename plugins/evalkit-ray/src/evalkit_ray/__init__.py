"""Backend `ray`: replicas of any other backend, on one machine or on a Ray cluster."""

from __future__ import annotations

from evalkit.hookspecs import hookimpl
from evalkit_ray.backend import Ray

__all__ = ["Ray", "backend"]


@hookimpl
def backend() -> type[Ray]:
    """Return the class that answers requests."""
    return Ray
