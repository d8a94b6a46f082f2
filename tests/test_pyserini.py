"""Beside pyserini: its command lines make the index and the run, csrerank re-ranks both, and its hits and writers fit ours."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from csrerank.cli import cli
from csrerank.errors import InputError
from csrerank.integrations import jvm
from csrerank.integrations.pyserini import Hit, printable, rerank_hits
from csrerank.models.reranker import Reranker
from csrerank.models.settings import Settings
from csrerank.profiles import check_run
from csrerank.trec import read_run, read_topic_lines

DOCS = {
    "007": "Der Wal schläft im Meer.", "7": "Wale schlafen nie ganz.", "NA": "Whales sleep with half of the brain.", "null": "Ein Wal singt.", "é-1": "Der Vulkan bricht aus.",
    "e\u0301-1": "Vulkane ruhen lange.", "鲸-2": "A volcano erupts in Iceland.", "1e5": "Die Brücke ist alt.", "doc#0": "The old bridge fell.", "doc#1": "Brücken aus Stein halten lange.",
    "a": "Der Zug fährt nach Berlin.", "b": "The train leaves at noon.", "c": "Züge fahren im Winter langsam.", "d": "Bees make honey.", "e": "Bienen machen Honig im Sommer.",
    "f": "Die Biene schläft im Winter.", "g": "The tide follows the moon.", "h": "Der Mond zieht das Meer an.", "i": "Tee und Kaffee.", "j": "Coffee grows in the mountains.",
}  # fmt: skip
# Sorted by id, as pyserini searches them. It turns an id that is all digits into a number (0042 comes out as 42), so here none is.
TOPICS = {"NA": "Wale schlafen", "t-007": "Vulkane im Meer", "t-en": "why do whales sleep", "t-é": "alte Brücken im Winter", "z-none": "qqqq"}
SETTINGS = Settings(max_length=128, precision="fp32")
MODEL_OPTIONS = ["--max-length", 128, "--precision", "fp32", "--quiet"]
PATIENCE = 1800  # seconds; a process takes five to ten on an idle machine


def python(*arguments: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """``python ARGUMENTS`` as a user has it: without what starting Java in the tests' own process left in the environment."""
    environment = {name: value for name, value in os.environ.items() if name not in ("JAVA_HOME", "OPENAI_API_KEY")}
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, env=environment, timeout=PATIENCE)


def command(*arguments: object) -> None:
    """``csrerank ARGUMENTS`` in this process, which spares a start of torch and Java each time."""
    cli.main([str(part) for part in arguments], prog_name="csrerank", standalone_mode=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``collection/docs.jsonl`` in pyserini's form, and ``topics.tsv``."""
    folder = tmp_path_factory.mktemp("pyserini")
    (folder / "collection").mkdir()
    lines = [json.dumps({"id": doc, "contents": text}, ensure_ascii=False) + "\n" for doc, text in DOCS.items()]
    (folder / "collection" / "docs.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "topics.tsv").write_text("".join(f"{topic}\t{text}\n" for topic, text in TOPICS.items()), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def index(folder: Path) -> Path:
    """An index by pyserini's own command line."""
    form = ["--collection", "JsonCollection", "--generator", "DefaultLuceneDocumentGenerator", "--threads", "1"]
    done = python(
        "-m",
        "csrerank.integrations.jvm",
        "pyserini.index.lucene",
        *form,
        "--input",
        folder / "collection",
        "--index",
        folder / "index",
        "--language",
        "de",
        "--storeRaw",
    )
    assert done.returncode == 0 and (folder / "index").is_dir(), done.stderr
    return folder / "index"


@pytest.fixture(scope="module")
def bm25(folder: Path, index: Path) -> Path:
    """A TREC run by pyserini's own command line."""
    options = ["--index", index, "--topics", folder / "topics.tsv", "--language", "de", "--hits", 100, "--bm25"]
    done = python("-m", "csrerank.integrations.jvm", "pyserini.search.lucene", *options, "--output", folder / "bm25.trec")
    assert done.returncode == 0, done.stderr
    return folder / "bm25.trec"


@pytest.fixture(scope="module")
def reranked(folder: Path, index: Path, bm25: Path, toy_model: Path) -> Path:
    """``csrerank rerank`` of that run, texts from that index."""
    output = folder / "from-index.trec"
    command("rerank", "--run", bm25, "--index", index, "--queries", folder / "topics.tsv", "--model", toy_model, *MODEL_OPTIONS, "--output", output)
    return output


@pytest.fixture(scope="module")
def searcher(index: Path) -> Any:
    """pyserini's LuceneSearcher on that index."""
    jvm.start()
    from pyserini.search.lucene import LuceneSearcher

    searcher = LuceneSearcher(str(index))
    searcher.set_language("de")
    return searcher


@pytest.fixture(scope="module")
def reranker(toy_model: Path) -> Reranker:
    return Reranker.load(toy_model, SETTINGS)


def test_a_run_of_pyserini_is_reranked_alike_from_its_index_and_from_files(
    folder: Path, bm25: Path, reranked: Path, toy_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, better = list(read_run(bm25)), list(read_run(reranked))
    assert [run.topic for run in better] == [run.topic for run in first] == ["NA", "t-007", "t-en", "t-é"]
    assert [sorted(run.docs) for run in better] == [sorted(run.docs) for run in first]
    assert {"007", "7", "null"} <= set(first[0].docs)  # "Wale" finds "Wal": German was analysed as German
    assert {"NA", "é-1", "e\u0301-1"} < {doc for run in first for doc in run.docs}
    assert any(run.docs != other.docs for run, other in zip(first, better, strict=True))
    files = ["--queries", folder / "topics.tsv", "--docs", folder / "collection" / "docs.jsonl"]
    command("rerank", "--run", bm25, *files, "--model", toy_model, *MODEL_OPTIONS, "--output", folder / "from-files.trec")
    assert (folder / "from-files.trec").read_bytes() == reranked.read_bytes()
    command("check", reranked)
    assert "keeps the rules of trec" in capsys.readouterr().out


def test_searching_and_reranking_in_one_go_gives_the_same_bytes(folder: Path, index: Path, reranked: Path, toy_model: Path) -> None:
    options = ["--topics", folder / "topics.tsv", "--index", index, "--analyzer", "de", "--model", toy_model, *MODEL_OPTIONS]
    done = python("-m", "csrerank.rerank", *options, "--output", folder / "one-go.trec")
    assert done.returncode == 0 and done.stdout == "", done.stderr
    assert (folder / "one-go.trec").read_bytes() == reranked.read_bytes()


def test_hits_go_through_pyserinis_writers(tmp_path: Path, reranker: Reranker, searcher: Any, reranked: Path) -> None:
    from pyserini.output_writer import OutputFormat, get_output_writer

    better: dict[str, list[Hit]] = {}
    for topic, query in TOPICS.items():
        hits = searcher.search(query, 100)
        before = [(hit.docid, hit.score) for hit in hits]
        better[topic] = rerank_hits(reranker, query, hits, searcher)
        assert [(hit.docid, hit.score) for hit in hits] == before
    assert better.pop("z-none") == []
    for form in (OutputFormat.TREC, OutputFormat.MSMARCO):
        with get_output_writer(str(tmp_path / form.value), form, "w", max_hits=100, tag="csrerank") as writer:
            for topic, hits in better.items():
                writer.write(topic, hits)
    ours = list(read_run(reranked))
    assert [(run.topic, run.docs) for run in read_run(tmp_path / "trec")] == [(run.topic, run.docs) for run in ours]
    for run, lines in zip(ours, read_topic_lines(tmp_path / "trec"), strict=True):
        assert lines.scores == pytest.approx(run.scores, abs=1e-4) and (np.diff(np.array(lines.scores, np.float32)) < 0).all()
    assert check_run(tmp_path / "trec", "trec") == check_run(tmp_path / "msmarco", "msmarco") == []
    assert (tmp_path / "msmarco").read_text(encoding="utf-8").splitlines()[0] == f"NA\t{ours[0].docs[0]}\t1"


def test_hits_of_batch_search_and_hits_without_documents_are_reranked_alike(reranker: Reranker, searcher: Any) -> None:
    found = searcher.batch_search(list(TOPICS.values()), list(TOPICS), 100, 2)
    for topic, query in TOPICS.items():
        alone = rerank_hits(reranker, query, searcher.search(query, 100), searcher)
        assert rerank_hits(reranker, query, found[topic]) == alone
        dense = [SimpleNamespace(docid=hit.docid, score=hit.score) for hit in searcher.search(query, 100)]  # hits that carry no document
        assert rerank_hits(reranker, query, dense, searcher) == alone
        assert [hit.contents for hit in alone] == [DOCS[hit.docid] for hit in alone]
        assert all(json.loads(hit.raw or "")["id"] == hit.docid for hit in alone)


def test_ties_keep_the_order_given_and_a_second_pass_needs_no_searcher(reranker: Reranker) -> None:
    hits = [Hit(doc, 0.0, contents="the whale sleeps") for doc in ("b", "007", "a", "NA")]
    once = rerank_hits(reranker, "whale", [*hits, Hit("x", 9.0, contents="")])
    assert [hit.docid for hit in once if hit.docid != "x"] == ["b", "007", "a", "NA"]
    assert rerank_hits(reranker, "whale", once) == once and rerank_hits(reranker, "whale", None) == []


def test_the_text_scored_is_the_callers_or_the_hits_own_or_the_stored_one(reranker: Reranker) -> None:
    stored = SimpleNamespace(doc=lambda docid: SimpleNamespace(raw=lambda: None, contents=lambda: f"stored {docid}"))
    dense_hit = SimpleNamespace(docid="007", score=1.0)
    cases: Sequence[tuple[Any, dict[str, Any], str]] = [
        (dense_hit, {"searcher": stored}, "stored 007"),
        (dense_hit, {"searcher": stored, "text": lambda hit: f"given {hit.docid}"}, "given 007"),
        (Hit("007", 1.0, contents="own"), {"searcher": stored}, "own"),
        (Hit("007", 1.0, raw='{"id": "007", "title": "A", "contents": "whale"}', contents="indexed"), {}, "A whale"),
    ]
    for hit, options, text in cases:
        (better,) = rerank_hits(reranker, "whale", [hit], **options)
        assert better.contents == text and better.score == pytest.approx(float(reranker.score("whale", [text])[0]), abs=1e-5)


@pytest.mark.parametrize(
    ("searcher", "message"),
    [
        (None, "carries no text; give searcher="),
        (SimpleNamespace(doc=lambda docid: None), "not in the searcher's index"),
        (SimpleNamespace(doc=lambda docid: SimpleNamespace(raw=lambda: None, contents=lambda: None)), "stores no texts; rebuild it with --storeRaw"),
    ],
)
def test_a_hit_without_a_text_is_an_error_that_names_it(reranker: Reranker, searcher: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^document '007': .*{message}"):
        rerank_hits(reranker, "whale", [SimpleNamespace(docid="007", score=1.0)], searcher)


@given(
    st.lists(st.floats(-1e7, 1e7, width=32) | st.floats(-40, 40, width=32) | st.sampled_from([0.0, -0.0, 1e-7, 20.0, -20.0, 0.5]), max_size=30).map(
        lambda scores: sorted(scores, reverse=True)
    )
)
@example([20.0] * 5)
@example([1e-7, 0.0, -0.0, -1e-7])
@example([3.0000002, 3.0, 2.9999999])
@example([16777216.0, 16777216.0])
@example([20.000002, 20.000001])  # doubles that float32 does not tell apart
def test_scores_fall_strictly_as_printed_and_as_float32(scores: list[float]) -> None:
    fixed = printable(scores)
    printed = [f"{score:.6f}" for score in fixed]
    assert [float(text) for text in printed] == fixed and "-0.000000" not in printed
    assert (np.diff(np.array(fixed, np.float32).astype(np.float64)) < 0).all()
    for at, score in enumerate(scores):  # nothing moves but to make room
        below = float(np.nextafter(np.float32(fixed[at - 1]), np.float32(-np.inf))) if at else -np.inf
        assert fixed[at] == round(score, 6) or 0 <= below - fixed[at] < 1.1e-6


def test_the_java_runner_says_what_it_cannot_run() -> None:
    for arguments in (["pyserini.no.such"], ["pyserini.no"], ["csrerank.integrations"], ["--help"], []):
        with pytest.raises(InputError, match="^[^\n]*give one of|^no module named"):
            jvm.run_module(arguments)
    done = python("-m", "csrerank.integrations.jvm")
    assert done.returncode == 2 and done.stderr.startswith("Error: no module named") and done.stderr.count("\n") == 1
