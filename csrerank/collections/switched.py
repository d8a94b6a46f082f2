"""``csrerank/en-qa/validation/muse/{q}-{d}``: the validation part with its words swapped through MUSE dictionaries, so that training can be watched across
languages without a test topic.

MUSE is for non-commercial use: it makes validation texts only, on the user's machine, and nothing that ships.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import regex

from csrerank.collections import en_qa
from csrerank.collections.catalogue import Documentation, MemoryDocs, MemoryQrels, MemoryQueries, download_md5, downloads, register_once

LANGUAGES = tuple(pair.removeprefix("en-") for pair in download_md5("muse"))
_WORD = regex.compile(r"\p{L}[\p{L}\p{M}]*")


@cache
def dictionary(lang: str) -> dict[str, str]:
    """MUSE's first translation of each English word, lower-cased, into ``lang``."""
    words: dict[str, str] = {}
    with downloads("muse")[f"en-{lang}"].stream() as stream:
        for line in stream:
            source, _, target = line.decode().strip().replace("\t", " ").partition(" ")
            words.setdefault(source, target)
    return words


def switched(text: str, lang: str) -> str:
    """``text`` with every word that MUSE has (lower-cased) replaced by its first translation; English stays as it is. Everything else keeps its place."""
    if lang == "en":
        return text
    words = dictionary(lang)
    return _WORD.sub(lambda match: words.get(match[0].lower(), match[0]), text)


def _documents(lang: str) -> Callable[[], Iterator[Any]]:
    def load() -> Iterator[Any]:
        for document in en_qa.documents(en_qa.part(en_qa.CORE, "validation"), "sentences"):
            yield document._replace(text=switched(document.text, lang), context=switched(document.context, lang))

    return load


def _topics(lang: str) -> Callable[[], Iterator[Any]]:
    from ir_datasets.formats import GenericQuery

    return lambda: (GenericQuery(question.id, switched(question.text, lang)) for question in en_qa.part(en_qa.CORE, "validation"))


def register() -> None:
    """Register ``en-x``, ``x-en`` and ``x-x`` for each language x that MUSE's downloads cover."""
    documentation = Documentation("en-qa.yaml")
    for lang in LANGUAGES:
        for query, document in (("en", lang), (lang, "en"), (lang, lang)):
            name = f"{en_qa.NAME}/validation/muse/{query}-{document}"
            qrels = MemoryQrels(lambda: en_qa.judgements(en_qa.part(en_qa.CORE, "validation"), "sentences"), {1: "holds an answer"})
            register_once(
                name,
                MemoryDocs(_documents(document), f"{en_qa.NAME}/muse/{document}", document, en_qa.EnQaDoc),
                MemoryQueries(_topics(query), name, query),
                qrels,
                documentation("muse"),
            )
