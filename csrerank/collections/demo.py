"""``csrerank/demo``: a small parallel collection of our own, in eight languages; it ships in the package, and the demo, the tests and the documentation use
it.
"""

import json
from functools import cache
from importlib.resources import files

from csrerank.collections.catalogue import Documentation
from csrerank.collections.parallel import Edition, Parallel, ParallelDoc, register_parallel
from csrerank.languages import DEMO

NAME = "demo"
TRACKS = {"x8": DEMO}
GRADES = {2: "answers the question", 1: "answers it in part", 0: "a near miss on the same subject"}


@cache
def _subjects() -> list[dict]:
    folder = files("csrerank.collections") / "demo_texts"
    return [json.loads(entry.read_text(encoding="utf-8")) for entry in sorted(folder.iterdir(), key=lambda entry: entry.name) if entry.name.endswith(".json")]


@cache
def edition(lang: str, unit: str) -> Edition:
    """The demo collection in one language. Passages are named ``<subject>-<number>``, topics ``<subject>-q1`` and ``-q2``; what is unjudged among a subject's
    own passages is a near miss (grade 0).
    """
    documents: list[ParallelDoc] = []
    topics: dict[str, str] = {}
    judgements: list[tuple[str, str, int]] = []
    for subject in _subjects():
        name = subject["subject"]
        for number, texts in subject["passages"].items():
            documents.append(ParallelDoc(f"{name}-{number}", texts[lang], texts[lang], lang, f"{name}-{number}"))
        for query, texts in subject["queries"].items():
            topics[f"{name}-{query}"] = texts[lang]
            grades = subject["qrels"][query]
            judgements += [(f"{name}-{query}", f"{name}-{number}", grades.get(number, 0)) for number in subject["passages"]]
            # A passage of another subject is named in full where it answers too.
            judgements += [(f"{name}-{query}", passage, grade) for passage, grade in grades.items() if "-" in passage]
    return Edition(documents, topics, judgements)


COLLECTION = Parallel(NAME, DEMO, edition, GRADES)


def register() -> None:
    """Register the 64 ordered pairs and the MLIR tracks ``x8-en``, ``en-x8``, ``x8-x8``."""
    register_parallel(COLLECTION, TRACKS, {"": "passages"}, Documentation(f"{NAME}.yaml"))
