"""csrerank: re-rank runs across languages with cross-encoders trained on code-switched text. Public names load at first use."""

from importlib import import_module
from typing import Any

_NAMES = {
    "Reranker": "csrerank.models.reranker",
    "Settings": "csrerank.models.reranker",
    "InputError": "csrerank.errors",
    "rerank_run": "csrerank.rerank",
    "read_run": "csrerank.trec",
    "write_run": "csrerank.trec",
    "read_qrels": "csrerank.trec",
    "evaluate": "csrerank.evaluation",
    "parse_measure": "csrerank.evaluation",
    "register": "csrerank.collections",
}
__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'csrerank' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
