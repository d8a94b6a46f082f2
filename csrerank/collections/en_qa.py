"""``csrerank/en-qa``: English questions with the passages that answer them, for training, as sentences and as paragraphs, split by article and kept clear of
XQuAD-R.
"""

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from csrerank.collections.catalogue import Documentation, MemoryDocPairs, MemoryDocs, MemoryQrels, MemoryQueries, downloads, register_once
from csrerank.collections.sampling import SEED, uniform

NAME = "en-qa"
CORE = ("squadshifts/new_wiki", "tydiqa/en/train", "nq-open-oracle")
SHIFTS = ("squadshifts/reddit", "squadshifts/amazon_reviews")
SHORT = {
    "squadshifts/new_wiki": "wiki",
    "tydiqa/en/train": "tydi",
    "nq-open-oracle": "nq",
    "squadshifts/reddit": "reddit",
    "squadshifts/amazon_reviews": "amazon",
}
VALIDATION_SHARE = 0.06  # of the articles
NGRAM = 8


class Passage(NamedTuple):
    """A paragraph: ``sentences`` are spans ``(start, end)`` of ``text``."""

    id: str
    article: str
    text: str
    sentences: tuple[tuple[int, int], ...]


class Question(NamedTuple):
    """A question, the paragraph that answers it, and the places in that paragraph's ``sentences`` which hold an answer."""

    id: str
    text: str
    passage: Passage
    answers: frozenset[int]


class Overlap(NamedTuple):
    """What the check against XQuAD-R dropped, in questions: by article title, by question, by shared 8-gram."""

    titles: int
    questions: int
    ngrams: int


class Questions(NamedTuple):
    """The questions that stay, and what was dropped."""

    questions: list[Question]
    duplicates: int
    unanswered: int
    overlap: Overlap


def normalised(text: str) -> str:
    """Case-folded words with single spaces between them: what questions and titles are compared by."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def ngrams(text: str, n: int = NGRAM) -> set[str]:
    """The word n-grams of ``normalised(text)``."""
    words = normalised(text).split()
    return {" ".join(words[start : start + n]) for start in range(len(words) - n + 1)}


def split_sentences(text: str) -> tuple[tuple[int, int], ...]:
    """Spans of the sentences of an English text, white space at their ends left out (pysbd's rules)."""
    import pysbd

    spans = []
    for span in _segmenter(pysbd).segment(text):
        start = span.start + len(span.sent) - len(span.sent.lstrip())
        end = span.start + len(span.sent.rstrip())
        if end > start:
            spans.append((start, end))
    return tuple(spans) or ((0, len(text)),)


@cache
def _segmenter(pysbd: Any) -> Any:
    return pysbd.Segmenter(language="en", clean=False, char_span=True)


class _Raw(NamedTuple):
    id: str
    question: str
    article: str
    context: str
    spans: list[tuple[int, int]]


def _squad(source: str) -> Iterator[_Raw]:
    with downloads(NAME)[source].stream() as stream:
        content = json.load(stream)
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            text = paragraph["context"]
            for qa in paragraph["qas"]:
                spans = [(answer["answer_start"], answer["answer_start"] + len(answer["text"])) for answer in qa["answers"] if answer["text"]]
                yield _Raw(qa["id"].replace(" ", "_"), qa["question"].strip(), article["title"].replace("_", " "), text, spans)


def _nq(source: str) -> Iterator[_Raw]:
    with downloads(NAME)[source].stream() as stream, gzip.open(stream, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            record = json.loads(line)
            gold = next(context for context in record["ctxs"] if context["isgold"])
            # Answers come as strings here, not as places: take the places where they stand as words.
            spans = [match.span() for answer in record["answers"] for match in re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", gold["text"], re.IGNORECASE)]
            yield _Raw(f"nq-{number}", record["question"].strip(), gold["title"], gold["text"], spans)


def _xquad() -> tuple[set[str], set[str], set[str]]:
    with downloads("xquad-r")["en"].stream() as stream:
        content = json.load(stream)
    titles = {normalised(article["title"].replace("_", " ")) for article in content["data"]}
    paragraphs = [paragraph for article in content["data"] for paragraph in article["paragraphs"]]
    questions = {normalised(qa["question"]) for paragraph in paragraphs for qa in paragraph["qas"]}
    return titles, questions, set().union(*(ngrams(paragraph["context"]) for paragraph in paragraphs))


@cache
def questions(sources: tuple[str, ...]) -> Questions:
    """All questions of ``sources``, first come first kept: duplicates (same normalised question), questions whose answer stands nowhere in the paragraph,
    and everything that overlaps XQuAD-R (same article title, same question, or a paragraph that shares an 8-gram) are dropped and counted."""
    titles, asked, shared = _xquad()
    seen: set[str] = set()
    passages: dict[str, Passage] = {}
    kept: list[Question] = []
    duplicates = unanswered = by_title = by_question = by_ngram = 0
    numbers = dict.fromkeys(sources, 0)
    overlapping: dict[str, bool] = {}
    for source in sources:
        for raw in _nq(source) if source.startswith("nq") else _squad(source):
            key = normalised(raw.question)
            if raw.context not in overlapping:
                overlapping[raw.context] = not shared.isdisjoint(ngrams(raw.context))
            if normalised(raw.article) in titles:
                by_title += 1
            elif key in asked:
                by_question += 1
            elif overlapping[raw.context]:
                by_ngram += 1
            elif key in seen:
                duplicates += 1
            else:
                if raw.context not in passages:
                    # Reddit and Amazon have no articles; a passage stands for its own.
                    article = raw.article if source in CORE else f"{SHORT[source]}-{numbers[source]}"
                    passages[raw.context] = Passage(f"{SHORT[source]}-{numbers[source]}", article, raw.context, split_sentences(raw.context))
                    numbers[source] += 1
                passage = passages[raw.context]
                # A sentence holds an answer when the answer's first character lies in it.
                places = frozenset(place for place, (start, end) in enumerate(passage.sentences) for first, _ in raw.spans if start <= first < end)
                if not places:
                    unanswered += 1
                    continue
                seen.add(key)
                kept.append(Question(raw.id, raw.question, passage, places))
    return Questions(kept, duplicates, unanswered, Overlap(by_title, by_question, by_ngram))


def remaining_overlap(sources: tuple[str, ...]) -> Overlap:
    """What the kept questions still share with XQuAD-R; every figure must be 0. Computed anew from the kept texts, not from the filter's own record."""
    titles, asked, shared = _xquad()
    kept = questions(sources).questions
    return Overlap(
        sum(normalised(question.passage.article) in titles for question in kept),
        sum(normalised(question.text) in asked for question in kept),
        sum(not shared.isdisjoint(ngrams(question.passage.text)) for question in kept),
    )


def is_validation(article: str) -> bool:
    """Whether an article belongs to the fixed validation part: a draw keyed by its title."""
    return uniform("en-qa validation", SEED, normalised(article)) < VALIDATION_SHARE


def part(sources: tuple[str, ...], split: str) -> list[Question]:
    """The questions of ``train`` or ``validation``."""
    return [question for question in questions(sources).questions if is_validation(question.passage.article) == (split == "validation")]


def passages_of(chosen: Iterable[Question]) -> list[Passage]:
    """Each paragraph once, in order."""
    return list({question.passage.id: question.passage for question in chosen}.values())


class EnQaDoc(NamedTuple):
    """A sentence with its paragraph as context, or (under ``paragraphs``) the paragraph twice."""

    doc_id: str
    text: str
    context: str
    title: str

    def default_text(self) -> str:
        """The text alone; context is an option of the caller's."""
        return self.text


def documents(chosen: Iterable[Question], unit: str) -> Iterator[EnQaDoc]:
    """The paragraphs of ``chosen`` as documents, or their sentences, named ``<paragraph>-<place>``."""
    for passage in passages_of(chosen):
        if unit == "paragraphs":
            yield EnQaDoc(passage.id, passage.text, passage.text, passage.article)
        else:
            for place, (start, end) in enumerate(passage.sentences):
                yield EnQaDoc(f"{passage.id}-{place}", passage.text[start:end], passage.text, passage.article)


def judgements(chosen: Iterable[Question], unit: str) -> Iterator[tuple[str, str, int]]:
    """Qrels: the paragraph, or each of its sentences that holds an answer."""
    for question in chosen:
        if unit == "paragraphs":
            yield question.id, question.passage.id, 1
        else:
            for place in sorted(question.answers):
                yield question.id, f"{question.passage.id}-{place}", 1


def docpairs(chosen: Sequence[Question], unit: str) -> Iterator[tuple[str, str, str]]:
    """Training pairs (topic, relevant, other): each relevant document with four others (Litschko et al. 2023: one to four), two of the same article where it has
    that many, the rest from anywhere, drawn by keyed numbers.
    """
    everything = list(documents(chosen, unit))
    by_article: dict[str, list[str]] = {}
    for document in everything:
        by_article.setdefault(document.title, []).append(document.doc_id)
    relevant: dict[str, list[str]] = {}
    for topic, name, _ in judgements(chosen, unit):
        relevant.setdefault(topic, []).append(name)
    for question in chosen:
        holding = relevant[question.id]
        near = [name for name in by_article[question.passage.article] if name not in holding]
        others = sorted(near, key=lambda name: uniform("docpairs", SEED, question.id, name))[:2]
        attempt = 0
        while len(others) < min(4, len(everything) - len(holding)):
            other = everything[int(uniform("docpairs", SEED, question.id, attempt) * len(everything))].doc_id
            attempt += 1
            if other not in others and other not in holding:
                others.append(other)
        for name in holding:
            yield from ((question.id, name, other) for other in others)


def register() -> None:
    """Register ``csrerank/en-qa/{train,validation}`` (sentences), ``.../paragraphs/...``, and the same for the questions that lean on their context under
    ``csrerank/en-qa/shifts/...``.
    """
    from ir_datasets.formats import GenericQuery

    documentation = Documentation(f"{NAME}.yaml")
    register_once(NAME, documentation("_"))
    for prefix, sources in (("", CORE), ("shifts/", SHIFTS)):
        for unit in ("sentences", "paragraphs"):
            for split in ("train", "validation"):
                name = f"{NAME}/{prefix}{'paragraphs/' if unit == 'paragraphs' else ''}{split}"
                chosen = _Lazy(sources, split)
                register_once(
                    name,
                    MemoryDocs(chosen.documents(unit), name, "en", EnQaDoc),
                    MemoryQueries(chosen.queries(GenericQuery), name, "en"),
                    MemoryQrels(chosen.judgements(unit), {1: "holds an answer"}),
                    MemoryDocPairs(chosen.docpairs(unit)),
                    documentation(f"{prefix}{split}"),
                )


class _Lazy:
    """Loads a part when a handler is first asked, so that registering reads nothing."""

    def __init__(self, sources: tuple[str, ...], split: str) -> None:
        self._sources, self._split = sources, split

    def documents(self, unit: str) -> Any:
        return lambda: documents(part(self._sources, self._split), unit)

    def queries(self, query_cls: Any) -> Any:
        return lambda: (query_cls(question.id, question.text) for question in part(self._sources, self._split))

    def judgements(self, unit: str) -> Any:
        return lambda: judgements(part(self._sources, self._split), unit)

    def docpairs(self, unit: str) -> Any:
        return lambda: docpairs(part(self._sources, self._split), unit)
