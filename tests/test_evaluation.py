"""Measures are trec_eval's, whatever trectools does to ids, ties and topics; tables say what was counted."""

import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from csrerank.errors import InputError
from csrerank.evaluation import Measure, Scores, evaluate, measures, parse_measure, remarks, table
from csrerank.trec import TopicRun, read_qrels, read_run

# A warning of pandas or numpy that trectools sets off fails the tests.
pytestmark = pytest.mark.filterwarnings("error")

Rankings = Mapping[str, Mapping[str, float]]
ODD_IDS = ["007", "7", "07", "7.0", "NA", "null", "nan", "None", "True", "é", "e\u0301", '"', "'", "\u3000x", "😀", "1e5", "-1", "a", "b"]
# Pairs that only a 64-bit float tells apart are ties to trec_eval.
SCORES = [0.0, -0.0, 1.0, 1.00000001, 1.5, -2.0, 16777216.0, 16777217.0, 1e-50, -1e-50, 3.25]
CUTOFFS = [1, 2, 3, 5, 100]


def as_run(rankings: Rankings) -> list[TopicRun]:
    """Keep the order of the mapping, so that ties arrive in any order."""
    return [TopicRun(topic, list(docs), list(docs.values())) for topic, docs in rankings.items()]


def score(rankings: Rankings, qrels: dict[str, dict[str, int]], measure: str) -> dict[str, float]:
    return dict(evaluate(as_run(rankings), qrels, [parse_measure(measure)])[parse_measure(measure).name])


def oracle(rankings: Rankings, qrels: dict[str, dict[str, int]], measure: Measure) -> dict[str, float]:
    """pytrec_eval, with zeros for the topics that it leaves out; RR is cut where it says that the rank is too deep."""
    import pytrec_eval

    whole = {"RR": "recip_rank", "nDCG": "ndcg", "AP": "map"}
    cut = {"nDCG": "ndcg_cut", "AP": "map_cut", "P": "P", "R": "recall"}
    name = f"{cut[measure.kind]}_{measure.cutoff}" if measure.cutoff and measure.kind != "RR" else whole[measure.kind]
    # pytrec_eval 0.5.11 corrupts memory where a topic's highest grade is negative; an unlisted document of grade 0 changes no value.
    padded = {topic: {**grades, "unlisted": 0} if max(grades.values()) < 0 else grades for topic, grades in qrels.items()}
    evaluator = pytrec_eval.RelevanceEvaluator(padded, {name}, relevance_level=measure.rel)
    found = {topic: row[name] for topic, row in evaluator.evaluate({t: dict(docs) for t, docs in rankings.items() if docs}).items()}
    if measure.kind == "RR" and measure.cutoff:
        found = {topic: value if value and round(1 / value) <= measure.cutoff else 0.0 for topic, value in found.items()}
    return {topic: found.get(topic, 0.0) for topic in qrels}


# Few topics and documents, so that runs and qrels share most of them.
topic_ids = st.sampled_from(["007", "7", "NA", '"'])
doc_ids = st.sampled_from(["007", "7", "NA", "null", "é", "e\u0301", '"', "😀", "a"])
judged_docs = st.dictionaries(doc_ids, st.integers(-2, 4), min_size=5) | st.dictionaries(doc_ids, st.integers(-2, 0), min_size=1)
listed_docs = st.dictionaries(doc_ids, st.sampled_from(SCORES), min_size=5) | st.dictionaries(doc_ids, st.sampled_from(SCORES), max_size=2)
judgements = st.dictionaries(topic_ids, judged_docs, min_size=1)
rankings_of_ids = st.dictionaries(topic_ids, listed_docs, min_size=2) | st.dictionaries(topic_ids, listed_docs, max_size=1)
any_measure = st.one_of(
    st.builds(lambda kind, k: f"{kind}@{k}", st.sampled_from(["RR", "nDCG", "AP", "P", "R"]), st.sampled_from(CUTOFFS)),
    st.builds(lambda kind, rel, k: f"{kind}(rel={rel})@{k}", st.sampled_from(["RR", "AP", "P", "R"]), st.integers(1, 4), st.sampled_from(CUTOFFS)),
    st.sampled_from(["RR", "nDCG", "AP", "RR(rel=2)", "AP(rel=3)"]),
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rankings=rankings_of_ids, qrels=judgements, names=st.lists(any_measure, min_size=1, max_size=5), rows=st.sampled_from([1, 4, 200_000]))
@example(rankings={"007": {"a": 1.0, "b": 1.00000001}}, qrels={"007": {"a": 1}, "7": {"a": 1}}, names=["nDCG@1", "AP", "RR"], rows=1)
@example(rankings={}, qrels={"NA": {"a": 0}}, names=["P@5"], rows=1)
def test_every_value_is_pytrec_evals(rankings: Rankings, qrels: dict[str, dict[str, int]], names: list[str], rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "_BLOCK_ROWS", rows)
        scores = evaluate(as_run(rankings), qrels, [parse_measure(name) for name in names])
    for name in names:
        measure = parse_measure(name)
        expected = oracle(rankings, qrels, measure)
        assert list(scores[measure.name]) == list(qrels)
        assert dict(scores[measure.name]) == pytest.approx(expected, rel=0, abs=1e-9)
        assert scores.mean(measure) == pytest.approx(sum(expected.values()) / len(qrels), abs=1e-9)
    assert set(scores.missing) == {topic for topic in qrels if not rankings.get(topic)}
    assert set(scores.unjudged) == {topic for topic in rankings if topic not in qrels and rankings[topic]}


@pytest.mark.parametrize("name", ["RR", "RR@10", "AP", "AP@20", "AP(rel=2)", "nDCG", "nDCG@10", "nDCG@100", "P@20", "R@100", "R(rel=3)@1000"])
def test_long_rankings_are_pytrec_evals_too(name: str) -> None:
    rankings = {f"t{t}": {f"d{(d * 37) % 400}": float((d * 7919 + t) % 150) for d in range(300)} for t in range(12)}
    qrels = {f"t{t}": {f"d{(d * 11 + t) % 500}": d % 5 - 1 for d in range(60)} for t in range(14)}
    assert score(rankings, qrels, name) == pytest.approx(oracle(rankings, qrels, parse_measure(name)), rel=0, abs=1e-9)


# Ranking by hand: b (2), a (unjudged), d (0), c (1), e (-1); also judged and not listed: f (3).
HAND_RUN = {"1": {"a": 4.0, "b": 5.0, "c": 2.0, "d": 3.0, "e": 1.0}}
HAND_QRELS = {"1": {"b": 2, "d": 0, "c": 1, "e": -1, "f": 3}}
IDEAL = 3 + 2 / math.log2(3) + 1 / 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RR", 1.0),
        ("RR(rel=3)", 0.0),
        ("P@1", 1.0),
        ("P@4", 2 / 4),
        ("P@10", 2 / 10),
        ("R@3", 1 / 3),
        ("R@100", 2 / 3),
        ("R(rel=2)@100", 1 / 2),
        ("AP", (1 + 2 / 4) / 3),
        ("AP@3", 1 / 3),
        ("AP(rel=2)", 1 / 2),
        ("nDCG", (2 + 1 / math.log2(5)) / IDEAL),
        ("nDCG@3", 2 / IDEAL),
        ("nDCG@1", 2 / 3),
    ],
)
def test_by_hand(name: str, value: float) -> None:
    assert score(HAND_RUN, HAND_QRELS, name) == {"1": pytest.approx(value, abs=1e-12)}


def test_ideal_ranking_is_longer_than_a_short_run() -> None:
    assert score({"1": {"b": 1.0}}, HAND_QRELS, "nDCG") == {"1": pytest.approx(2 / IDEAL, abs=1e-12)}


def test_rr_is_cut_at_its_cutoff() -> None:
    rankings = {"1": {f"d{rank:02}": -float(rank) for rank in range(1, 21)}}
    assert score(rankings, {"1": {"d10": 1}}, "RR@10") == {"1": pytest.approx(1 / 10)}
    assert score(rankings, {"1": {"d11": 1}}, "RR@10") == {"1": 0.0}
    assert score(rankings, {"1": {"d11": 1}}, "RR") == {"1": pytest.approx(1 / 11)}


@pytest.mark.parametrize("name", ["RR", "nDCG@5", "AP", "P@5", "R@5"])
def test_every_id_is_only_itself(name: str) -> None:
    rankings = {topic: {topic: 2.0, "d": 1.0} for topic in ODD_IDS}
    qrels = {topic: {doc: int(doc == topic) for doc in ODD_IDS} for topic in ODD_IDS}
    assert score(rankings, qrels, name) == dict.fromkeys(ODD_IDS, pytest.approx(0.2 if name == "P@5" else 1.0))


@pytest.mark.parametrize("name", ["RR", "nDCG@1", "AP", "P@1", "R@1"])
def test_all_measures_break_ties_alike_by_descending_id(name: str) -> None:
    for docs in (["a", "b"], ["b", "a"]):
        tied = [TopicRun("1", docs, [2.0, 2.0])]
        assert evaluate(tied, {"1": {"b": 1}}, [parse_measure(name)]).mean(parse_measure(name)) == 1.0
        assert evaluate(tied, {"1": {"a": 1}}, [parse_measure(name)]).mean(parse_measure(name)) < 1.0


def test_ties_compare_utf8_bytes() -> None:
    # By UTF-16 units, as Java compares, the emoji (a surrogate pair) would come after U+FFFD.
    assert score({"1": {"\ufffd": 1.0, "😀": 1.0}}, {"1": {"😀": 1}}, "RR") == {"1": 1.0}


def test_the_order_in_a_topic_is_of_no_account() -> None:
    assert evaluate([TopicRun("1", ["low", "high"], [1.0, 2.0])], {"1": {"high": 1}}, [parse_measure("RR")]).mean("RR") == 1.0


def test_scores_beyond_float32_are_infinite_as_in_trec_eval() -> None:
    rankings = {"1": {"a": 1e300, "b": 1e200, "c": 0.0}}
    qrels = {"1": {"a": 1}}
    assert score(rankings, qrels, "RR") == oracle(rankings, qrels, parse_measure("RR")) == {"1": 0.5}


def test_the_mean_is_over_all_topics_of_the_qrels() -> None:
    qrels = {"1": {"a": 1}, "2": {"a": 1}, "3": {"a": 0}, "4": {"a": 1}}
    run = [TopicRun("9", ["a"], [1.0]), TopicRun("1", ["a"], [1.0]), TopicRun("3", ["a"], [1.0]), TopicRun("4", [], [])]
    scores = evaluate(iter(run), qrels, [parse_measure("RR"), parse_measure("nDCG@10")])
    assert scores["RR"] == {"1": 1.0, "2": 0.0, "3": 0.0, "4": 0.0}
    assert scores.mean("RR") == scores.mean(parse_measure("ndcg@10")) == 0.25
    assert scores.missing == ("2", "4")
    assert scores.unjudged == ("9",)


def test_ids_from_files_stay_strings(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("007 Q0 7 1 2 t\n007 Q0 NA 2 1 t\n7 Q0 007 1 1 t\nNA Q0 null 1 1 t\n", encoding="utf-8")
    (tmp_path / "qrels").write_text("007 0 NA 1\n7 0 7 1\nNA 0 null 1\n", encoding="utf-8")
    scores = evaluate(read_run(tmp_path / "run"), read_qrels(tmp_path / "qrels"), [parse_measure("RR@10")])
    assert scores["RR@10"] == {"007": 0.5, "7": 0.0, "NA": 1.0}
    assert scores.missing == scores.unjudged == ()


def test_the_run_is_read_as_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[int] = []
    blocks: list[int] = []
    whole = measures._block_values

    def counted(block: dict[str, list[str]], qrels: measures.Qrels, measure: Measure) -> dict[str, float]:
        blocks.append(len(handed))
        return whole(block, qrels, measure)

    def topics() -> Iterator[TopicRun]:
        for number in range(6):
            handed.append(number)
            yield TopicRun(str(number), ["x", "y"], [2.0, 1.0])

    monkeypatch.setattr(measures, "_BLOCK_ROWS", 4)
    monkeypatch.setattr(measures, "_block_values", counted)
    scores = evaluate(topics(), {str(number): {"y": 1} for number in range(6)}, [parse_measure("RR")])
    assert blocks == [2, 4, 6]
    assert scores.mean("RR") == 0.5


@pytest.mark.parametrize(
    ("text", "measure"),
    [
        ("RR@10", Measure("RR@10", "RR", 10)),
        ("MRR@10", Measure("RR@10", "RR", 10)),
        ("rr", Measure("RR", "RR", None)),
        ("ndcg@20", Measure("nDCG@20", "nDCG", 20)),
        ("NDCG", Measure("nDCG", "nDCG", None)),
        ("MAP", Measure("AP", "AP", None)),
        ("map@100", Measure("AP@100", "AP", 100)),
        ("AP(rel=2)@100", Measure("AP(rel=2)@100", "AP", 100, 2)),
        ("ap(rel=1)", Measure("AP", "AP", None)),
        (" Recall@100 ", Measure("R@100", "R", 100)),
        ("p( rel = 3 )@5", Measure("P(rel=3)@5", "P", 5, 3)),
    ],
)
def test_parse_measure(text: str, measure: Measure) -> None:
    assert parse_measure(text) == measure
    assert parse_measure(measure.name) == measure


def test_names_are_ir_measures_names() -> None:
    import ir_measures

    for text in ("RR", "RR@10", "MRR@10", "nDCG@20", "NDCG", "AP", "MAP@100", "AP(rel=2)@100", "R@100", "P@10", "RR(rel=2)@10"):
        assert str(ir_measures.parse_measure(text)) == parse_measure(text).name


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("RBP", "use one of RR, RR@k, nDCG"),
        ("RBP(p=0.8)", "not known"),
        ("", "not known"),
        ("nDCG@ten", "not known"),
        ("nDCG@10@10", "not known"),
        ("R@１０", "not known"),
        ("RR\n@10", "not known"),
        ("P", "P needs a cut-off; write for instance P@10"),
        ("recall", "R needs a cut-off"),
        ("RR@0", "give 1 or more"),
        ("AP(rel=0)", "give 1 or more"),
        ("AP(rel=-1)", "not known"),
        ("nDCG(rel=2)@10", "leave out (rel=2)"),
    ],
)
def test_unusable_measures_say_why_in_one_line(text: str, fragment: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_measure(text)
    assert fragment in str(caught.value)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("run", "qrels", "asked", "fragment"),
    [
        ([TopicRun("1", ["a"], [math.nan])], {"1": {"a": 1}}, [Measure("RR", "RR", None)], "score of document 'a' is not a number"),
        ([TopicRun("1", ["a", "a"], [2.0, 1.0])], {"1": {"a": 1}}, [Measure("RR", "RR", None)], "document 'a' comes twice"),
        ([TopicRun("1", ["a", "b"], [2.0])], {"1": {"a": 1}}, [Measure("RR", "RR", None)], "2 documents and 1 scores"),
        ([TopicRun("1", ["a"], [2.0]), TopicRun("1", ["b"], [2.0])], {"1": {"a": 1}}, [Measure("RR", "RR", None)], "topic '1' comes twice"),
        ([], {}, [Measure("RR", "RR", None)], "the qrels hold no topic"),
        ([], {"1": {"a": 1}}, [], "no measure given"),
        ([], {"1": {"a": 1}}, [Measure("x", "RBP", None)], "kind 'RBP' is not known"),
        ([], {"1": {"a": 1}}, [Measure("x", "RR", 5), Measure("x", "RR", 10)], "two different measures"),
    ],
)
def test_unusable_input(run: list[TopicRun], qrels: dict[str, dict[str, int]], asked: list[Measure], fragment: str) -> None:
    with pytest.raises(InputError, match=fragment):
        evaluate(run, qrels, asked)


def two_runs() -> dict[str, Scores]:
    qrels = {"1": {"a": 1}, "2": {"a": 1}, "3": {"a": 1}}
    asked = [parse_measure("RR@10"), parse_measure("AP(rel=2)@100")]
    first = evaluate([TopicRun("1", ["a"], [1.0])], qrels, asked)
    second = evaluate([TopicRun(topic, ["b", "a"], [2.0, 1.0]) for topic in "1234"], qrels, asked)
    return {"bm25": first, "reranked": second}


def test_table_is_aligned() -> None:
    assert table(two_runs()).split("\n") == [
        "run        RR@10  AP(rel=2)@100",
        "bm25      0.3333         0.0000",
        "reranked  0.5000         0.0000",
    ]


def test_table_by_topic_is_tsv_in_full() -> None:
    lines = [line.split("\t") for line in table(two_runs(), by_topic=True).split("\n")]
    assert lines[0] == ["run", "topic", "measure", "value"]
    assert lines[1] == ["bm25", "1", "RR@10", "1.0"]
    assert lines[2] == ["bm25", "2", "RR@10", "0.0"]
    assert len(lines) == 1 + 2 * 2 * 3
    third = evaluate([TopicRun("1", list("abc"), [3.0, 2.0, 1.0])], {"1": {"c": 1}}, [parse_measure("RR")])
    assert float(table({"x": third}, by_topic=True).split("\t")[-1]) == third["RR"]["1"]


def test_table_refuses_what_it_cannot_show() -> None:
    rows = two_runs()
    other = evaluate([], {"1": {"a": 1}}, [parse_measure("RR@10")])
    with pytest.raises(InputError, match=r"'bm25' was scored with RR@10, AP\(rel=2\)@100, but 'other' with RR@10"):
        table({**rows, "other": other})
    with pytest.raises(InputError, match="no run to show"):
        table({})
    with pytest.raises(InputError, match="rename the run"):
        table({"a\tb": other}, by_topic=True)


def test_remarks_count_what_the_means_rest_on() -> None:
    assert remarks(two_runs()) == [
        "bm25: 2 of the 3 topics of the qrels are not in the run and count as 0: 2, 3",
        "reranked: 1 topics of the run have no judgements and are ignored: 4",
    ]
    many = evaluate([], {str(topic): {"a": 1} for topic in range(9)}, [parse_measure("RR")])
    assert remarks({"x": many})[0].endswith(": 0, 1, 2, 3, 4, …")


def test_import_is_light() -> None:
    code = "import csrerank.evaluation, sys; assert not {'pandas', 'trectools', 'numpy', 'torch'} & set(sys.modules), sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
