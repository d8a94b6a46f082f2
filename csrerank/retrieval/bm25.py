"""BM25 through Lucene (Anserini, as pyserini ships it): an index built once with the right analyzer for the documents' language, searched in batches."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from csrerank.errors import InputError
from csrerank.integrations import jvm
from csrerank.languages import LANGUAGES
from csrerank.trec import TopicRun

# Besides Lucene's language codes. "standard" is Lucene's StandardAnalyzer (UAX #29 words, lower-cased, nothing stemmed), for documents in several languages.
PLAIN_ANALYZERS = ("whitespace", "standard")
# Lucene's language analyzers, as pyserini ships them; more than csrerank's own table of languages, since any ir_datasets id works.
LUCENE_ANALYZERS = (
    "ar",
    "bn",
    "da",
    "de",
    "en",
    "es",
    "fa",
    "fi",
    "fr",
    "hi",
    "hu",
    "id",
    "it",
    "ja",
    "ko",
    "nl",
    "no",
    "pl",
    "pt",
    "ru",
    "sv",
    "te",
    "th",
    "tr",
    "uk",
    "zh",
)
ALIASES = {"dt": "nl"}  # mMARCO's name for Dutch
K1, B = 0.9, 0.4  # pyserini's defaults
SEARCH_BATCH = 512


def analyzer_for(languages: Sequence[str]) -> str:
    """The analyzer for documents in these languages: Lucene's own for one, ``standard`` for several.

    Raises ``InputError`` for a language that Lucene has no analyzer for, as falling back quietly would analyse it as something else.
    """
    if len(set(languages)) != 1:
        return "standard"
    code = ALIASES.get(languages[0], languages[0])
    if code not in LUCENE_ANALYZERS:
        name = LANGUAGES[code].name if code in LANGUAGES else repr(code)
        raise InputError(f"Lucene has no analyzer for {name}; give --analyzer whitespace (or standard)")
    return code


def check_analyzer(name: str) -> str:
    """``name`` if it is a known analyzer, else ``InputError`` naming them."""
    if name not in PLAIN_ANALYZERS + LUCENE_ANALYZERS:
        raise InputError(f"unknown analyzer {name!r}; known are {' '.join(PLAIN_ANALYZERS + LUCENE_ANALYZERS)}")
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

    The texts are stored, so that ``--index`` can re-rank from it. Raises ``InputError`` for an unknown analyzer or no documents. ``progress`` is a tqdm bar
    to advance, or None.
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
        count = indexable = 0
        with (texts / "documents.jsonl").open("w", encoding="utf-8") as out:
            for doc_id, text in documents:
                # JsonCollection indexes "contents" and, with -storeRaw, keeps the line: the text as it was travels along.
                line = {"id": doc_id, "contents": tokens(text) if tokens else text, "text": text}
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
                indexable += bool(line["contents"].strip())  # Anserini leaves empty documents out
                if progress is not None:
                    progress.update(1)
        if not count:
            raise InputError("the collection has no documents to index")
        arguments = [
            "-collection",
            "JsonCollection",
            "-generator",
            "DefaultLuceneDocumentGenerator",
            "-input",
            str(texts),
            "-index",
            str(work / "index"),
            "-threads",
            "1",
            "-storeRaw",
            "-quiet",
        ]
        arguments += ["-pretokenized"] if analyzer in PLAIN_ANALYZERS else ["-language", analyzer]
        with _quiet_stdout():
            jvm.autoclass("io.anserini.index.IndexCollection").main(arguments)
        _check_whole(work / "index", indexable)
        (work / "index" / "csrerank.json").write_text(json.dumps({"analyzer": analyzer, "documents": count}), encoding="utf-8")
        if target.exists():  # another process built the same index meanwhile; theirs is as good
            return target
        (work / "index").rename(target)
        return target
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_whole(index: Path, documents: int) -> None:
    """An indexing thread that fails only logs: hold the index to the number of documents before it is kept."""
    found = jvm.autoclass("io.anserini.search.SimpleSearcher")(str(index)).get_total_num_docs()
    if found != documents:
        raise InputError(f"Lucene indexed {found} of {documents} documents; its log above says why (disk space, mostly)")


class BM25:
    """A Lucene index to search by BM25 (k1 = 0.9, b = 0.4)."""

    def __init__(self, index: str | Path, analyzer: str | None = None) -> None:
        """Open ``index``. To search one that csrerank did not build, ``analyzer`` must be given, and be the one that it was built with; looking texts up
        needs none.
        """
        note = Path(index) / "csrerank.json"
        if not Path(index).is_dir():
            raise InputError(f"{index}: no such index; build one with `csrerank retrieve --dataset ...` or pyserini.index.lucene")
        built = json.loads(note.read_text(encoding="utf-8"))["analyzer"] if note.exists() else None
        if built and analyzer and built != analyzer:
            raise InputError(f"{index}: built with the analyzer {built}, not {analyzer}; leave --analyzer out")
        self.index, self.analyzer = index, check_analyzer(str(built or analyzer)) if built or analyzer else None
        jvm.start()
        with _quiet_stdout():
            try:
                self._searcher = jvm.autoclass("io.anserini.search.SimpleSearcher")(str(index))
            except Exception as error:  # jnius raises JavaException, which is known only once Java runs
                raise InputError(
                    f"{index}: not a Lucene index that Anserini can open ({str(error).splitlines()[0]}); build it with pyserini.index.lucene"
                ) from None
        self._searcher.set_bm25(K1, B)
        self._tokens = None
        if self.analyzer in PLAIN_ANALYZERS:
            self._searcher.set_analyzer(jvm.autoclass("org.apache.lucene.analysis.core.WhitespaceAnalyzer")())
            self._tokens = _standard_tokens() if self.analyzer == "standard" else None
        elif self.analyzer:
            self._searcher.set_language(self.analyzer)

    def search(self, queries: Iterable[tuple[str, str]], k: int, threads: int = 2) -> Iterator[TopicRun]:
        """Rank the ``k`` best documents for each ``(id, text)`` query, in the queries' order. A query that matches nothing gives an empty ranking."""
        if self.analyzer is None:
            raise InputError(
                f"{self.index}: csrerank did not build this index and cannot know its analyzer; give --analyzer (a language code, whitespace or standard)"
            )
        strings = jvm.autoclass("java.util.ArrayList")
        stream = iter(queries)
        while batch := list(islice(stream, SEARCH_BATCH)):
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
        from csrerank.collections.texts import stored_text

        return stored_text(raw, f"document {doc_id!r} of the index")
