"""Texts by id for re-ranking: topics and documents out of an ir_datasets id, TSV or JSONL files, or a Lucene index that stores them."""

import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from csrerank.errors import InputError
from csrerank.files import is_stream
from csrerank.lines import read_lines

LONGEST_RECORD = 1 << 28  # bytes: a document may be a book, and a line without an end is still refused
TEXT_FIELDS = ("text", "contents", "body", "passage", "segment", "query", "question", "title")
ID_FIELDS = ("_id", "id", "doc_id", "docid", "docno", "query_id", "qid", "pid")


class Documents(Protocol):
    """Documents by id. ``fingerprint`` names what they are for the journal."""

    fingerprint: str

    def texts(self, ids: Sequence[str]) -> Mapping[str, str]:
        """The texts of those of ``ids`` that exist."""
        ...


class Topics(NamedTuple):
    """Topics ``id -> text``, and what they are for the journal."""

    texts: Mapping[str, str]
    fingerprint: str


def default_text(record: Any, what: str) -> str:
    """The text of an ir_datasets record: its ``default_text()``, which every class of ir_datasets has. Raises ``InputError`` where a class lacks it."""
    give = getattr(record, "default_text", None)
    if give is None:
        raise InputError(
            f"{what}: {type(record).__name__} has no default_text(), so csrerank cannot tell which field to score; give --queries and --docs files"
        )
    return give()


def dataset_topics(dataset_id: str) -> Topics:
    """The topics of an ir_datasets id."""
    from csrerank.collections.catalogue import load

    dataset = load(dataset_id)
    if not dataset.has_queries():
        raise InputError(f"{dataset_id} has no queries; give a dataset with queries, or --queries FILE")
    return Topics({query.query_id: default_text(query, dataset_id) for query in dataset.queries_iter()}, f"{dataset_id} queries")


class DatasetDocuments:
    """The documents of an ir_datasets id, from its document store."""

    def __init__(self, dataset_id: str, context: bool = False) -> None:
        """``context=True`` puts a sentence's paragraph behind it (XQuAD-R and en-qa, whose documents carry one); ``InputError`` where documents carry none."""
        from csrerank.collections.catalogue import load

        dataset = load(dataset_id)
        if not dataset.has_docs():
            raise InputError(f"{dataset_id} has no documents; give a dataset with documents, or --docs FILE")
        if context and "context" not in dataset.docs_cls()._fields:
            raise InputError(f"{dataset_id}: its documents carry no context; leave --context out")
        self._store, self._id, self._context = dataset.docs_store(), dataset_id, context
        self.fingerprint = f"{dataset_id} documents{' with context' if context else ''}"

    def texts(self, ids: Sequence[str]) -> Mapping[str, str]:
        """The texts of those of ``ids`` that exist."""
        found = self._store.get_many(ids)
        return {doc_id: default_text(document, self._id) + (f" {document.context}" if self._context else "") for doc_id, document in found.items()}


class FileDocuments:
    """The documents of a TSV or JSONL file, indexed once by id in an SQLite file in the cache, so that memory stays flat."""

    def __init__(self, path: str | Path, cache: Path) -> None:
        if is_stream(path):
            raise InputError(f"{path}: documents are looked up by id and cannot come from a pipe; give a file")
        self.fingerprint = file_hash(path)
        self._store = cache / "documents" / f"{self.fingerprint}.sqlite"
        if not self._store.exists():
            _index_documents(path, self._store)
        try:
            self._connection = sqlite3.connect(f"{self._store.resolve().as_uri()}?mode=ro", uri=True)
        except sqlite3.Error as error:
            raise InputError(
                f"{self._store}: this index of the documents cannot be opened ({error}); check its permissions, or set CSRERANK_CACHE to a folder of your own"
            ) from None

    def texts(self, ids: Sequence[str]) -> Mapping[str, str]:
        """The texts of those of ``ids`` that exist."""
        found: dict[str, str] = {}
        for start in range(0, len(ids), 500):  # SQLite takes 999 parameters at least
            some = ids[start : start + 500]
            try:
                found.update(self._connection.execute(f"SELECT id, text FROM documents WHERE id IN ({','.join('?' * len(some))})", some))
            except sqlite3.Error as error:
                raise InputError(f"{self._store}: this index of the documents cannot be read ({error}); delete it, and the next use makes it again") from None
        return found


class LuceneDocuments:
    """The documents that a Lucene index stores (built with ``-storeRaw``, or by ``csrerank retrieve``)."""

    def __init__(self, index: str | Path, analyzer: str | None = None) -> None:
        from csrerank.retrieval.bm25 import BM25

        self._searcher = BM25(index, analyzer)
        self.fingerprint = f"index {Path(index).resolve()} {Path(index).stat().st_mtime_ns}"

    def texts(self, ids: Sequence[str]) -> Mapping[str, str]:
        """The texts of those of ``ids`` that exist."""
        texts = ((doc_id, self._searcher.stored_text(doc_id)) for doc_id in sorted(ids))  # as the index has them, on the whole
        return {doc_id: text for doc_id, text in texts if text is not None}


def file_topics(path: str | Path) -> Topics:
    """The topics of a TSV or JSONL file. Raises ``InputError`` naming the line of a malformed or repeated topic."""
    texts: dict[str, str] = {}
    for number, topic, text in read_records(path):
        if topic in texts:
            raise InputError(f"{path}:{number}: topic {topic!r} stands there twice; remove one")
        texts[topic] = text
    if not texts:
        raise InputError(f"{path}: no topics in it; give lines of id, tab, text")
    # Of what was read, since a pipe cannot be read again.
    return Topics(texts, hashlib.sha256(json.dumps(sorted(texts.items())).encode()).hexdigest())


def read_records(path: str | Path) -> Iterator[tuple[int, str, str]]:
    """Line number, id and text of each line of a TSV file (id, tab, text) or a JSONL file (an object with an id and a text; a title goes in front), plain or
    gzip.

    Which of the two it is shows in the first line. Raises ``InputError`` naming the line of a malformed one.
    """
    parse: Callable[[str, str], tuple[str, str]] | None = None
    for number, line in read_lines(path, longest=LONGEST_RECORD):
        if not line.strip():
            continue
        parse = parse or (_from_json if line.lstrip().startswith("{") else _from_tsv)
        identifier, text = parse(line, f"{path}:{number}")
        if not identifier or any(character in identifier for character in " \t\n\r\v\f\0"):
            raise InputError(f"{path}:{number}: the id {identifier!r} is empty or has white space in it, which a run cannot carry; rename it")
        yield number, identifier, text


def _from_tsv(line: str, where: str) -> tuple[str, str]:
    identifier, tab, text = line.partition("\t")
    if not tab:
        raise InputError(f"{where}: no tab in this line; a TSV line is id, tab, text")
    return identifier, text


def _from_json(line: str, where: str) -> tuple[str, str]:
    try:
        record = json.loads(line)
        line.encode()
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: half of a surrogate pair (a lone \\ud800 to \\udfff), which is no text; remove it") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}); each line of a JSONL file is one object") from None
    if not isinstance(record, dict):
        raise InputError(f"{where}: not a JSON object; each line of a JSONL file is one object with an id and a text")
    identifier = next((record[name] for name in ID_FIELDS if name in record), None)
    if not isinstance(identifier, (str, int)) or isinstance(identifier, bool):
        raise InputError(f"{where}: no id in this object; name it one of {', '.join(ID_FIELDS)}")
    return str(identifier), record_text(record, where)


def record_text(record: Mapping[str, Any], where: str) -> str:
    """The text of a JSON object: the first of ``TEXT_FIELDS``, with its title in front. Raises ``InputError`` where it has none."""
    text = next((record[name] for name in TEXT_FIELDS if isinstance(record.get(name), str)), None)
    if text is None:
        raise InputError(f"{where}: no text in this object; name it one of {', '.join(TEXT_FIELDS)}")
    title = record.get("title")
    return f"{title} {text}" if isinstance(title, str) and title and title is not text else text


def stored_text(raw: str, where: str) -> str:
    """The text of a document that a Lucene index stores: of a JSON object its text, anything else as it is."""
    if raw.lstrip().startswith("{"):
        try:
            record = json.loads(raw)
        except ValueError:
            return raw
        if isinstance(record, dict):
            return record_text(record, where)
    return raw


def _index_documents(path: str | Path, store: Path) -> None:
    """Make ``store`` unless it is there. One process does it and others wait for that; what a killed one left is begun anew."""
    store.parent.mkdir(parents=True, exist_ok=True)
    work = store.with_suffix(".tmp")
    while not store.exists():
        with open(work, "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                mine = os.path.samestat(os.fstat(lock.fileno()), os.stat(work))
            except FileNotFoundError:
                mine = False
            if not mine:  # the process that held the lock has finished with this file: look again
                continue
            try:
                if not store.exists():
                    os.truncate(work, 0)
                    _fill(work, path)
                    work.replace(store)
            finally:
                work.unlink(missing_ok=True)


def _fill(work: Path, path: str | Path) -> None:
    connection = sqlite3.connect(work)
    try:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("CREATE TABLE documents (id TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID")
        for number, doc_id, text in read_records(path):
            try:
                connection.execute("INSERT INTO documents VALUES (?, ?)", (doc_id, text))
            except sqlite3.IntegrityError:
                raise InputError(f"{path}:{number}: document {doc_id!r} stands there twice; remove one") from None
        connection.commit()
    except sqlite3.Error as error:
        raise InputError(
            f"{work.parent}: the index of the documents of {path} cannot be written ({error}); free some space, or set CSRERANK_CACHE to a folder with more"
        ) from None
    finally:
        connection.close()


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's content. Raises ``InputError`` where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
