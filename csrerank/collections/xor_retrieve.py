"""``csrerank/xor-retrieve``: XOR-TyDi's development questions in seven languages over DPR's English Wikipedia passages, and its organisers' prediction file."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ir_datasets
from ir_datasets.datasets.dpr_w100 import DprW100Doc
from ir_datasets.formats import BaseDocs
from ir_datasets.indices import DEFAULT_DOCSTORE_OPTIONS, Docstore

from csrerank.collections.catalogue import Documentation, MemoryQueries, downloads, load, register_once
from csrerank.errors import InputError
from csrerank.lines import read_lines, source_name
from csrerank.trec import TopicRun, split_columns

NAME = "xor-retrieve"
SPLIT = "dev"
LANGUAGES = ("ar", "bn", "fi", "ja", "ko", "ru", "te")
ALL = "x7"  # the seven together, as a submission holds them
PASSAGES = "dpr-w100"
LONGEST_FILE = 1 << 30  # bytes of a prediction file, which may be one line: 2,499 questions with 100 passages are 170 MB
_MEND = 'write a list of {"id", "lang", "ctxs": [text, ...]}, as csrerank export --format xor-retrieve does'
_BLOCK = 32  # passages looked up at once; about 23 of DPR's make 2,000 tokens


class XorQuery(NamedTuple):
    """A question, its language, and its answers, which are English spans or yes and no."""

    query_id: str
    text: str
    lang: str
    answers: tuple[str, ...]

    def default_text(self) -> str:
        """The text."""
        return self.text


def questions(languages: Sequence[str]) -> list[XorQuery]:
    """The development questions in these languages (ISO 639-1), in the order of the published file, which holds all seven.

    Raises ``InputError`` naming the line that is not what was published.
    """
    path = downloads(NAME)[SPLIT].path()
    found: dict[str, XorQuery] = {}
    for number, line in read_lines(path):
        question = _question(line, f"{path}:{number}")
        if question.query_id in found:
            raise InputError(f"{path}:{number}: question {question.query_id!r} stands there twice; delete the file, so that it is downloaded again")
        found[question.query_id] = question
    return [question for question in found.values() if question.lang in languages]


def _question(line: str, where: str) -> XorQuery:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}); delete the file, so that it is downloaded again") from None
    if not isinstance(record, dict):
        record = {}
    names = {name: record.get(name) for name in ("id", "question", "lang")}
    answers = record.get("answers")
    wrong = [name for name, value in names.items() if not isinstance(value, str) or not value.strip()]
    # An empty answer would be found in any text.
    if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) and answer for answer in answers):
        wrong.append("answers")
    if not wrong and names["lang"] not in LANGUAGES:
        wrong.append("lang")
    if wrong:
        raise InputError(f"{where}: no {' and '.join(wrong)} as XOR-TyDi has them; delete the file, so that it is downloaded again")
    return XorQuery(str(names["id"]), str(names["question"]), str(names["lang"]), tuple(answers or ()))


def unquoted(field: str) -> str:
    """A field of psgs_w100.tsv as a CSV reader gives it, DPR's own included: ``"a ""b"" c"`` is ``a "b" c``. ir_datasets leaves the quotes in."""
    return next(csv.reader([field], delimiter="\t"))[0] if field.startswith('"') else field


def _passage(document: Any) -> DprW100Doc:
    return DprW100Doc(document.doc_id, unquoted(document.text), unquoted(document.title))


class Passages(BaseDocs):
    """The 21 million passages of ir_datasets' ``dpr-w100`` without the quoting of its file; nothing is copied, and nothing touched before it is used."""

    def docs_iter(self) -> "_Rows":
        """The passages in order, streamed; an index or a slice builds ``dpr-w100``'s docstore, as it does there."""
        return _Rows(ir_datasets.registry[PASSAGES].docs_iter())

    def docs_store(self, field: str = "doc_id", options: Any = DEFAULT_DOCSTORE_OPTIONS) -> "_Store":
        """Passages by id, from ``dpr-w100``'s docstore, which is built at the first look-up."""
        return _Store(field, options)

    def docs_count(self) -> int | None:
        """How many."""
        count: int | None = ir_datasets.registry[PASSAGES].docs_count()
        return count

    def docs_cls(self) -> type[DprW100Doc]:
        """The passages' type."""
        return DprW100Doc

    def docs_namespace(self) -> str:
        """Which ids these are."""
        return PASSAGES

    def docs_lang(self) -> str:
        """English."""
        return "en"


class _Rows:
    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[DprW100Doc]:
        return self

    def __next__(self) -> DprW100Doc:
        return _passage(next(self._rows))

    def __getitem__(self, key: Any) -> Any:
        return _Rows(self._rows[key]) if isinstance(key, slice) else _passage(self._rows[key])


class _Store(Docstore):
    def __init__(self, field: str, options: Any) -> None:
        super().__init__(DprW100Doc, field, options)
        self._store = ir_datasets.registry[PASSAGES].docs_store(field, options)

    def get_many_iter(self, doc_ids: Iterable[str]) -> Iterator[DprW100Doc]:
        """The passages that exist, as in ir_datasets not in the order of ``doc_ids``."""
        return map(_passage, self._store.get_many_iter(doc_ids))


class PassageTexts:
    """Texts of a collection's passages by id, without their titles, as the organisers' baseline gives them to be scored."""

    def __init__(self, dataset_id: str) -> None:
        """Raises ``InputError`` where the dataset has no documents with a ``text``."""
        dataset = load(dataset_id)
        if not dataset.has_docs() or "text" not in dataset.docs_cls()._fields:
            raise InputError(f"{dataset_id}: no documents with a text in it; give a dataset such as csrerank/{NAME}/ja-en/{SPLIT}")
        self._id, self._store = dataset_id, dataset.docs_store()

    def ranked(self, topic: str, doc_ids: Sequence[str], run: str) -> Iterator[str]:
        """The texts of a topic's documents in their order, looked up in blocks as they are asked for.

        Raises ``InputError`` naming ``run`` and topic for a document that the collection lacks.
        """
        for start in range(0, len(doc_ids), _BLOCK):
            block = doc_ids[start : start + _BLOCK]
            found = self._store.get_many(block)
            for doc_id in block:
                if doc_id not in found:
                    raise InputError(f"{run}: topic {topic!r}: document {doc_id!r} is not in {self._id}; give the dataset that the run was made from")
                yield found[doc_id].text


class Prediction(NamedTuple):
    """What a prediction file says of one question: passages, best first."""

    topic: str
    lang: str
    passages: list[str]


def prediction_lines(topics: Iterable[TopicRun], dataset_id: str, run: str) -> Iterator[bytes]:
    """Yield a prediction file: a JSON list of ``{"id", "lang", "ctxs": [text, ...]}``, one entry a line, in the run's order.

    Questions that the run lacks stand at the end without passages: the organisers' script counts the entries of the file, so they would be left
    out of its mean. Raises ``InputError`` for a topic that is no question of the dataset, or a document that its collection lacks.
    """
    dataset = load(dataset_id)
    if not dataset.has_queries() or "lang" not in dataset.queries_cls()._fields:
        raise InputError(f"{dataset_id}: its topics name no language, which a prediction file needs; give a dataset such as csrerank/{NAME}/ja-en/{SPLIT}")
    languages = {question.query_id: question.lang for question in dataset.queries_iter()}
    texts = PassageTexts(dataset_id)
    opening = b"["
    for topic, docs, _ in topics:
        if topic not in languages:
            raise InputError(f"{run}: topic {topic!r} is no question of {dataset_id}; give the dataset that the run was made from")
        yield opening + _entry(topic, languages.pop(topic), list(texts.ranked(topic, docs, run)))
        opening = b",\n"
    for topic, lang in languages.items():
        yield opening + _entry(topic, lang, [])
        opening = b",\n"
    yield b"]\n"


def _entry(topic: str, lang: str, passages: list[str]) -> bytes:
    return json.dumps({"id": topic, "lang": lang, "ctxs": passages}, ensure_ascii=False).encode()


def read_predictions(source: str | Path | BinaryIO, name: str | None = None) -> list[Prediction | str]:
    """The entries of a prediction file; in the place of a malformed one, what is wrong with it, in one line.

    :param source: as in :func:`csrerank.lines.read_lines`.
    :param name: what messages call it.
    :raises InputError: where the file is not a JSON list with entries.
    """
    shown = name or source_name(source)
    text = _whole(source, shown)
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{shown}:{error.lineno}: not JSON ({error.msg}); {_MEND}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown}: not JSON ({error}); {_MEND}") from None
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{shown}:1: not a JSON list with entries; {_MEND}")
    seen: dict[str, int] = {}
    return [_prediction(entry, number, seen, f"{shown}: entry {number}") for number, entry in enumerate(entries, 1)]


def _whole(source: str | Path | BinaryIO, name: str) -> str:
    """The text of a file, with its blank lines, so that the lines that JSON's errors name are the file's."""
    lines = dict(read_lines(source, name=name, longest=LONGEST_FILE))
    return "\n".join(lines.get(number, "") for number in range(1, max(lines) + 1))


def _prediction(entry: Any, number: int, seen: dict[str, int], where: str) -> Prediction | str:
    if not isinstance(entry, dict) or not {"id", "lang", "ctxs"} <= entry.keys():
        return f"{where}: not an object with id, lang and ctxs; give it all three"
    topic, lang, passages = entry["id"], entry["lang"], entry["ctxs"]
    if not isinstance(topic, str) or split_columns(topic) != [topic]:
        return f"{where}: id {json.dumps(topic)[:60]} is not a question's, which is a string without white space; write it as published, in quotes"
    if topic in seen:
        return f"{where}: question {topic!r} stands again, first in entry {seen[topic]}; keep one"
    seen[topic] = number
    if lang not in LANGUAGES:
        return f"{where}: question {topic!r}: lang {json.dumps(lang)[:60]} is none of {' '.join(LANGUAGES)}; name the question's language"
    if not isinstance(passages, list) or not all(isinstance(passage, str) for passage in passages):
        return f"{where}: question {topic!r}: ctxs is not a list of texts; write the passages' texts, best first"
    return Prediction(topic, lang, passages)


def register() -> None:
    """Register ``csrerank/xor-retrieve/{ar,bn,fi,ja,ko,ru,te}-en/dev`` and the seven together, ``x7-en/dev``. Nothing is read or downloaded before use."""
    documentation = Documentation(f"{NAME}.yaml")
    register_once(NAME, documentation("_"))
    passages = Passages()
    for side, languages in {**{lang: (lang,) for lang in LANGUAGES}, ALL: LANGUAGES}.items():
        lang = side if side in LANGUAGES else None
        topics = MemoryQueries(partial(questions, languages), f"{NAME}/{side}", lang, XorQuery)
        register_once(f"{NAME}/{side}-en/{SPLIT}", passages, topics, documentation("pair" if lang else "all"))
