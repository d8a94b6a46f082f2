"""First stages: BM25 through Lucene, the dense run, the carried-over run, and the command's files."""

from pathlib import Path

import numpy as np
import pytest

from csrerank.errors import InputError
from csrerank.retrieval.carry import carry_over
from csrerank.trec import TopicRun, read_run


def test_bm25_stems_by_language_and_keeps_ids(tmp_path: Path) -> None:
    from csrerank.retrieval.bm25 import BM25, build_index

    documents = [("007", "Die Wale schlafen im Meer."), ("NA", "Der Vulkan bricht aus."), ("é-1", "Ein Walfänger.")]
    searcher = BM25(build_index(documents, tmp_path / "de", "de"))
    found = list(searcher.search([("q1", "Wal schläft"), ("0042", "Vulkane"), ("none", "zzz"), ("empty", "")], 10))
    assert [(run.topic, run.docs) for run in found] == [("q1", ["007"]), ("0042", ["NA"]), ("none", []), ("empty", [])]
    assert searcher.stored_text("007") == documents[0][1] and searcher.stored_text("nope") is None


def test_bm25_standard_analyzer_serves_mixed_scripts(tmp_path: Path) -> None:
    from csrerank.retrieval.bm25 import BM25, build_index

    searcher = BM25(build_index([("zh", "鲸鱼为什么睡觉"), ("en", "Why whales sleep"), ("el", "Γιατί κοιμούνται")], tmp_path / "mixed", "standard"))
    assert [run.docs for run in searcher.search([("1", "鲸鱼"), ("2", "WHALES"), ("3", "κοιμούνται")], 5)] == [["zh"], ["en"], ["el"]]
    with pytest.raises(InputError, match="built with the analyzer standard"):
        BM25(tmp_path / "mixed", "de")


def test_a_language_without_an_analyzer_is_an_error_that_names_the_way_out() -> None:
    from csrerank.retrieval.bm25 import analyzer_for, check_analyzer

    assert (analyzer_for(["pt"]), analyzer_for(["en", "de"])) == ("pt", "standard")
    for lang in ("el", "vi"):
        with pytest.raises(InputError, match="--analyzer whitespace"):
            analyzer_for([lang])
    with pytest.raises(InputError, match="known are whitespace"):
        check_analyzer("klingon")


def test_building_an_index_fails_whole(tmp_path: Path) -> None:
    from csrerank.retrieval.bm25 import BM25, build_index

    with pytest.raises(InputError, match="no documents"):
        build_index([], tmp_path / "none", "en")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "not-an-index").mkdir()
    with pytest.raises(InputError, match="not a Lucene index"):
        BM25(tmp_path / "not-an-index")


def test_dense_search_ranks_by_cosine() -> None:
    from csrerank.retrieval.dense import search

    vectors = np.eye(3, dtype=np.float32)
    query = np.array([[0.6, 0.8, 0.0]], np.float32)
    (run,) = search(vectors, ["a", "b", "c"], query, ["t"], 2)
    assert run.docs == ["b", "a"] and run.scores == pytest.approx([0.8, 0.6])


def test_carrying_over_gives_sentences_their_paragraphs_score_in_order_and_cuts() -> None:
    english = [TopicRun("t", ["p2", "p1", "p3"], [3.0, 2.0, 1.0])]
    members = {"p1": ["p1-0", "p1-1"], "p2": ["p2-0"], "p3": ["p3-0"]}
    assert list(carry_over(english, members, k=3)) == [TopicRun("t", ["p2-0", "p1-0", "p1-1"], [3.0, 2.0, 2.0])]
    assert list(carry_over(english, members, k=9, paragraphs=1)) == [TopicRun("t", ["p2-0"], [3.0])]


def test_an_index_of_others_is_not_searched_as_english(tmp_path: Path) -> None:
    from csrerank.retrieval.bm25 import BM25, build_index

    index = build_index([("1", "Die Wale schlafen.")], tmp_path / "de", "de")
    (index / "csrerank.json").unlink()
    assert BM25(index).stored_text("1") == "Die Wale schlafen."
    with pytest.raises(InputError, match="give --analyzer"):
        next(BM25(index).search([("q", "Wal")], 1))
    assert next(BM25(index, "de").search([("q", "Wal")], 1)).docs == ["1"]


def test_retrieve_writes_run_sidecar_and_reuses_the_index(tmp_path: Path) -> None:
    from csrerank.metadata import dataset_of
    from csrerank.retrieval.first_stage import retrieve

    for name in ("first", "second"):
        result = retrieve("csrerank/demo/de-de", tmp_path / f"{name}.trec", k=20, cache=tmp_path / "cache", quiet=True)
        assert result.topics == 48 and result.pool_recall is not None
    assert (tmp_path / "first.trec").read_bytes() == (tmp_path / "second.trec").read_bytes()
    assert len(list((tmp_path / "cache" / "indexes").iterdir())) == 1
    assert dataset_of(tmp_path / "first.trec") == "csrerank/demo/de-de"
    oracle = retrieve("csrerank/demo/en-de", tmp_path / "oracle.trec", "oracle", k=20, cache=tmp_path / "cache", quiet=True)
    english = retrieve("csrerank/demo/en-en", tmp_path / "english.trec", k=20, cache=tmp_path / "cache", quiet=True)
    assert [run[:2] for run in read_run(tmp_path / "oracle.trec")] == [run[:2] for run in read_run(tmp_path / "english.trec")]
    assert oracle.pool_recall == english.pool_recall


def test_dense_first_stage_over_the_demo(tmp_path: Path, toy_encoder: Path) -> None:
    from csrerank.retrieval.first_stage import retrieve

    first = retrieve("csrerank/demo/en-ru", tmp_path / "dense.trec", "dense", k=30, encoder=str(toy_encoder), cache=tmp_path / "cache", quiet=True)
    assert first.topics == 48 and all(len(run.docs) == 30 for run in read_run(tmp_path / "dense.trec"))
    blocks = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "embeddings").iterdir()}
    retrieve("csrerank/demo/en-ru", tmp_path / "again.trec", "dense", k=30, encoder=str(toy_encoder), cache=tmp_path / "cache", quiet=True)
    assert blocks == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "embeddings").iterdir()}
    assert (tmp_path / "dense.trec").read_bytes() == (tmp_path / "again.trec").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "dense", "analyzer": "de"}, "--analyzer is for BM25"),
        ({"method": "bm25", "encoder": "x"}, "--encoder is for"),
        ({"method": "dense"}, "scripts/build_encoder"),
        ({"k": 0}, "--k 0"),
        ({"method": "guess"}, "unknown first stage"),
    ],
)
def test_options_that_do_not_fit_are_errors(tmp_path: Path, options: dict, message: str) -> None:
    from csrerank.retrieval.first_stage import retrieve

    with pytest.raises(InputError, match=message):
        retrieve("csrerank/demo/en-de", tmp_path / "run.trec", cache=tmp_path / "cache", quiet=True, **options)
    assert not (tmp_path / "run.trec").exists()
