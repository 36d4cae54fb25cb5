"""evalkit measures language models; what plugin authors need is importable from here.

Names load when first used, so that ``evalkit --help`` pays for none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalkit.backend import Backend as Backend
    from evalkit.backend import Indexed as Indexed
    from evalkit.backend import Tokenizer as Tokenizer
    from evalkit.benchmark import Benchmark as Benchmark
    from evalkit.benchmark import Context as Context
    from evalkit.benchmark import Data as Data
    from evalkit.benchmark import File as File
    from evalkit.benchmark import Reading as Reading
    from evalkit.benchmark import Shots as Shots
    from evalkit.datasets import Row as Row
    from evalkit.datasets import Source as Source
    from evalkit.errors import DataError as DataError
    from evalkit.errors import EvalkitError as EvalkitError
    from evalkit.errors import ModelError as ModelError
    from evalkit.hookspecs import hookimpl as hookimpl
    from evalkit.types import Example as Example
    from evalkit.types import Finding as Finding
    from evalkit.types import GenerateRequest as GenerateRequest
    from evalkit.types import Generation as Generation
    from evalkit.types import Likelihood as Likelihood
    from evalkit.types import LikelihoodRequest as LikelihoodRequest
    from evalkit.types import Request as Request
    from evalkit.types import Text as Text
    from evalkit.types import Usage as Usage

_HOME = {
    "Backend": "backend",
    "Benchmark": "benchmark",
    "Context": "benchmark",
    "Data": "benchmark",
    "DataError": "errors",
    "EvalkitError": "errors",
    "Example": "types",
    "File": "benchmark",
    "Finding": "types",
    "GenerateRequest": "types",
    "Generation": "types",
    "Indexed": "backend",
    "Likelihood": "types",
    "LikelihoodRequest": "types",
    "ModelError": "errors",
    "Reading": "benchmark",
    "Request": "types",
    "Row": "datasets",
    "Shots": "benchmark",
    "Source": "datasets",
    "Text": "types",
    "Tokenizer": "backend",
    "Usage": "types",
    "hookimpl": "hookspecs",
}

__all__ = sorted(_HOME)  # noqa: PLE0605  (one list of names, not two)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"evalkit.{_HOME[name]}"), name)
    raise AttributeError(f"module 'evalkit' has no attribute {name!r}")
