"""Leaderboard rules: what is found, in which line, and what export writes."""

import gzip
import io
import os
import sys

import pytest

from csrerank.errors import InputError
from csrerank.profiles import MOST_FINDINGS, PROFILES, check_run, export_run
from csrerank.trec import read_run

GOOD = "1 Q0 a 1 3.5 tag\n1 Q0 b 2 3.5 tag\n2 Q0 a 1 9 tag\n"


def put(folder, content, name="run.trec"):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def long_run(count, topics=1, tag="tag", doc="d{}"):
    return "".join(f"{topic} Q0 {doc.format(rank)} {rank} {count - rank} {tag}\n" for topic in range(topics) for rank in range(1, count + 1))


def test_the_profiles():
    assert list(PROFILES) == ["trec", "dl", "neuclir", "msmarco", "miracl", "xor-retrieve"]
    with pytest.raises(InputError, match="profile 'beir' is unknown; choose one of trec, dl"):
        check_run("-", "beir")


@pytest.mark.parametrize(
    "profile, content",
    [
        ("trec", GOOD),
        ("trec", GOOD.replace("\n", "\r\n").replace(" ", "\t")),
        ("trec", long_run(1500)),
        ("dl", long_run(100, tag="my-long_tag_of-25-letters")),
        ("neuclir", long_run(1000, tag="zho-team1-ACLN_run1")),
        ("neuclir", long_run(2, tag="mlir-TEAM3-MyOutrageousRun")),
        ("msmarco", "".join(f"1\tp{rank}\t{rank}\n" for rank in range(1, 1001)) + "2\tp1\t1\n"),
        ("miracl", long_run(3, doc="12#{}")),
    ],
)
def test_passes(profile, content, tmp_path):
    assert check_run(put(tmp_path, content), profile) == []


BROKEN = {
    "rank from 0": ("trec", "1 Q0 a 0 3 t\n1 Q0 b 1 2 t\n", ["run.trec:1: topic '1': rank 0 where 1 is due"]),
    "rank gap": ("trec", "1 Q0 a 1 3 t\n1 Q0 b 3 2 t\n1 Q0 c 4 1 t\n", ["run.trec:2: topic '1': rank 3 where 2 is due"]),
    "literal": ("trec", "1 Q0 a 1 3 t\n1 0 b 2 2 t\n", ["run.trec:2: topic '1': second column '0'; write the literal Q0"]),
    "score rises": ("trec", "1 Q0 a 1 3 t\n1 Q0 b 2 4 t\n", ["run.trec:2: topic '1': score 4.0 above 3.0"]),
    "long tag": ("trec", GOOD.replace("tag", "a" * 13), ["run.trec:1: tag 'aaaaaaaaaaaaa' is not 1 to 12 letters and digits"]),
    "tag with a dash": ("trec", "1 Q0 a 1 3 my-tag\n", ["run.trec:1: tag 'my-tag' is not"]),
    "two tags": ("trec", "1 Q0 a 1 3 one\n2 Q0 b 1 2 two\n", ["run.trec:2: topic '2': tag 'two' where the first line has 'one'"]),
    "dl depth": ("dl", long_run(101), ["run.trec:101: topic '0': 101 documents where dl takes 100"]),
    "dl tag": ("dl", long_run(1, tag="a" * 26), ["run.trec:1: tag 'aaa"]),
    "neuclir depth": ("neuclir", long_run(1001, tag="fas-T-x"), ["run.trec:1001: topic '0': 1,001 documents where neuclir takes 1,000"]),
    "neuclir tag": ("neuclir", long_run(2), ["run.trec:1: tag 'tag' is not {zho,fas,rus,mlir,tech}-TEAM-[flags_]name"]),
    "miracl ids": ("miracl", long_run(2), ["run.trec:1: topic '0': document id 'd1' is not ARTICLE#PASSAGE"]),
    "msmarco depth": (
        "msmarco",
        "".join(f"1\tp{rank}\t{rank}\n" for rank in range(1, 1002)),
        ["run.trec:1001: topic '1': 1,001 documents where msmarco"],
    ),
    "msmarco rank": ("msmarco", "1\ta\t1\n1\tb\t1\n", ["run.trec:2: topic '1': rank 1 where 2 is due"]),
    "msmarco rank text": ("msmarco", "1\ta\tone\n", ["run.trec:1: rank 'one' is not an integer"]),
    "msmarco duplicate": ("msmarco", "1\ta\t1\n1\ta\t2\n", ["run.trec:2: document 'a' stands again in topic '1', first on line 1"]),
    "msmarco split": ("msmarco", "1\ta\t1\n2\ta\t1\n1\tb\t2\n", ["run.trec:3: topic '1' comes again"]),
    "msmarco spaces": ("msmarco", "1 a 1\n", ["run.trec:1: not the 3 columns of an MS MARCO run"]),
    "msmarco empty column": ("msmarco", "1\t\t1\n", ["run.trec:1: an empty column or a space in one"]),
    "msmarco from trec": (
        "msmarco",
        GOOD,
        ["run.trec:1: not the 3 columns of an MS MARCO run (qid<TAB>pid<TAB>rank): this looks like a TREC run"],
    ),
    "two rules in file order": (
        "trec",
        "1 0 a 7 3 t\n1 Q0 b 2 4 t\n",
        ["run.trec:1: topic '1': rank 7", "run.trec:1: topic '1': second column '0'", "run.trec:2: topic '1': score 4.0"],
    ),
    "columns": ("trec", GOOD + "3 Q0 a 1 1\n", ["run.trec:4: 5 columns where a TREC run has 6"]),
    "duplicate": ("dl", "1 Q0 a 1 3 t\n1 Q0 a 2 2 t\n", ["run.trec:2: document 'a' stands again"]),
    "split": ("neuclir", "1 Q0 a 1 3 t\n2 Q0 a 1 3 t\n1 Q0 b 2 2 t\n", ["run.trec:1: tag 't' is not", "run.trec:3: topic '1' comes again"]),
    "a break, then an error": (
        "trec",
        "1 Q0 a 2 3 t\n2 Q0 a 1 3 t\n3 Q0 a 1 NaN t\n3 Q0 b 5 5 t\n",
        ["run.trec:1: topic '1': rank 2 where 1", "run.trec:3: the score is NaN"],
    ),
    "empty": ("trec", "", ["run.trec: the file is empty"]),
}


@pytest.mark.parametrize("profile, content, expected", BROKEN.values(), ids=BROKEN)
def test_findings(profile, content, expected, tmp_path, monkeypatch):
    put(tmp_path, content)
    monkeypatch.chdir(tmp_path)
    findings = check_run("run.trec", profile)
    assert len(findings) == len(expected)
    for finding, start in zip(findings, expected, strict=True):
        assert finding.startswith(start) and "; " in finding and "\n" not in finding


def test_missing_file_is_a_finding(tmp_path):
    (finding,) = check_run(tmp_path / "none", "trec")
    assert "no such file" in finding


def test_missing_topics(tmp_path):
    path = put(tmp_path, GOOD)
    assert check_run(path, "dl", ["1", "2"]) == []
    assert check_run(path, "dl", {"1": 0, "3": 0, "2": 0, "004": 0}) == [
        f"{path}: topic '3' is missing; add at least one document for it",
        f"{path}: topic '004' is missing; add at least one document for it",
    ]


def test_at_most_twenty_findings(tmp_path):
    path = put(tmp_path, "".join(f"{topic} Q0 a 2 1 t\n" for topic in range(57)))
    findings = check_run(path, "trec")
    assert len(findings) == MOST_FINDINGS + 1 == 21 and findings[-1] == "… and 37 more"
    assert len(check_run(put(tmp_path, "".join(f"{topic} Q0 a 2 1 t\n" for topic in range(20))), "trec")) == 20


def test_standard_input_and_gzip(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(GOOD.replace("Q0", "0").encode()))))
    assert check_run("-", "trec")[0].startswith("standard input:1: ")


def test_export_sorts_cuts_and_passes(tmp_path):
    source = put(tmp_path, "".join(f"{topic} 0 d{rank} {rank} {rank % 70} any\n" for topic in (7, 3) for rank in range(5, 205)))
    for profile, tag, lines in (("dl", None, 200), ("trec", "mine", 400), ("neuclir", "zho-T-x", 400), ("msmarco", None, 400)):
        target = tmp_path / f"{profile}.out"
        assert export_run(source, target, profile, tag) == lines
        assert check_run(target, profile, ["7", "3"]) == []
    first, second = list(read_run(tmp_path / "dl.out"))
    assert (first.topic, second.topic) == ("7", "3") and first.docs[:3] == ["d69", "d139", "d68"] and len(first.docs) == 100
    assert (tmp_path / "dl.out").read_text().startswith("7 Q0 d69 1 69.0 any\n7 Q0 d139 2 68.99999 any\n")
    assert (tmp_path / "msmarco.out").read_text().startswith("7\td69\t1\n7\td139\t2\n7\td68\t3\n")


def test_export_msmarco_depth_and_gzip(tmp_path):
    source = put(tmp_path, long_run(1200, topics=2))
    assert export_run(source, tmp_path / "out.tsv.gz", "msmarco") == 2000
    assert check_run(tmp_path / "out.tsv.gz", "msmarco") == []
    assert (tmp_path / "out.tsv.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_export_to_standard_output(tmp_path, capfdbinary):
    assert export_run(put(tmp_path, GOOD), "-", "trec", "x") == 3
    assert capfdbinary.readouterr().out == b"1 Q0 a 1 3.5 x\n1 Q0 b 2 3.4999998 x\n2 Q0 a 1 9.0 x\n"


@pytest.mark.parametrize(
    "profile, tag, content, message",
    [
        ("trec", "my-tag", GOOD, "tag 'my-tag' is not what trec asks for (1 to 12 letters and digits); give another tag"),
        ("trec", "two words", GOOD, "is not one token"),
        ("neuclir", None, GOOD, "tag 'tag' is not what neuclir asks for"),
        ("msmarco", "tag", GOOD, "a msmarco file has no tag"),
        ("miracl", None, GOOD, "out:1: topic '1': document id 'a' is not ARTICLE#PASSAGE"),
        ("trec", None, GOOD + "1 Q0 c 3 1 tag\n", "run.trec:4: topic '1' comes again"),
        ("trec", None, "", "run.trec: the file is empty"),
        ("mteb", None, GOOD, "profile 'mteb' is unknown"),
        ("xor-retrieve", "tag", GOOD, "a xor-retrieve file has no tag"),
        ("xor-retrieve", None, GOOD, "no texts to write: give --dataset ID; the run has no sidecar that names one"),
    ],
)
@pytest.mark.parametrize("old", [None, b"old"])
def test_export_refuses_and_leaves_the_target(profile, tag, content, message, old, tmp_path, capfdbinary):
    source, target = put(tmp_path, content), tmp_path / "out"
    if old:
        target.write_bytes(old)
    with pytest.raises(InputError) as caught:
        export_run(source, target, profile, tag)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == (["out", "run.trec"] if old else ["run.trec"])
    assert not old or target.read_bytes() == old
    with pytest.raises(InputError):
        export_run(source, "-", profile, tag)
    assert capfdbinary.readouterr().out == b""


def test_export_checks_the_target_first(tmp_path):
    with pytest.raises(InputError, match="folder does not exist"):
        export_run(tmp_path / "none", tmp_path / "no" / "out", "trec")
