"""The model card of a checkpoint, in the form that the Hugging Face hub and sentence-transformers read."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from csrerank.languages import LANGUAGES


def write_card(
    directory: Path,
    *,
    base: str | None,
    training: Mapping[str, str],
    limits: Sequence[str],
    licence: str = "apache-2.0",
    languages: Iterable[str] = LANGUAGES,
    datasets: Iterable[str] = (),
) -> Path:
    """Write ``README.md`` into ``directory``: what it was made from (``base``, a hub name, or None), how (``training``: name to value, as it happened), and what
    it is not good for. ``licence`` is the hub's name of one, by default that of the checkpoint that ships, as are the ``languages`` (ISO 639-1). ``datasets`` are names with at most one slash, as the hub has them.
    """
    codes = "\n".join(f"- {code}" for code in sorted(languages))
    rows = "\n".join(f"| {name} | {' '.join(value.split()).replace('|', chr(92) + '|')} |" for name, value in training.items())
    trained_on = "datasets:\n" + "".join(f"- {name}\n" for name in datasets) if datasets else ""
    origin = f"base_model: {base}\n" if base else ""
    card = f"""---
pipeline_tag: text-ranking
library_name: sentence-transformers
tags:
- sentence-transformers
- cross-encoder
- reranker
license: {licence}
{origin}{trained_on}metrics:
- mrr
language:
{codes}
---

# A csrerank cross-encoder

Scores a query with a passage: one logit, higher is better. It loads with transformers, sentence-transformers' CrossEncoder and rerankers without csrerank.

| | |
|---|---|
{rows}

## Limits

{chr(10).join(f"- {limit}" for limit in limits)}
"""
    path = directory / "README.md"
    path.write_text(card, encoding="utf-8")
    return path
