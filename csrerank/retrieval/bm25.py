"""BM25 through Lucene (Anserini, as pyserini ships it): an index built once with the right analyzer for the documents' language, searched in batches."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from csrerank.errors import InputError
from csrerank.integrations import jvm
from csrerank.languages import LANGUAGES
from csrerank.trec import TopicRun

# Besides Lucene's language codes. "standard" is Lucene's StandardAnalyzer (UAX #29 words, lower-cased, nothing stemmed), for documents in several languages.
PLAIN_ANALYZERS = ("whitespace", "standard")
K1, B = 0.9, 0.4  # pyserini's defaults
SEARCH_BATCH = 512


def analyzer_for(languages: Sequence[str]) -> str:
    """The analyzer for documents in these languages: Lucene's own for one, ``standard`` for several.

    Raises ``InputError`` for a language that Lucene has no analyzer for, as falling back quietly would analyse it as something else.
    """
    if len(set(languages)) != 1:
        return "standard"
    known = LANGUAGES.get(languages[0])
    if known is None or known.analyzer is None:
        raise InputError(f"Lucene has no analyzer for {known.name if known else repr(languages[0])}; give --analyzer whitespace (or standard)")
    return known.analyzer


def check_analyzer(name: str) -> str:
    """``name`` if it is a known analyzer, else ``InputError`` naming them."""
    codes = sorted({row.analyzer for row in LANGUAGES.values() if row.analyzer})
    if name not in PLAIN_ANALYZERS and name not in codes:
        raise InputError(f"unknown analyzer {name!r}; known are {' '.join([*PLAIN_ANALYZERS, *codes])}")
    return name


def _standard_tokens() -> Any:
    utils, analyzer = jvm.autoclass("io.anserini.analysis.AnalyzerUtils"), jvm.autoclass("org.apache.lucene.analysis.standard.StandardAnalyzer")()
    return lambda text: " ".join(utils.analyze(analyzer, text).toArray())


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Java writes its log to file descriptor 1; standard output is for runs."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def build_index(documents: Iterable[tuple[str, str]], target: str | Path, analyzer: str, progress: Any = None) -> Path:
    """Index ``(id, text)`` pairs with ``analyzer`` into the folder ``target``, which appears whole, by rename.

    The texts are stored, so that ``--index`` can re-rank from it. Raises ``InputError`` for an unknown analyzer or no documents. ``progress`` is a tqdm bar to advance, or None.
    """
    check_analyzer(analyzer)
    jvm.start()
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        texts = work / "documents"
        texts.mkdir()
        tokens = _standard_tokens() if analyzer == "standard" else None
        count = 0
        with (texts / "documents.jsonl").open("w", encoding="utf-8") as out:
            for doc_id, text in documents:
                # JsonCollection indexes "contents" and, with -storeRaw, keeps the line: the text as it was travels along.
                line = {"id": doc_id, "contents": tokens(text) if tokens else text, "text": text}
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
                if progress is not None:
                    progress.update(1)
        if not count:
            raise InputError("the collection has no documents to index")
        arguments = ["-collection", "JsonCollection", "-generator", "DefaultLuceneDocumentGenerator", "-input", str(texts), "-index", str(work / "index"), "-threads", "1", "-storeRaw", "-quiet"]
        arguments += ["-pretokenized"] if analyzer in PLAIN_ANALYZERS else ["-language", analyzer]
        with _quiet_stdout():
            jvm.autoclass("io.anserini.index.IndexCollection").main(arguments)
        (work / "index" / "csrerank.json").write_text(json.dumps({"analyzer": analyzer, "documents": count}), encoding="utf-8")
        if target.exists():  # another process built the same index meanwhile; theirs is as good
            return target
        (work / "index").rename(target)
        return target
    finally:
        shutil.rmtree(work, ignore_errors=True)


class BM25:
    """A Lucene index to search by BM25 (k1 = 0.9, b = 0.4)."""

    def __init__(self, index: str | Path, analyzer: str | None = None) -> None:
        """Open ``index``; ``analyzer`` is needed for an index that csrerank did not build, and must be the one that it was built with."""
        note = Path(index) / "csrerank.json"
        if not Path(index).is_dir():
            raise InputError(f"{index}: no such index; build one with `csrerank retrieve --dataset ...` or pyserini.index.lucene")
        built = json.loads(note.read_text(encoding="utf-8"))["analyzer"] if note.exists() else None
        if built and analyzer and built != analyzer:
            raise InputError(f"{index}: built with the analyzer {built}, not {analyzer}; leave --analyzer out")
        self.analyzer = check_analyzer(built or analyzer or "en")
        jvm.start()
        with _quiet_stdout():
            try:
                self._searcher = jvm.autoclass("io.anserini.search.SimpleSearcher")(str(index))
            except Exception as error:  # jnius raises JavaException, which is known only once Java runs
                raise InputError(f"{index}: not a Lucene index that Anserini can open ({str(error).splitlines()[0]}); build it with pyserini.index.lucene") from None
        self._searcher.set_bm25(K1, B)
        self._tokens = None
        if self.analyzer in PLAIN_ANALYZERS:
            self._searcher.set_analyzer(jvm.autoclass("org.apache.lucene.analysis.core.WhitespaceAnalyzer")())
            self._tokens = _standard_tokens() if self.analyzer == "standard" else None
        else:
            self._searcher.set_language(self.analyzer)

    def search(self, queries: Iterable[tuple[str, str]], k: int, threads: int = 2) -> Iterator[TopicRun]:
        """Rank the ``k`` best documents for each ``(id, text)`` query, in the queries' order. A query that matches nothing gives an empty ranking."""
        strings = jvm.autoclass("java.util.ArrayList")
        for batch in batched_pairs(queries, SEARCH_BATCH):
            texts, ids = strings(), strings()
            for number, (_, text) in enumerate(batch):
                texts.add(self._tokens(text) if self._tokens else text)
                ids.add(str(number))  # the queries' own ids stay in Python: they need not be unique strings to Java
            found = self._searcher.batch_search(texts, ids, k, threads)
            for number, (topic, _) in enumerate(batch):
                hits = found.get(str(number)) or []
                yield TopicRun(topic, [hit.docid for hit in hits], [hit.score for hit in hits])

    def stored_text(self, doc_id: str) -> str | None:
        """The text of a document as it was stored, or None where the index lacks it. Raises ``InputError`` where the index stores no texts."""
        document = self._searcher.doc(doc_id)
        if document is None:
            return None
        raw = self._searcher.doc_raw(doc_id) or self._searcher.doc_contents(doc_id)
        if raw is None:
            raise InputError(f"the index stores no texts (first seen at document {doc_id!r}); rebuild it with -storeRaw, or give --docs")
        return text_of_raw(raw)


def batched_pairs(items: Iterable[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    """Lists of at most ``size`` items (``itertools.batched`` came with Python 3.12)."""
    batch: list[tuple[str, str]] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def text_of_raw(raw: str) -> str:
    """The text in a stored document: the ``text``, ``contents``, ``body`` or ``segment`` of a JSON object (with its ``title`` in front), or the whole where it is no JSON."""
    if not raw.lstrip().startswith("{"):
        return raw
    try:
        fields = json.loads(raw)
    except json.JSONDecodeError:
        return raw
    body = next((fields[name] for name in ("text", "contents", "body", "passage", "segment") if isinstance(fields.get(name), str)), None)
    if body is None:
        return raw
    title = fields.get("title")
    return f"{title} {body}" if isinstance(title, str) and title else body
