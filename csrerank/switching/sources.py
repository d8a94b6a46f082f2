"""Where records come from: an ir_datasets id, or a folder of Parquet files; read window by window, so that a big collection is never in memory."""

import re
import sys
import typing
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from csrerank.codeswitch import Policy
from csrerank.errors import InputError
from csrerank.switching.parquet import is_text, schema_of, windows

_ID = {"docs": "doc_id", "queries": "query_id"}
_TEXTS = ("text", "context")  # the columns that are switched


class Source(Protocol):
    """Records by part and place, and the judgements and pairs that go with them. ``name`` is what messages call it, ``title`` what cards do."""

    name: str
    title: str

    def parts(self) -> tuple[str, ...]:
        """Those of docs, queries, qrels and docpairs that there are."""
        ...

    def count(self, part: str) -> int:
        """How many docs or queries."""
        ...

    def rows(self, part: str, start: int, stop: int) -> Iterator[Any]:
        """Records ``start`` to ``stop`` (exclusive) as NamedTuples, the id first."""
        ...

    def held(self, part: str) -> bool:
        """Whether the records are in memory anyway, so that they are better sent to other processes than read again there."""
        ...

    def columns(self, part: str) -> dict[str, Any]:
        """Names of the fields, in the records' order, and what type they have: an annotation of Python's, or a type of Arrow's."""
        ...

    def qrels(self) -> Iterator[tuple[str, str, int]]:
        """(topic, document, grade)."""
        ...

    def docpairs(self) -> Iterator[tuple[str, str, str]]:
        """(topic, better document, worse document)."""
        ...

    def found(self, part: str, ids: Sequence[str]) -> Mapping[str, Any]:
        """Those of the records named ``ids`` that there are."""
        ...

    def contents(self, quiet: bool = True) -> dict[str, Any]:
        """What tells this source from another, for a fingerprint; progress is shown on a terminal unless ``quiet``."""
        ...

    def policies(self) -> tuple[Policy, ...]:
        """By which the records are switched already as they are read: what these depend on, they depend on too."""
        ...


def opened(dataset: str | None, folder: str | None) -> Source:
    """The source that is named. Raises ``InputError`` where there is none such."""
    return FolderSource(folder) if folder is not None else DatasetSource(str(dataset))


class DatasetSource:
    """An ir_datasets id. A window of documents is a slice of ``docs_iter()``; queries are held in memory."""

    def __init__(self, dataset_id: str) -> None:
        from csrerank.collections.catalogue import load

        self.name = self.title = dataset_id
        self._dataset = load(dataset_id)

    def parts(self) -> tuple[str, ...]:
        """Those of docs, queries, qrels and docpairs that there are."""
        has = {"docs": self._dataset.has_docs, "queries": self._dataset.has_queries, "qrels": self._dataset.has_qrels, "docpairs": self._dataset.has_docpairs}
        return tuple(part for part, there in has.items() if there())

    def count(self, part: str) -> int:
        """How many docs or queries."""
        if part == "queries":
            return len(self._queries)
        try:
            count = self._dataset.docs_count()
        except NotImplementedError:  # some handlers of ir_datasets cannot tell: they are counted below
            count = None
        return sum(1 for _ in self._dataset.docs_iter()) if count is None else count

    @cached_property
    def _queries(self) -> list[Any]:
        return list(self._dataset.queries_iter())

    def rows(self, part: str, start: int, stop: int) -> Iterator[Any]:
        """Records ``start`` to ``stop`` (exclusive)."""
        if part == "queries":
            return iter(self._queries[start:stop])
        documents = self._dataset.docs_iter()
        return iter(documents[start:stop]) if hasattr(documents, "__getitem__") else islice(documents, start, stop)

    def held(self, part: str) -> bool:
        """Queries are, and documents of csrerank's small collections."""
        from csrerank.collections.catalogue import MemoryDocs

        return part == "queries" or isinstance(self._dataset.docs_handler(), MemoryDocs)

    def columns(self, part: str) -> dict[str, Any]:
        """The fields and their annotations."""
        record = self._dataset.docs_cls() if part == "docs" else self._dataset.queries_cls()
        hints = typing.get_type_hints(record)
        return {field: hints.get(field, object) for field in record._fields}

    def qrels(self) -> Iterator[tuple[str, str, int]]:
        """(topic, document, grade)."""
        return ((qrel.query_id, qrel.doc_id, qrel.relevance) for qrel in self._dataset.qrels_iter())

    def docpairs(self) -> Iterator[tuple[str, str, str]]:
        """(topic, better document, worse document)."""
        return ((pair.query_id, pair.doc_id_a, pair.doc_id_b) for pair in self._dataset.docpairs_iter())

    def found(self, part: str, ids: Sequence[str]) -> Mapping[str, Any]:
        """Those of the records named ``ids`` that there are."""
        if part == "queries":
            return {query.query_id: query for query in self._queries if query.query_id in ids}
        return self._dataset.docs_store().get_many(ids)

    def contents(self, quiet: bool = True) -> dict[str, Any]:
        """The id."""
        return {"dataset": self.name}

    def policies(self) -> tuple[Policy, ...]:
        """Of a ``.../translate-test`` those from each of its languages; otherwise none."""
        from csrerank.collections import demo, mmarco, xquad_r
        from csrerank.collections.switched import policy_named

        tracks = {collection.NAME: collection.TRACKS for collection in (demo, mmarco, xquad_r)}
        match = re.fullmatch(rf"csrerank/({'|'.join(tracks)})/([^-/]+)-([^-/]+)/(?:.+/)?translate-test", self.name)
        if match is None:
            return ()
        languages = {lang for side in match.groups()[1:] for lang in tracks[match[1]].get(side, (side,))}
        return tuple(policy_named(f"translate-test/{lang}-{lang}") for lang in sorted(languages - {"en"}))


class _File(NamedTuple):
    path: Path
    first: int  # place of its first row in the part
    rows: int


class FolderSource:
    """Parquet files in a folder, or in ``docs`` and ``queries`` in it, in the order of their names: those with columns doc_id and text are documents, those with
    query_id and text queries. Other columns are kept. ``qrels.txt`` (TREC) beside them is taken along.
    """

    def __init__(self, folder: str) -> None:
        self.name, self.title, self._folder = folder, "Parquet files", Path(folder)
        if not self._folder.is_dir():
            raise InputError(f"{folder}: no such folder; --input takes a folder of Parquet files")
        self._files: dict[str, list[_File]] = {}
        self._schemas: dict[str, Any] = {}
        for path in sorted(path for place in (".", "docs", "queries") for path in (self._folder / place).glob("*.parquet")):
            self._add(path)
        if not self._files:
            raise InputError(f"{folder}: no Parquet file in it; --input takes files with columns doc_id and text, or query_id and text")

    def _add(self, path: Path) -> None:
        schema, rows = schema_of(path)
        part = next((part for part, column in _ID.items() if column in schema.names), None)
        if part is None or "text" not in schema.names:
            raise InputError(f"{path}: columns {', '.join(schema.names)}; documents need doc_id and text, queries query_id and text: rename or add them")
        for column in {_ID[part], *_TEXTS} & set(schema.names):
            kind = schema.field(column).type
            if not is_text(kind):
                raise InputError(f"{path}: column {column} is {kind}, not text; cast it to string")
        if "switches" in schema.names:
            raise InputError(f"{path}: has a column switches, so it is switched already; give the folder that it was made from, or rename the column")
        if not self._schemas.setdefault(part, schema).equals(schema):
            raise InputError(f"{path}: other columns than {self._files[part][0].path}; all files of a part need the same")
        known = self._files.setdefault(part, [])
        known.append(_File(path, known[-1].first + known[-1].rows if known else 0, rows))

    def parts(self) -> tuple[str, ...]:
        """Those of docs, queries and qrels that there are."""
        return tuple(part for part in _ID if part in self._files) + (("qrels",) if (self._folder / "qrels.txt").is_file() else ())

    def count(self, part: str) -> int:
        """How many docs or queries."""
        return sum(file.rows for file in self._files[part])

    def held(self, part: str) -> bool:
        """No: every process reads its rows itself."""
        return False

    def columns(self, part: str) -> dict[str, Any]:
        """The columns and their types, the id first."""
        schema = self._schemas[part]
        return {name: schema.field(name).type for name in [_ID[part], *(name for name in schema.names if name != _ID[part])]}

    def rows(self, part: str, start: int, stop: int) -> Iterator[Any]:
        """Records ``start`` to ``stop`` (exclusive). Raises ``InputError`` naming the file and row where an id or a text is missing or damaged."""
        names = list(self.columns(part))
        needed = [(place, name) for place, name in enumerate(names) if name in (_ID[part], *_TEXTS)]
        record = namedtuple("Row", names, rename=True)  # type: ignore[misc]  # noqa: PYI024
        for file in self._files[part]:
            if stop <= file.first or file.first + file.rows <= start:
                continue
            for first, columns in windows(file.path, names, start - file.first, stop - file.first):
                for number, row in enumerate(map(record, *columns), first + 1):
                    for place, name in needed:
                        if row[place] is None:
                            raise InputError(f"{file.path}: row {number}: no {name}; fill it in, or take the row out")
                    yield row

    def qrels(self) -> Iterator[tuple[str, str, int]]:
        """(topic, document, grade)."""
        from csrerank.trec import read_qrels

        return ((topic, doc, grade) for topic, judged in read_qrels(self._folder / "qrels.txt").items() for doc, grade in judged.items())

    def docpairs(self) -> Iterator[tuple[str, str, str]]:
        """None."""
        return iter(())

    def found(self, part: str, ids: Sequence[str]) -> Mapping[str, Any]:
        """Those of the records named ``ids`` that there are, by reading until all are found."""
        wanted, found = set(ids), {}
        for row in self.rows(part, 0, self.count(part)):
            if row[0] in wanted:
                found[row[0]] = row
                if len(found) == len(wanted):
                    break
        return found

    def contents(self, quiet: bool = True) -> dict[str, Any]:
        """SHA-256 of every file by its path in the folder."""
        from tqdm import tqdm

        from csrerank.collections.texts import file_hash

        paths = sorted([file.path for files in self._files.values() for file in files] + [path for path in [self._folder / "qrels.txt"] if path.is_file()])
        hashes = {}
        size = sum(path.stat().st_size for path in paths)
        with tqdm(total=size, unit="B", unit_scale=True, desc="hashing the input", leave=False, disable=quiet or not sys.stderr.isatty()) as bar:
            for path in paths:
                hashes[str(path.relative_to(self._folder))] = file_hash(path)
                bar.update(path.stat().st_size)
        return {"input": hashes}

    def policies(self) -> tuple[Policy, ...]:
        """None."""
        return ()
