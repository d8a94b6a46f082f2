"""Fairness across languages: every measure against values worked out by hand, and what the command says of good and bad input."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from conftest import needs_real_data

from csrerank.cli import run_command
from csrerank.collections.mmarco import TRACKS
from csrerank.collections.sampling import draw_language
from csrerank.errors import InputError
from csrerank.evaluation.fairness import OWN, Consistency, Gap, Peer, Share, clir_gap, consistency, peer, shares
from csrerank.evaluation.fairness_table import document_languages, fairness_table
from csrerank.trec import TopicRun, write_run

pytestmark = pytest.mark.filterwarnings("error")
ROOT = Path(__file__).parents[1]
LANGUAGES = {f"{lang}{number}": lang for lang in ("de", "en", "ru") for number in range(1, 10)}


def ranking(topic: str, docs: str) -> TopicRun:
    listed = docs.split()
    return TopicRun(topic, listed, [100.0 - rank for rank in range(len(listed))])


def judged(docs: str, grade: int = 1) -> dict[str, int]:
    return dict.fromkeys(docs.split(), grade)


def value(docs: str, qrels: Mapping[str, int], k: int = 10, weights: Mapping[int, float] | None = None) -> float:
    return peer([ranking("q", docs)], {"q": qrels}, LANGUAGES, k, weights).values["q"]


def p_of(h: float, languages: int = 2) -> float:
    """The chi-square tail in closed form, for 1 and 2 degrees of freedom."""
    return math.erfc(math.sqrt(h / 2)) if languages == 2 else math.exp(-h / 2)


# H = 12 / (n (n + 1)) * sum of (rank sum)^2 / size - 3 (n + 1), over (1 - sum of (t^3 - t) / (n^3 - n)) where t documents share a rank.
KRUSKAL_WALLIS = [
    ("en1 en2 de1 de2", "en1 en2 de1 de2", 10, 2.4, 2),  # 0.6 (9/2 + 49/2) - 15
    ("de1 de2 en1 en2", "en1 en2 de1 de2", 10, 2.4, 2),
    ("en1 de1 de2 en2", "en1 en2 de1 de2", 10, 0.0, 2),
    ("en1 en2 de1 de2 ru1 ru2", "en1 en2 de1 de2 ru1 ru2", 10, 32 / 7, 3),  # 2/7 (9 + 49 + 121) / 2 - 21
    # Ranks are among the relevant documents, wherever they stand in the run.
    ("en1 en2 ru8 ru9 ru7 de1 ru6 de2", "en1 en2 de1 de2", 10, 2.4, 2),
    # Two documents that are not in the run share rank 2.5: (1 + 25/2 - 12) / (1 - 6/24).
    ("en1 ru1", "en1 de1 de2", 10, 2.0, 2),
    # What stands below k counts as not in the run, and below everything that is: en1 1, en2 de1 de2 3 each; (0.6 (16/2 + 36/2) - 15) / (1 - 24/60).
    ("en1 en2 de1 de2", "en1 en2 de1 de2", 1, 1.0, 2),
    # de2, which is missing, comes after en1 and en2, which are found late: de 1 4, en 2 3.
    ("ru1 de1 ru2 ru3 ru4 ru5 ru6 ru7 en1 en2", "en1 en2 de1 de2", 10, 0.0, 2),
    # en1 and en2 at the bottom of the run are still above the documents that are missing: ranks 1, 2, 3.5, 3.5.
    ("ru1 ru2 ru3 ru4 ru5 ru6 ru7 ru8 en1 en2", "en1 en2 de1 de2", 10, (0.6 * (9 / 2 + 49 / 2) - 15) / (1 - 6 / 60), 2),
]


@pytest.mark.parametrize(("docs", "relevant", "k", "h", "languages"), KRUSKAL_WALLIS)
def test_peer_is_the_p_value_of_kruskal_wallis(docs: str, relevant: str, k: int, h: float, languages: int) -> None:
    assert value(docs, judged(relevant), k) == pytest.approx(p_of(h, languages), abs=1e-12)


def test_peer_of_one_language_or_none_seen_is_one_and_not_tested() -> None:
    run = [ranking("one", "en1 de9 en2"), ranking("below", "ru1 ru2 en1"), ranking("several", "en1 de1"), ranking("unjudged", "xx")]
    qrels = {"one": judged("en1 en2"), "below": judged("en1 de1"), "several": judged("en1 de1"), "absent": judged("en1 de1"), "bad": judged("de2", 0)}
    found = peer(run, qrels, LANGUAGES, 2)
    assert found.values == {"one": 1, "below": 1, "several": pytest.approx(p_of(1)), "absent": 1}
    assert found.tested == ("several",)
    assert found.mean() == pytest.approx((3 + p_of(1)) / 4)
    assert found.tested_mean() == pytest.approx(p_of(1))


def test_peer_without_anything_to_test_has_no_mean() -> None:
    found = peer([ranking("q", "en1")], {"q": judged("en1")}, LANGUAGES, 10)
    assert found == Peer({"q": 1.0}, ())
    assert found.mean() is None
    assert found.tested_mean() is None


def test_peer_weighs_grades() -> None:
    grades = judged("en1 de1") | judged("en2 de2 en3", 3)
    docs = "en1 de1 en2 en3 de2"  # grade 1: H = 1; grade 3: en 1 2, de 3, H = (9/2 + 9) - 12 = 1.5
    ones, threes = p_of(1), p_of(1.5)
    assert value(docs, grades) == pytest.approx((ones + threes) / 2)
    assert value(docs, grades, weights={1: 0.25, 3: 0.75}) == pytest.approx(0.25 * ones + 0.75 * threes)
    assert value(docs, grades, weights={1: 1}) == pytest.approx(ones)
    # A grade that the topic lacks leaves its weight to the others.
    assert value(docs, grades, weights={1: 0.25, 2: 0.5, 3: 0.25}) == pytest.approx((ones + threes) / 2)
    assert peer([ranking("q", docs)], {"q": grades}, LANGUAGES, 10, {2: 1}).values == {}


def test_peer_of_grade_0_is_of_what_is_seen_and_not_relevant() -> None:
    grades = judged("en9") | judged("de1 de9", 0) | judged("en1", -2)
    # Unjudged en2, judged en1 and de1 are seen: en 1 2, de 3. de9 is not seen; ru1 stands below k.
    assert value("en1 en9 en2 de1 ru1", grades, k=4, weights={0: 1}) == pytest.approx(p_of(1.5))
    assert value("en1 en9 en2 de1 ru1", grades, k=4, weights={0: 0.5, 1: 0.5}) == pytest.approx((p_of(1.5) + 1) / 2)


def test_documents_are_ranked_as_evaluate_ranks_them() -> None:
    # Equal scores: by document id, descending; the order of the lists is of no account.
    run = [TopicRun("q", ["de1", "en1", "ru1", "ru2"], [1.0, 1.0, 0.5, 9.0])]
    assert shares(run, {"q": judged("en1")}, LANGUAGES, 2).languages.keys() == {"ru", "en"}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({1: 0.5, 2: 0.6}, r"weights {1: 0.5, 2: 0.6} add up to 1.1; divide them by that, so that they add up to 1"),
        ({}, r"weights {} add up to 0;"),
        ({-1: 0.5, 1: 0.5}, r"weights {-1: 0.5, 1: 0.5}: grades and weights are from 0 up"),
        ({1: 1.5, 2: -0.5}, r"grades and weights are from 0 up"),
        ({1: math.nan}, r"grades and weights are from 0 up"),
    ],
)
def test_peer_refuses_weights(weights: dict[int, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        value("en1", judged("en1"), weights=weights)


def test_shares_of_hand_counted_topics() -> None:
    run = [ranking("a", "en1 en2 de1 en3 ru1"), ranking("b", "de1 de2"), ranking("c", "ru1"), ranking("other", "zz")]
    qrels = {"a": judged("en1 de1") | judged("ru1", 0), "b": judged("de2 ru1 ru2 en1", 2), "c": judged("ru1", 0), "absent": judged("ru1")}
    found = shares(run, qrels, LANGUAGES, 4)
    # a: top en 3/4 de 1/4, relevant en 1/2 de 1/2; b: top de 1, relevant de 1/4 ru 1/2 en 1/4; c has no relevant document, absent is not in the run.
    assert found.topics == 2
    assert list(found.languages) == ["de", "en", "ru"]
    assert found.languages == {
        "de": Share(0.625, 0.375, 0.25, pytest.approx(5 / 3)),
        "en": Share(0.375, 0.375, 0.0, 1.0),
        "ru": Share(0.0, 0.25, -0.25, 0.0),
    }
    assert found.own is None
    # Asked in English: 3/4 of the top, 1/2 of the relevant; in Russian: nothing, 1/2.
    assert shares(run, qrels, LANGUAGES, 4, {"a": "en", "b": "ru"}).own == Share(0.375, 0.5, -0.125, 0.75)


def test_a_language_without_relevant_documents_has_no_ratio() -> None:
    assert shares([ranking("q", "en1 de1")], {"q": judged("en1")}, LANGUAGES).languages["de"] == Share(0.5, 0.0, 0.5, None)


def test_consistency_of_hand_counted_topics() -> None:
    qrels = {"a": judged("en1"), "b": judged("de1 de2"), "none": judged("en1", 0)}
    runs = {
        "en": [ranking("a", "en1 de1 ru1"), ranking("b", "ru1 de2 de1")],
        "de": [ranking("a", "de1 de2 en1"), ranking("b", "ru1 de1")],
        "ru": [ranking("a", "ru1 ru2 ru3 ru4 en1")],
    }
    # Ranks with 4 documents looked at: a 1 3 5, b 2 2 5. RR@2: a 1 0 0, b 1/2 1/2 0. Variances: 8/3, 2; 2/9, 1/18.
    assert consistency(runs, qrels, 4, 2) == pytest.approx(Consistency(2, (8 / 3 + 2) / 2, 3.5, (2 / 9 + 1 / 18) / 2, 0.75))
    # A topic that no run has says nothing.
    assert consistency(runs, {**qrels, "other": judged("en1")}, 4, 2) == consistency(runs, qrels, 4, 2)
    # RR never looks further than the ranks do.
    assert consistency(runs, qrels, 4, 100) == consistency(runs, qrels, 4, 4)
    assert consistency({"en": runs["en"], "de": runs["en"]}, qrels) == Consistency(2, 0, 0, 0, 0)


def test_gap_of_hand_counted_pairs() -> None:
    values = {("en", "en"): 0.8, ("de", "de"): 0.6, ("en", "de"): 0.5, ("de", "en"): 0.4, ("en", "ru"): 0.3}
    assert clir_gap(values) == pytest.approx(Gap(0.7, 0.4, 0.3, 3 / 7))
    assert clir_gap({("en", "en"): 0.0, ("en", "de"): 0.5}) == Gap(0.0, 0.5, -0.5, None)


GOOD = [ranking("q", "en1 de1")]
QRELS = {"q": judged("en1 de1")}
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: peer(GOOD, QRELS, LANGUAGES, 0), "the cut-off is 0; give 1 or more"),
    (lambda: peer(GOOD, {}, LANGUAGES, 10), "the qrels hold no relevant document"),
    (lambda: peer(GOOD, QRELS, {"en1": "en"}, 10), "topic 'q': the language of document 'de1' is not known"),
    (lambda: peer([*GOOD, *GOOD], QRELS, LANGUAGES, 10), "topic 'q' comes twice in the run"),
    (lambda: peer([ranking("q", "en1 en1")], QRELS, LANGUAGES, 10), "document 'en1' comes twice; keep one"),
    (lambda: peer([TopicRun("q", ["en1"], [math.nan])], QRELS, LANGUAGES, 10), "the score of document 'en1' is not a number"),
    (lambda: shares(GOOD, {"q": judged("en1", 0)}, LANGUAGES), "the qrels hold no relevant document"),
    (lambda: shares([ranking("x", "en1")], QRELS, LANGUAGES), "the run lists no document for any topic with a relevant one"),
    (lambda: shares([ranking("q", "zz")], QRELS, LANGUAGES), "topic 'q': the language of document 'zz' is not known"),
    (lambda: shares(GOOD, QRELS, LANGUAGES, questions={"x": "en"}), "topic 'q': the language of the question is not known"),
    (lambda: shares(GOOD, QRELS, LANGUAGES, -1), "the cut-off is -1"),
    (lambda: consistency({"en": GOOD}, QRELS), "give at least two to compare"),
    (lambda: consistency({"en": GOOD, "de": [ranking("x", "en1")]}, QRELS), "the run of questions in de has no topic of the qrels"),
    (lambda: consistency({"en": GOOD, "de": GOOD}, QRELS, rr_cutoff=0), "the cut-off is 0"),
    (lambda: consistency({"en": GOOD, "de": GOOD}, {"q": {}}), "the qrels hold no relevant document"),
    (lambda: clir_gap({}), "no monolingual pair such as en-en among no pairs at all"),
    (lambda: clir_gap({("en", "de"): 0.1, ("de", "en"): 0.2}), "no monolingual pair such as en-en among en-de, de-en; the gap needs both kinds"),
    (lambda: clir_gap({("en", "en"): 0.1}), "no pair of two languages such as en-de among en-en"),
    (lambda: clir_gap({("en", "en"): 0.1, ("en", "de"): math.inf}), "en-de: value inf is not finite"),
    (lambda: fairness_table(["run"], "csrerank/demo/x8-x8", 10, "xml"), "unknown format 'xml'; known are table tsv json"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_document_languages_are_the_collections() -> None:
    assert document_languages("csrerank/demo/x8-x8", ["antarctica-1", "antarctica-2", "nowhere-1"]) == {"antarctica-1": "nl", "antarctica-2": "zh"}
    # Nothing is downloaded for mMARCO.
    drawn = {str(number): draw_language(TRACKS["x6"], "doc", str(number)) for number in range(30)}
    assert document_languages("csrerank/mmarco/en-x6/dev/small", drawn) == drawn


@pytest.fixture
def demo_run(tmp_path: Path) -> Path:
    """Two topics: bird-migration-q1, asked in English (relevant: 1 de, 2 it), and antarctica-q2, in Arabic (3 ru, 4 ar)."""
    path = tmp_path / "demo.trec"
    # de, en en de; ar, ar
    write_run(
        path, [ranking("bird-migration-q1", "bird-migration-1 bicycles-2 antarctica-6 bird-migration-3"), ranking("antarctica-q2", "antarctica-4 antarctica-5")]
    )
    (tmp_path / "demo.trec.ir-metadata.yml").write_text("data: {test collection: {ir_datasets: csrerank/demo/x8-x8}}\n")
    return path


def run_fairness(*arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        run_command(["fairness", *map(str, arguments)])
    return int(done.value.code or 0)


def test_command_prints_tables(demo_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_fairness(demo_run) == 0
    # Not relevant and seen: en 1 2, de 3 of the first topic, H = 1.5; one Arabic document of the second.
    assert capsys.readouterr().out.splitlines() == [
        "run        documents     PEER@10  topics  of tested  topics",
        "demo.trec  relevant            -      48          -       0",
        f"demo.trec  not relevant   {(1 + p_of(1.5)) / 2:.4f}       2     {p_of(1.5):.4f}       1",
        "",
        "run        language        of top 10  of relevant  difference   ratio",
        "demo.trec  ar                 0.5000       0.2500      0.2500  2.0000",
        "demo.trec  de                 0.2500       0.2500      0.0000  1.0000",
        "demo.trec  en                 0.2500       0.0000      0.2500       -",
        "demo.trec  it                 0.0000       0.2500     -0.2500  0.0000",
        "demo.trec  ru                 0.0000       0.2500     -0.2500  0.0000",
        "demo.trec  the question's     0.7500       0.2500      0.5000  3.0000",
    ]


def test_command_writes_tsv_and_json(demo_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_fairness(demo_run, "--k", 1, "--format", "tsv", "--dataset", "csrerank/demo/x8-x8") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run\tdocuments\tmeasure\tvalue"
    assert {"demo.trec\tall\tk\t1", "demo.trec\tall\ttopics\t2", "demo.trec\trelevant\tpeer\t", "demo.trec\tde\ttop\t0.5", "demo.trec\tde\tratio\t2.0"} < set(
        lines
    )
    assert all(line.count("\t") == 3 for line in lines)
    assert run_fairness(demo_run, "--format", "json") == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["run"], record["k"], record["topics"]) == ("demo.trec", 10, 2)
    assert record["shares"][OWN] == {"top": 0.75, "relevant": 0.25, "difference": 0.5, "ratio": 3.0}
    assert record["peer"]["relevant"] == {"peer": None, "topics": 48, "peer of tested": None, "tested topics": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--dataset", "csrerank/demo/en-de"],
            "csrerank/demo/en-de: all its documents are in de, and there is nothing to compare; give --dataset ID of an MLIR track",
        ),
        (["--dataset", "csrerank/demo"], "csrerank/demo: its documents have no language, and there is nothing to compare; give --dataset ID of an MLIR track"),
        (["--dataset", "csrerank/nothing"], "unknown dataset 'csrerank/nothing'"),
        (["--k", "0"], "Invalid value for '--k'"),
        (["--format", "xml"], "Invalid value for '--format'"),
    ],
)
def test_command_refuses(arguments: Sequence[str], message: str, demo_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_fairness(demo_run, *arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"Error: {message}")
    assert shown.err.count("\n") == 1


def test_command_refuses_runs_of_something_else(demo_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    track = ("--dataset", "csrerank/demo/x8-x8")
    stray, other, broken, bare = (tmp_path / name for name in ("stray.trec", "other.trec", "broken.trec", "bare.trec"))
    write_run(stray, [ranking("bird-migration-q1", "bird-migration-1 zebra-1")])
    write_run(other, [ranking("zebra-q1", "bird-migration-1")])
    broken.write_text("bird-migration-q1 Q0 bird-migration-1 1 0.5\n")
    write_run(bare, [ranking("bird-migration-q1", "bird-migration-1")])
    for arguments, message in (
        ((stray, *track), f"{stray}: csrerank/demo/x8-x8 has no document 'zebra-1'; give --dataset ID of the collection that it was made from\n"),
        ((other, *track), f"{other}: has no topic of csrerank/demo/x8-x8; give --dataset ID of the collection that it was made from\n"),
        ((broken, *track), f"{broken}:1: 5 columns where a TREC run has 6"),
        ((bare,), f"{bare}: no judgements to score by"),
        ((tmp_path / "nowhere.trec", *track), f"{tmp_path / 'nowhere.trec'}: no such file; check the path"),
    ):
        assert run_fairness(*arguments) == 2
        assert capsys.readouterr().err.startswith(f"Error: {message}")


@needs_real_data
def test_the_committed_runs_give_what_the_documentation_says() -> None:
    runs = [str(ROOT / "runs" / "xquad-r" / f"x4-x4.{name}.trec.gz") for name in ("bm25", "bm25.csrerank")]
    shown = fairness_table(runs)
    printed = (ROOT / "docs" / "fairness.md").read_text(encoding="utf-8")
    assert f"```\n{shown}\n```" in printed
    record = json.loads(fairness_table(runs[:1], form="json"))[0]
    # XQuAD-R has one relevant sentence a question, so that its languages are those of the draw, and all that the first stage finds is in the question's.
    assert record["peer"]["relevant"]["tested topics"] == 0
    assert math.fsum(share["relevant"] for lang, share in record["shares"].items() if lang != OWN) == pytest.approx(1)
    assert record["shares"][OWN]["top"] > 0.95
