"""Runs and qrels: what is read, what is refused and how, what is written."""

import gzip
import io
import os
import random
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csrerank import trec
from csrerank.errors import InputError
from csrerank.trec import TopicRun, read_qrels, read_run, write_qrels, write_run

GOOD = b"1 Q0 a 1 3.5 t\n1 Q0 b 2 2.5 t\n2 Q0 a 1 9 t\n"


def put(folder: Path, content: bytes, name: str = "run.trec") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


# Reading


def test_read_run_keeps_ids_as_strings(tmp_path):
    ids = ["007", "NA", "null", '"quoted"', "日本語", "a\u00a0b", "c\u3000d", "e\x1cf", "g\u2028h", "#x", "1e5", "\u0085"]
    content = "".join(f"007\tQ0 {doc}  {rank} {50 - rank}\ttag\n" for rank, doc in enumerate(ids, 1)).encode()
    assert list(read_run(put(tmp_path, content))) == [TopicRun("007", ids, [float(50 - rank) for rank in range(1, len(ids) + 1)])]


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.rstrip(b"\n"),
        GOOD.replace(b"\n", b"\r\n")[:-1],
        b"\n \t\n" + GOOD.replace(b"\n", b"\n\n"),
        GOOD.replace(b" ", b"\t"),
        b"  " + GOOD.replace(b"\n", b" \n"),
        GOOD.replace(b"Q0", b"0"),
        gzip.compress(GOOD),
        gzip.compress(GOOD[:20]) + gzip.compress(GOOD[20:]),
    ],
    ids=["plain", "crlf", "no-end", "cr-at-end", "blank-lines", "tabs", "outer-space", "not-q0", "gzip", "two-gzip-members"],
)
def test_read_run_accepts(content, tmp_path, monkeypatch):
    expected = [TopicRun("1", ["a", "b"], [3.5, 2.5]), TopicRun("2", ["a"], [9.0])]
    assert list(read_run(put(tmp_path, content))) == expected
    feed(monkeypatch, content)
    assert list(read_run("-")) == expected


def test_read_run_order(tmp_path):
    content = b"1 Q0 a 3 1 t\n1 Q0 b 2 1 t\n1 Q0 c 9 5 t\n1 Q0 d 2 1 t\n1 Q0 e 10 -1e3 t\n"
    assert list(read_run(put(tmp_path, content))) == [TopicRun("1", ["c", "b", "d", "a", "e"], [5.0, 1.0, 1.0, 1.0, -1000.0])]


def test_read_run_order_of_ties_in_a_sorted_file(tmp_path):
    content = b"1 Q0 a 2 5 t\n1 Q0 b 1 5 t\n1 Q0 c 3 4 t\n"
    assert list(read_run(put(tmp_path, content))) == [TopicRun("1", ["b", "a", "c"], [5.0, 5.0, 4.0])]


@pytest.mark.parametrize("content", [GOOD, gzip.compress(GOOD)], ids=["plain", "gzip"])
def test_streams_that_give_a_byte_at_a_time(content):
    class Slow(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 1))

    assert [lines.docs for lines in trec.read_topic_lines(Slow(content))] == [["a", "b"], ["a"]]


def test_read_run_empty_allowed(tmp_path):
    assert list(read_run(put(tmp_path, b""), allow_empty=True)) == []
    assert list(read_run(put(tmp_path, b"\n\n"), allow_empty=True)) == []


def test_topics_across_chunks(tmp_path):
    lines = [f"{topic} Q0 d{rank} {rank} {1000 - rank} t\n" for topic in range(3) for rank in range(1, 9001)]
    topics = list(read_run(put(tmp_path, "".join(lines).encode())))
    assert [(topic.topic, len(topic.docs)) for topic in topics] == [("0", 9000), ("1", 9000), ("2", 9000)]
    assert topics[1].docs[-1] == "d9000"


FIRST = b"1 Q0 a 1 3 t\n"
MALFORMED_RUNS = {
    "five columns": (FIRST + b"1 Q0 b 2 2\n", ":2: 5 columns where a TREC run has 6"),
    "seven columns": (FIRST + b"1 Q0 b 2 2 my tag\n", ":2: 7 columns where a TREC run has 6"),
    "one column": (b"word\n", ":1: 1 column where"),
    "five and seven": (b"1 Q0 b 2 2\n1 Q0 c 3 1 my tag\n", ":1: 5 columns"),
    "five and seven numbers": (b"1 2 3 4 5\n1 2 3 4 5 6 7\n", ":1: 5 columns"),
    "ms marco": (b"1\t2\t3\n", "MS MARCO"),
    "qrels": (b"1 0 d 1\n", "qrels"),
    "comment": (
        b"# ir_metadata.start\n" + FIRST,
        ":1: 2 columns where a TREC run has 6 (qid Q0 docid rank score tag): this looks like a comment",
    ),
    "json": (b'[{"id":1}]\n', "JSON"),
    "commas": (b"1,Q0,a,1,3,t\n", "comma-separated"),
    "no-break spaces": ("1\u00a0Q0\u00a0a 1 3 t\n".encode(), ":1: 4 columns"),
    "score text": (FIRST + b"1 Q0 b 2 high t\n", ":2: score 'high' is not a number"),
    "score underscore": (FIRST + b"1 Q0 b 2 1_0 t\n", ":2: score '1_0' is not a number"),
    "score comma": (FIRST + b"1 Q0 b 2 1,5 t\n", ":2: score '1,5' is not a number"),
    "score digits of another script": (FIRST + "1 Q0 b 2 ٣ t\n".encode(), ":2: score '٣' is not a number"),
    "score nan": (FIRST + b"1 Q0 b 2 NaN t\n", ":2: the score is NaN"),
    "score inf": (FIRST + b"1 Q0 b 2 -inf t\n", ":2: score '-inf' is infinite"),
    "score too large": (FIRST + b"1 Q0 b 2 1e999 t\n", ":2: score '1e999' is infinite"),
    "rank decimal": (FIRST + b"1 Q0 b 2.0 2 t\n", ":2: rank '2.0' is not an integer"),
    "rank text": (FIRST + b"1 Q0 b two 2 t\n", ":2: rank 'two' is not an integer"),
    "rank underscore": (FIRST + b"1 Q0 b 1_0 2 t\n", ":2: rank '1_0' is not an integer"),
    "rank endless": (FIRST + b"1 Q0 b " + b"9" * 5000 + b" 2 t\n", ":2: rank '999"),
    "duplicate": (FIRST + b"\n1 Q0 b 2 2 t\n1 Q0 a 3 1 t\n", ":4: document 'a' stands again in topic '1', first on line 1"),
    "split topic": (FIRST + b"2 Q0 b 1 2 t\n1 Q0 c 3 1 t\n", ":3: topic '1' comes again after other topics, first on line 1"),
    "bom of a joined file": (FIRST + b"\xef\xbb\xbf2 Q0 a 1 3 t\n", ":2: byte order mark inside the file"),
    "nul": (FIRST + b"1 Q0 b\0 2 2 t\n", ":2: NUL byte"),
    "latin-1": (FIRST + "1 Q0 é 2 2 t\n".encode("latin-1"), ":2: not UTF-8 text (byte 0xe9 at position 6)"),
    "latin-1 in the tag": (FIRST + "1 Q0 b 2 2 é\n".encode("latin-1"), ":2: not UTF-8 text"),
    "form feed": (FIRST + b"1 Q0 b\f2 2 2 t\n", ":2: form feed"),
    "empty": (b"", ": the file is empty"),
}


@pytest.mark.parametrize("content, message", MALFORMED_RUNS.values(), ids=MALFORMED_RUNS)
def test_malformed_run(content, message, tmp_path, monkeypatch):
    path = put(tmp_path, content)
    with pytest.raises(InputError) as caught:
        list(read_run(path))
    text = str(caught.value)
    assert text.startswith(f"{path}:") and message in text and "; " in text and "\n" not in text
    feed(monkeypatch, content)
    with pytest.raises(InputError) as caught:
        list(read_run("-"))
    assert str(caught.value).startswith("standard input:") and message in str(caught.value)


def test_split_topic_mend_names_the_file(tmp_path):
    path = put(tmp_path, FIRST + b"2 Q0 b 1 2 t\n1 Q0 c 3 1 t\n", "my run.trec")
    with pytest.raises(InputError, match=f"sort -s -k1,1 '{path}'"):
        list(read_run(path))


def test_errors_late_in_a_large_run_have_the_right_line(tmp_path):
    lines = [f"1 Q0 d{rank} {rank} {-rank} t\n" for rank in range(1, 30001)]
    lines[25000] = "1 Q0 x 1 NaN t\n"
    with pytest.raises(InputError, match=":25001: the score is NaN"):
        list(read_run(put(tmp_path, "".join(lines).encode())))
    lines[25000] = "1 Q0 d3 1 0 t\n"
    with pytest.raises(InputError, match=":25001: document 'd3' stands again in topic '1', first on line 3;"):
        list(read_run(put(tmp_path, "".join(lines).encode())))


def test_topics_before_an_error_are_yielded(tmp_path):
    topics = read_run(put(tmp_path, FIRST + b"2 Q0 b 1 2 t\n3 Q0 c 1 NaN t\n"))
    assert next(topics).topic == "1"
    with pytest.raises(InputError, match=":3: "):
        next(topics)


def test_memory_is_flat(tmp_path):
    path = tmp_path / "large.trec"
    with path.open("w") as file:
        for topic in range(200):
            file.writelines(f"{topic} Q0 doc{topic}-{rank} {rank} {2000 - rank / 7:.4f} tag\n" for rank in range(1, 1001))
    next(read_run(path))
    tracemalloc.start()
    try:
        assert sum(len(topic.docs) for topic in read_run(path)) == 200_000
        reading = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        write_run(tmp_path / "copy.trec", read_run(path))
        copying = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reading < 4e6 and copying < 6e6, (reading, copying)


# Writing

IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=" \t\n\r\v\f\0\ufeff"), min_size=1, max_size=12)
SCORES = st.floats(-1e30, 1e30) | st.sampled_from([0.0, -0.0, 1.0, 1 + 2**-30, 7.038531e-26, 1e-45, 3e38])
RANKINGS = st.lists(
    st.builds(
        lambda topic, pairs: TopicRun(topic, [doc for doc, _ in pairs], [score for _, score in pairs]),
        IDS,
        st.lists(st.tuples(IDS, SCORES), max_size=8, unique_by=lambda pair: pair[0]),
    ),
    max_size=5,
    unique_by=lambda topic: topic.topic,
)


@settings(max_examples=200, deadline=None)
@given(topics=RANKINGS, suffix=st.sampled_from(["", ".gz"]))
def test_round_trip(topics, suffix, tmp_path_factory):
    path = tmp_path_factory.mktemp("round") / f"run.trec{suffix}"
    lines = write_run(path, topics)
    back = list(read_run(path, allow_empty=True))
    assert lines == sum(len(topic.docs) for topic in topics)
    assert [(topic.topic, topic.docs) for topic in back] == [(topic.topic, topic.docs) for topic in topics if topic.docs]
    for topic in back:
        as_float32 = np.array(topic.scores, dtype=np.float32)
        assert (as_float32[1:] < as_float32[:-1]).all()
        falling = sorted(topic.scores, reverse=True)
        assert falling == topic.scores
    # Written once, a run is a fixed point: the same scores come out again.
    again = path.with_name(f"again.trec{suffix}")
    write_run(again, back)
    assert again.read_bytes() == path.read_bytes()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=6, unique=True))
def test_float32_scores_survive_exactly(scores):
    scores = sorted(scores, reverse=True)
    text = b"".join(trec.format_run([TopicRun("1", [str(i) for i in range(len(scores))], scores)], "t", "x")).decode()
    printed = [line.split(" ")[4] for line in text.splitlines()]
    assert [float(np.float32(float(score))) for score in printed] == scores
    for score, value in zip(printed, scores, strict=True):
        with np.errstate(over="ignore"):
            shortest = next(digits for digits in range(1, 10) if np.float32(f"{value:.{digits}g}") == np.float32(value))
        digits = score.lstrip("-").split("e")[0].replace(".", "").strip("0")
        # One digit more where the shortest decimal is read wrongly by way of float64.
        assert len(digits) <= shortest or float(np.float32(f"{value:.{shortest}g}")) != float(np.float32(float(f"{value:.{shortest}g}")))


def test_written_form(tmp_path):
    path = tmp_path / "run.trec"
    topics = [TopicRun("q", ["a", "b", "c", "d"], [0.1, 0.1, 0.3, -2]), TopicRun("none", [], []), TopicRun("007", ["NA"], [12])]
    assert write_run(path, topics, "my-tag") == 5
    assert path.read_text() == ("q Q0 a 1 0.1 my-tag\nq Q0 b 2 0.099999994 my-tag\nq Q0 c 3 0.09999999 my-tag\nq Q0 d 4 -2.0 my-tag\n007 Q0 NA 1 12.0 my-tag\n")


def test_score_that_double_rounding_would_move(tmp_path):
    value = np.uint32(0x15AE43FD).view(np.float32)
    assert np.float32(float(str(value))) != value
    write_run(tmp_path / "run.trec", [TopicRun("1", ["a"], [float(value)])])
    assert np.float32(next(read_run(tmp_path / "run.trec")).scores[0]) == value


def test_ties_at_zero_and_in_float32_only():
    text = b"".join(trec.format_run([TopicRun("1", list("abcd"), [1 + 2**-40, 1.0, 0.0, -0.0])], "t", "x")).decode()
    scores = np.array([line.split()[4] for line in text.splitlines()], dtype=np.float64).astype(np.float32)
    assert (np.diff(scores) < 0).all() and scores[0] == 1


WRITE_ERRORS = {
    "space in a document": (TopicRun("1", ["a b"], [1.0]), "topic '1': id 'a b'"),
    "tab in a topic": (TopicRun("1\t2", ["a"], [1.0]), r"id '1\t2'"),
    "form feed": (TopicRun("1", ["a\fb"], [1.0]), r"id 'a\x0cb'"),
    "empty id": (TopicRun("1", ["a", ""], [2.0, 1.0]), "id ''"),
    "surrogate": (TopicRun("1", ["\ud800"], [1.0]), r"id '\ud800'"),
    "nul": (TopicRun("1", ["a\0"], [1.0]), r"id 'a\x00'"),
    "byte order mark": (TopicRun("\ufeff1", ["a"], [1.0]), "byte order mark"),
    "nan": (TopicRun("1", ["a", "b"], [1.0, float("nan")]), "document 'b': score nan is not finite"),
    "infinite": (TopicRun("1", ["a", "b"], [float("inf"), 1.0]), "document 'a': score inf is not finite"),
    "beyond float32": (TopicRun("1", ["a"], [1e39]), "score 1e+39 is not finite as a 32-bit float"),
    "below float32": (TopicRun("1", ["a", "b"], [-3.4028235e38, 0.0]), "document 'b': score 0.0 is not finite"),
    "twice": (TopicRun("1", ["a", "b", "a"], [3.0, 2.0, 1.0]), "document 'a' is given twice"),
    "fewer scores": (TopicRun("1", ["a", "b"], [3.0]), "2 documents, 1 scores"),
}


@pytest.mark.parametrize("topic, message", WRITE_ERRORS.values(), ids=WRITE_ERRORS)
def test_write_refuses(topic, message, tmp_path):
    path = put(tmp_path, b"old")
    with pytest.raises(InputError) as caught:
        write_run(path, [topic])
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["run.trec"]


def test_write_refuses_a_topic_twice(tmp_path):
    with pytest.raises(InputError, match="topic '1' is given twice"):
        write_run(tmp_path / "run.trec", [TopicRun("1", ["a"], [1.0]), TopicRun("1", ["b"], [1.0])])


@pytest.mark.parametrize("tag", ["", "two words", "tab\tbed", "line\n", "\ud800"])
def test_tags_refused(tag, tmp_path):
    with pytest.raises(InputError, match="is not one token; "):
        write_run(tmp_path / "run.trec", [], tag)
    assert os.listdir(tmp_path) == []


def test_tags_accepted():
    for tag in (trec.DEFAULT_TAG, "zho-team1-ACLN_run1", "é"):
        trec.check_tag(tag)
    assert len(trec.DEFAULT_TAG) <= 12 and trec.DEFAULT_TAG.isalnum()


def failing():
    yield TopicRun("1", ["a"], [1.0])
    raise RuntimeError("scoring failed")


@pytest.mark.parametrize("name", ["run.trec", "run.trec.gz"])
def test_nothing_is_left_when_the_topics_raise(name, tmp_path):
    with pytest.raises(RuntimeError):
        write_run(tmp_path / name, failing())
    assert os.listdir(tmp_path) == []
    put(tmp_path, b"old", name)
    with pytest.raises(RuntimeError):
        write_run(tmp_path / name, failing())
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_bytes() == b"old"


def test_old_file_stays_until_the_end(tmp_path):
    path = put(tmp_path, b"old")

    def watched():
        yield TopicRun("1", ["a"], [1.0])
        assert path.read_bytes() == b"old"

    write_run(path, watched())
    assert path.read_bytes() == b"1 Q0 a 1 1.0 csrerank\n" and os.listdir(tmp_path) == ["run.trec"]


def test_run_may_be_rewritten_onto_itself(tmp_path):
    path = put(tmp_path, GOOD)
    assert write_run(path, read_run(path)) == 3
    assert [topic.topic for topic in read_run(path)] == ["1", "2"]


# Qrels


def test_read_qrels(tmp_path):
    content = "007 0 NA 1\n2\t0\tb -2\r\n\n007 Q0 日 3".encode()
    assert read_qrels(put(tmp_path, content)) == {"007": {"NA": 1, "日": 3}, "2": {"b": -2}}
    assert read_qrels(put(tmp_path, gzip.compress(content))) == read_qrels(put(tmp_path, content))


MALFORMED_QRELS = {
    "same grade again": (
        b"1 0 a 1\n2 0 a 1\n1 0 a 1\n",
        ":3: topic '1', document 'a' is judged again with the same grade, first on line 1",
    ),
    "other grade": (b"1 0 a 1\n1 0 a 2\n", ":2: topic '1', document 'a' is judged again with grade 2 instead of 1, first on line 1"),
    "grade decimal": (b"1 0 a 1.0\n", ":1: grade '1.0' is not an integer"),
    "grade text": (b"1 0 a yes\n", ":1: grade 'yes' is not an integer"),
    "run": (b"1 Q0 a 1 3 t\n", ":1: 6 columns where qrels have 4 (topic iter docid grade): this looks like a run"),
    "beir": (b"query-id\tcorpus-id\tscore\n", ":1: 3 columns where qrels have 4 (topic iter docid grade): this looks like BEIR"),
    "two columns": (b"1 a\n", ":1: 2 columns where qrels have 4"),
    "nul": (b"1 0 a 1\n1 0 b\0 1\n", ":2: NUL byte"),
    "latin-1": (b"1 0 a 1\n1 0 \xe9 1\n", ":2: not UTF-8 text"),
    "empty": (b"", ": the file is empty"),
}


@pytest.mark.parametrize("content, message", MALFORMED_QRELS.values(), ids=MALFORMED_QRELS)
def test_malformed_qrels(content, message, tmp_path):
    path = put(tmp_path, content, "qrels")
    with pytest.raises(InputError) as caught:
        read_qrels(path)
    assert str(caught.value).startswith(f"{path}:") and message in str(caught.value) and "\n" not in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(IDS, st.dictionaries(IDS, st.integers(-5, 5), min_size=1, max_size=5), min_size=1, max_size=5))
def test_qrels_round_trip(tmp_path_factory, qrels):
    path = tmp_path_factory.mktemp("qrels") / "qrels.gz"
    assert write_qrels(path, qrels) == sum(map(len, qrels.values()))
    assert read_qrels(path) == qrels


def test_write_qrels_refuses(tmp_path):
    with pytest.raises(InputError, match="grade that is no integer"):
        write_qrels(tmp_path / "qrels", {"1": {"a": 0.5}})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="id 'a b'"):
        write_qrels(tmp_path / "qrels", {"1": {"a b": 1}})
    assert os.listdir(tmp_path) == []


def test_any_bytes_read_or_raise_input_error(tmp_path):
    generator = random.Random(7)
    path = tmp_path / "run.trec"
    for _ in range(300):
        content = bytearray(GOOD * 2)
        for _ in range(generator.randrange(1, 4)):
            content[generator.randrange(len(content))] = generator.choice(b" \t\n\r\0\v\f_.-e9Q\xff\xc3\xa9")
        path.write_bytes(content)
        try:
            topics = list(read_run(path))
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert all(topic.docs and len(topic.docs) == len(topic.scores) for topic in topics)
