"""A run that csrerank wrote scores the same in the field's other tools: pytrec_eval, ir_measures, trectools and ranx."""

import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from csrerank.cli import cli
from csrerank.trec import TopicRun, read_qrels, read_run, write_qrels, write_run

# Ids that readers take for numbers, for missing values, or for another of the same look. \u3000 in an id is ours alone: pytrec_eval, ir_measures and ranx
# split lines there.
ODD_IDS = ["007", "7", "07", "7.0", "1e5", "-1", "NA", "null", "nan", "None", "True", "é", "e\u0301", "ß", "鲸-2", "кит", "😀", '"', "'", "#1", "a,b"]
SUBJECTS = ["whale", "Wal", "кит", "river", "Fluss", "bridge", "sleep", "ice"]
VERBS = ["sleeps", "ruht", "falls", "grows slowly", "bricht", "sings", "is old", "wächst"]


class Files(NamedTuple):
    """A re-ranked run and its qrels."""

    run: Path
    qrels: Path


def run_measure(files: Files, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """RR@10 by topic, as ``csrerank evaluate`` prints it."""
    cli.main(["evaluate", str(files.run), "--qrels", str(files.qrels), "--measures", "RR@10", "--by-topic"], standalone_mode=False)
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    return {topic: float(value) for _, topic, _, value in lines}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, toy_model: Path) -> Files:
    """48 topics over 60 documents, re-ranked. Every text stands under two or three ids, so the model ties them; every topic of the qrels is in the run (tools
    differ on those that are not).
    """
    folder = tmp_path_factory.mktemp("interchange")
    draw = random.Random("interchange")
    topics = [*ODD_IDS, *(f"t{number}" for number in range(48 - len(ODD_IDS)))]
    docs = [*ODD_IDS, *(f"d{number}" for number in range(60 - len(ODD_IDS)))]
    texts = [f"The {subject} {verb}." for subject, verb in zip(SUBJECTS * 3, [*VERBS, *VERBS[1:], VERBS[0], *VERBS[2:], *VERBS[:2]], strict=True)]
    (folder / "docs.tsv").write_text("".join(f"{doc}\t{texts[at % len(texts)]}\n" for at, doc in enumerate(docs)), encoding="utf-8")
    (folder / "topics.tsv").write_text(
        "".join(f"{topic}\t{draw.choice(VERBS)} {draw.choice(SUBJECTS)} {at}\n" for at, topic in enumerate(topics)), encoding="utf-8"
    )
    pools = {topic: draw.sample(docs, 30) for topic in topics}
    write_run(folder / "bm25.trec", (TopicRun(topic, pool, [30.0 - at for at in range(30)]) for topic, pool in pools.items()), "bm25")
    grades = {topic: {doc: draw.choice([0, 1, 1, 2]) for doc in draw.sample(pool, draw.randint(1, 5))} for topic, pool in pools.items()}
    for topic in topics[:2]:  # nothing relevant in the run: the topic must count as 0 everywhere
        grades[topic] = {"unlisted": 1, pools[topic][0]: 0}
    write_qrels(folder / "qrels.txt", grades)
    result = Files(folder / "reranked.trec", folder / "qrels.txt")
    sources = ["--queries", folder / "topics.tsv", "--docs", folder / "docs.tsv"]
    cli.main(
        [
            str(part)
            for part in ["rerank", "--run", folder / "bm25.trec", *sources, "--model", toy_model, "--max-length", 128, "--output", result.run, "--quiet"]
        ],
        standalone_mode=False,
    )
    return result


@pytest.fixture
def ours(files: Files, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """RR@10 by topic from ``csrerank evaluate --by-topic``."""
    return run_measure(files, capsys)


def mean(values: dict[str, float]) -> float:
    return sum(values.values()) / len(values)


def test_the_run_is_a_hard_case(files: Files, ours: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    """Ties of the model, relevant documents beyond rank 10, odd ids in both columns; the printed mean is the mean of the topics."""
    rankings = list(read_run(files.run))
    tied = sum(
        np.nextafter(np.float32(high), np.float32(-np.inf)) == np.float32(low)
        for run in rankings
        for high, low in zip(run.scores, run.scores[1:], strict=False)
    )
    assert tied > 48  # neighbours one float32 step apart were tied: csrerank told them apart
    assert {run.topic for run in rankings} == set(ours) > set(ODD_IDS) and {doc for run in rankings for doc in run.docs} > set(ODD_IDS)
    grades = read_qrels(files.qrels)
    deep = [run.topic for run in rankings if ours[run.topic] == 0 and any(grades[run.topic].get(doc, 0) > 0 for doc in run.docs[10:])]
    assert len(deep) >= 3 and 0.1 < mean(ours) < 0.9
    cli.main(["evaluate", str(files.run), "--qrels", str(files.qrels), "--measures", "RR@10"], standalone_mode=False)
    assert capsys.readouterr().out.split()[-1] == f"{mean(ours):.4f}"


def test_pytrec_eval(files: Files, ours: dict[str, float]) -> None:
    """trec_eval has no cut-off for reciprocal rank, so its run is cut at 10."""
    import pytrec_eval

    with files.run.open(encoding="utf-8") as lines, files.qrels.open(encoding="utf-8") as judgements:
        run, qrels = pytrec_eval.parse_run(lines), pytrec_eval.parse_qrel(judgements)
    top = {topic: dict(sorted(docs.items(), key=lambda item: -item[1])[:10]) for topic, docs in run.items()}
    found = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(top)
    assert {topic: row["recip_rank"] for topic, row in found.items()} == pytest.approx(ours, abs=1e-12)


def test_ir_measures(files: Files, ours: dict[str, float]) -> None:
    import ir_measures
    from ir_measures import RR

    qrels, run = list(ir_measures.read_trec_qrels(str(files.qrels))), list(ir_measures.read_trec_run(str(files.run)))
    assert {row.query_id: row.value for row in ir_measures.iter_calc([RR @ 10], qrels, run)} == pytest.approx(ours, abs=1e-12)
    assert ir_measures.calc_aggregate([RR @ 10], qrels, run)[RR @ 10] == pytest.approx(mean(ours), abs=1e-12)


def test_trectools(files: Files, ours: dict[str, float]) -> None:
    """``TrecRun(file)`` reads 007 as 7 and NA as nothing: so the columns are read as strings and handed over."""
    import pandas as pd
    from trectools import TrecEval, TrecQrel, TrecRun

    def columns(path: Path, names: list[str]) -> pd.DataFrame:
        return pd.read_csv(path, sep=" ", names=names, dtype=str, keep_default_na=False, quoting=3, encoding="utf-8")

    run, qrels = TrecRun(), TrecQrel()
    run.load_run_from_dataframe(columns(files.run, ["query", "q0", "docid", "rank", "score", "system"]).astype({"rank": int, "score": float}))
    qrels.qrels_data = columns(files.qrels, ["query", "q0", "docid", "rel"]).astype({"rel": int})
    assert TrecEval(run, qrels).get_reciprocal_rank(depth=10) == pytest.approx(mean(ours), abs=1e-12)


@pytest.mark.filterwarnings("ignore:unsafe cast:numba.core.errors.NumbaWarning")
def test_ranx(files: Files, ours: dict[str, float]) -> None:
    from ranx import Qrels, Run, evaluate

    qrels, run = Qrels.from_file(str(files.qrels), kind="trec"), Run.from_file(str(files.run), kind="trec")
    assert evaluate(qrels, run, "mrr@10") == pytest.approx(mean(ours), abs=1e-12)
    assert {topic: float(value) for topic, value in run.scores["mrr@10"].items()} == pytest.approx(ours, abs=1e-12)
