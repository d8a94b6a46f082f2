"""The XOR track over a toy copy of its two files, in their real formats and in the places where ir_datasets looks for them: a place that it reads at import.

So what reads them is run in processes of its own.
"""

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from csrerank.cli import run_command
from csrerank.collections import xor_retrieve
from csrerank.collections.xor_retrieve import Prediction, read_predictions, unquoted
from csrerank.errors import InputError
from csrerank.evaluation.answers import (
    TOKENIZERS,
    AnswerScores,
    Questions,
    answer_measures,
    answered,
    evaluate_answers,
    tokenizer,
)
from csrerank.evaluation.scoring import is_prediction_file
from csrerank.profiles import check_run

LANGUAGES = ["ar", "bn", "fi", "ja", "ko", "ru", "te"]
JA, ALL = "csrerank/xor-retrieve/ja-en/dev", "csrerank/xor-retrieve/x7-en/dev"


def question(identifier, lang, *answers):
    return {"id": identifier, "question": f"{lang} の質問 {identifier}?", "answers": list(answers), "lang": lang, "split": "dev"}


QUESTIONS = [
    question("-41", "ja", "Lisbon"),
    question("50", "ko", "Zürich", "Basel"),
    question("42", "ja", "yes"),
    question("43", "ja", "no", "17 boats"),
    question("44", "ja", "old harbour"),
    question("60", "fi", "no", "yes"),
    question("61", "te", "Lisbon"),
]
# Without full stops each word is a token, whatever the tokenizer.
FILLER = " ".join(["word"] * 1999)
PASSAGES = [
    ("1", FILLER, "Filler"),
    ("2", "Lisbon has an old harbour", "Lisbon"),
    ("3", 'The "Argo" led 17 boats', 'The "Argo"'),
    ("4", "zürich, ZURICH and Zurich", "Spellings"),
    ("5", '"Basel"', "Basel"),
    ("6", FILLER.replace("word", "more"), "More filler"),
    ("7", "boats", "17"),
]


def passages_file():
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerows([("id", "text", "title"), *PASSAGES])
    return out.getvalue()


def lay(folder):
    (folder / "dpr-w100").mkdir(exist_ok=True)
    (folder / "dpr-w100/docs.tsv.gz").write_bytes(gzip.compress(passages_file().encode()))
    path = folder / "csrerank" / downloads_entry()["cache_path"]
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in QUESTIONS), encoding="utf-8")


def downloads_entry():
    from importlib.resources import files

    return json.loads((files("csrerank.collections") / "downloads.json").read_text())["xor-retrieve"]["dev"]


@pytest.fixture(scope="module")
def laid():
    """The toy files in the session's own folder, which processes and this one read."""
    lay(Path(os.environ["IR_DATASETS_HOME"]))


@pytest.fixture
def track(laid, monkeypatch, tmp_path):
    """A folder to work in."""
    # The check of free space asks for the real file's 13 GB.
    monkeypatch.setenv("IR_DATASETS_SKIP_DISK_FREE", "true")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(capsys):
    """Run ``csrerank ARGS`` in this process, which is faster by seconds; gives exit code, output, and what was said without ir_datasets' own lines."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_command(list(arguments))
        out, err = capsys.readouterr()
        return ended.value.code, out, [line for line in err.splitlines() if line and not line.startswith("[INFO]") and "docs_iter" not in line]

    return run


@pytest.fixture
def refused(command):
    """The message of a command that is refused."""

    def run(*arguments):
        code, out, said = command(*arguments)
        assert (code, out, len(said)) == (2, "", 1) and said[0].startswith("Error: ")
        return said[0].removeprefix("Error: ")

    return run


def run_file(folder, rankings, name="run.trec"):
    lines = [f"{topic} Q0 {doc} {rank} {100 - rank} t\n" for topic, docs in rankings.items() for rank, doc in enumerate(docs, 1)]
    (folder / name).write_text("".join(lines))
    return name


CONTENTS = """
import json
from pathlib import Path
import ir_datasets
home = Path(ir_datasets.util.home_path())
before = sorted(map(str, home.rglob("*")))
import csrerank.collections.xor_retrieve as track
track.register(); track.register()
ids = [name for name in ir_datasets.registry if name.startswith("csrerank/xor-retrieve")]
found = {"ids": ids, "untouched": before == sorted(map(str, home.rglob("*")))}
sets = {name.split("/")[2]: ir_datasets.load(name) for name in ids if name.endswith("/dev")}
found["topics"] = {name: list(dataset.queries_iter()) for name, dataset in sets.items()}
found["langs"] = {name: [dataset.queries_lang(), dataset.docs_lang()] for name, dataset in sets.items()}
found["qrels"] = {name: dataset.has_qrels() for name, dataset in sets.items()}
ja = sets["ja-en"]
found["streamed"] = list(ja.docs_iter())
found["copies"] = [str(path) for path in home.rglob("*.pklz4")]
found["fields"] = [ja.queries_cls()._fields, ja.docs_cls()._fields, ja.docs_namespace()]
found["many"] = ja.docs_store().get_many(["5", "absent", "3"])
found["one"] = ja.docs_store().get("5")
found["slice"] = list(ja.docs_iter()[2:5])
found["index"] = ja.docs_iter()[2]
found["again"] = list(ja.docs_iter())
found["count"] = ja.docs_count()
found["texts"] = [next(ja.queries_iter()).default_text(), ja.docs_store().get("3").default_text()]
found["documented"] = {name: ir_datasets.load(name).documentation()["pretty_name"] for name in ids}
print(json.dumps(found))
"""


def test_the_collection_is_the_published_files(tmp_path):
    lay(tmp_path)
    settings = {"IR_DATASETS_HOME": str(tmp_path), "IR_DATASETS_SKIP_DISK_FREE": "true"}
    done = subprocess.run([sys.executable, "-c", CONTENTS], env=os.environ | settings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sorted(found["ids"]) == sorted(["csrerank/xor-retrieve", *(f"csrerank/xor-retrieve/{lang}-en/dev" for lang in [*LANGUAGES, "x7"])])
    assert found["untouched"]
    rows = [[record["id"], record["question"], record["lang"], record["answers"]] for record in QUESTIONS]
    assert found["topics"]["x7-en"] == rows
    for lang in LANGUAGES:
        assert found["topics"][f"{lang}-en"] == [row for row in rows if row[2] == lang]
        assert found["langs"][f"{lang}-en"] == [lang, "en"]
    assert found["langs"]["x7-en"] == [None, "en"]
    assert not any(found["qrels"].values())
    documents = [[doc_id, text, title] for doc_id, text, title in PASSAGES]
    assert found["streamed"] == found["again"] == documents
    assert found["copies"] == []  # streaming writes nothing
    assert found["fields"] == [["query_id", "text", "lang", "answers"], ["doc_id", "text", "title"], "dpr-w100"]
    assert found["many"] == {"5": documents[4], "3": documents[2]}
    assert found["one"] == documents[4]
    assert found["slice"] == documents[2:5] and found["index"] == documents[2] and found["count"] == 7
    assert found["texts"] == [rows[0][1], 'The "Argo" The "Argo" led 17 boats']
    assert found["documented"]["csrerank/xor-retrieve/te-en/dev"] == "XOR-Retrieve"


@pytest.mark.parametrize("field, text", [('"a ""b"" c"', 'a "b" c'), ('a "b" c', 'a "b" c'), ('"""b"""', '"b"'), ("", ""), ('""', ""), ("it's", "it's")])
def test_fields_are_read_as_csv(field, text):
    assert unquoted(field) == text
    assert field == text or next(csv.reader([field], delimiter="\t")) == [text]


GOOD = json.dumps(QUESTIONS[0])


@pytest.mark.parametrize(
    "line, says",
    [
        ("{", "dev.jsonl:2: not JSON ("),
        ("[]", "dev.jsonl:2: no id and question and lang and answers as XOR-TyDi has them"),
        (json.dumps(QUESTIONS[1] | {"id": 50}), "dev.jsonl:2: no id as"),
        (json.dumps(QUESTIONS[1] | {"question": " "}), "dev.jsonl:2: no question as"),
        (json.dumps(QUESTIONS[1] | {"lang": "de"}), "dev.jsonl:2: no lang as"),
        (json.dumps(QUESTIONS[1] | {"answers": []}), "dev.jsonl:2: no answers as"),
        (json.dumps(QUESTIONS[1] | {"answers": ["x", ""]}), "dev.jsonl:2: no answers as"),  # an empty answer stands in every text
        (json.dumps(QUESTIONS[1] | {"answers": "x"}), "dev.jsonl:2: no answers as"),
        (GOOD, "dev.jsonl:2: question '-41' stands there twice"),
    ],
)
def test_a_damaged_file_of_questions_is_refused(line, says, tmp_path, monkeypatch):
    path = tmp_path / "dev.jsonl"
    path.write_text(f"{GOOD}\n{line}\n")
    monkeypatch.setattr(xor_retrieve, "downloads", lambda name: {"dev": SimpleNamespace(path=lambda: path)})
    with pytest.raises(InputError) as caught:
        xor_retrieve.questions(["ja"])
    assert says in str(caught.value) and "; delete the file" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "passages, answers, budgets, expected",
    [
        (["a b c", "D e"], ["D"], [3, 4], [0, 1]),  # the answer is beyond the cut
        (["a b c", "D e"], ["D e"], [4, 5], [0, 1]),  # and where the cut goes through it
        (["a b c", "D e"], ["c D"], [4, 5], [1, 1]),  # passages are joined by a space
        (["a b c", "D e"], ["x", "b"], [1, 2], [0, 1]),  # any answer
        (["Über uns"], ["über", "Uber"], [9], [0]),  # case and accents count
        (["Überall"], ["ber"], [9], [1]),  # part of a word will do
        (["a  b"], ["a  b"], [9], [0]),  # tokens are joined by one space, answers are left as they are
        ([], ["a"], [9], [0]),
        (["", "a"], ["a"], [1], [1]),
    ],
)
def test_answers_in_the_first_tokens(passages, answers, budgets, expected):
    assert answered(passages, answers, budgets, str.split) == expected


def test_passages_are_read_as_far_as_needed():
    def passages():
        yield "a b"
        yield "c"
        raise AssertionError("read beyond the budget")

    assert answered(passages(), ["c"], [3, 2], str.split) == [1, 0]


def test_scores_are_the_mean_of_the_languages_means():
    questions = Questions({"1": ["x"], "2": ["x"], "3": ["x"], "4": ["y"]}, {"1": "ja", "2": "ja", "3": "ja", "4": "ko"})
    scores = evaluate_answers([("1", ["x"]), ("9", ["x"]), ("4", ["a y"])], questions, {"R@1kt": 1, "R@2kt": 2}, str.split)
    assert scores["R@1kt"] == {"1": 1, "2": 0, "3": 0, "4": 0} and scores["R@2kt"] == {"1": 1, "2": 0, "3": 0, "4": 1}
    assert (scores.missing, scores.unjudged) == (("2", "3"), ("9",))
    assert scores.by_language("R@2kt") == {"ja": pytest.approx(1 / 3), "ko": 1}
    assert scores.mean("R@1kt") == pytest.approx(1 / 6) and scores.mean("R@2kt") == pytest.approx(2 / 3)
    assert AnswerScores({"R@2kt": {"1": 1, "2": 0}}).mean("R@2kt") == 0.5  # no language named
    with pytest.raises(InputError, match="topic '1' comes twice"):
        evaluate_answers([("1", ["x"]), ("1", ["x"])], questions, {"R@1kt": 1}, str.split)


def test_measures():
    assert answer_measures(["R@2kt", "recall@15KT"]) == {"R@2kt": 2000, "R@15kt": 15000}
    assert answer_measures(["R@2", "RR@10", "R@0kt", "P@2kt", "R@kt"]) == {}
    with pytest.raises(InputError, match=r"measure R@2kt looks for answers and RR@10 takes judgements; score them in two calls"):
        answer_measures(["RR@10", "R@2kt"])


TEXT = 'Dr. Ho (b. 1914) can\'t leave. She said: "No." It cost $5.'


def test_tokenizers_differ_in_where_sentences_end():
    whole, split = tokenizer("treebank")(TEXT), tokenizer("pysbd")(TEXT)
    assert whole[:9] == ["Dr.", "Ho", "(", "b.", "1914", ")", "ca", "n't", "leave."]
    assert split[:10] == ["Dr.", "Ho", "(", "b.", "1914", ")", "ca", "n't", "leave", "."]
    assert whole[-4:] == split[-4:] == ["cost", "$", "5", "."]
    # pysbd itself loses this text's first sentence.
    chords = "It is in F major with a main chord pattern of F–C–Dm–B♭. His vocals range from B♭3 to D5."
    assert "".join(tokenizer("pysbd")(chords)) == chords.replace(" ", "")
    assert tokenizer("pysbd")(chords)[-8:] == ["His", "vocals", "range", "from", "B♭3", "to", "D5", "."]
    assert tokenizer("pysbd")("") == tokenizer("pysbd")("  ") == []


def toy_punkt(folder):
    """A punkt model that knows one abbreviation."""
    model = folder / "tokenizers/punkt_tab/english"
    model.mkdir(parents=True)
    for name, content in {"abbrev_types.txt": "dr\n", "collocations.tab": "", "sent_starters.txt": "she\n", "ortho_context.tab": "she\t46\n"}.items():
        (model / name).write_text(content)


def test_punkt_is_used_where_it_is_installed(tmp_path, monkeypatch):
    import nltk
    from nltk.tokenize import word_tokenize

    toy_punkt(tmp_path)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    assert tokenizer("punkt") is word_tokenize
    assert tokenizer("punkt")("I saw Dr. Ho leave. She left.") == ["I", "saw", "Dr.", "Ho", "leave", ".", "She", "left", "."]


def test_what_is_not_installed_is_named(monkeypatch):
    def absent(text, **options):
        raise LookupError("Resource punkt_tab not found.\nPlease use the NLTK Downloader")

    import nltk.tokenize

    monkeypatch.setattr(nltk.tokenize, "word_tokenize", absent)
    with pytest.raises(InputError) as caught:
        tokenizer("punkt")
    assert str(caught.value) == "--tokenizer punkt: NLTK's punkt model is not installed; python -m nltk.downloader punkt_tab, or leave --tokenizer out"
    monkeypatch.setitem(sys.modules, "nltk.tokenize", None)
    for name in TOKENIZERS:
        with pytest.raises(InputError, match=r"NLTK, which is not installed; pip install csrerank\[xor\]$"):
            tokenizer(name)
    with pytest.raises(InputError, match="tokenizer 'bert' is unknown; choose one of pysbd, treebank, punkt"):
        tokenizer("bert")


# -41: Lisbon is the 2,000th token. 42: yes/no. 43: "17" and "boats" of two passages. 44: the answer is cut at 2,000 tokens.
RANKINGS = {"-41": ["1", "2"], "42": ["2"], "43": ["3"], "44": ["1", "2", "6"]}


def test_evaluate_gives_each_topic_its_value(track, cli):
    run = run_file(track, RANKINGS)
    done = cli("evaluate", run, "--dataset", JA, "--measures", "R@2kt,R@5kt", "--by-topic")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "run\ttopic\tmeasure\tvalue",
        *(f"run.trec\t{topic}\tR@2kt\t{value}" for topic, value in (("-41", 1.0), ("43", 1.0), ("44", 0.0))),
        *(f"run.trec\t{topic}\tR@5kt\t{value}" for topic, value in (("-41", 1.0), ("43", 1.0), ("44", 1.0))),
    ]
    said = [line for line in done.stderr.splitlines() if line.startswith(("tokens", "run.trec"))]
    assert said == [f"tokens: pysbd ({TOKENIZERS['pysbd']})", "run.trec: 1 topics of the run have no answer to look for and are ignored: 42"]


def test_evaluate_orders_by_score_and_takes_the_texts_without_titles(track, command):
    # By score passage 2 comes second and Lisbon is within 2,000 tokens; 7's title would make "17 boats".
    (track / "run.trec").write_text("-41 Q0 6 1 1 t\n-41 Q0 2 2 2 t\n-41 Q0 1 3 3 t\n43 Q0 7 1 1 t\n")
    code, out, said = command("evaluate", "run.trec", "--dataset", JA, "--measures", "R@2kt", "--tokenizer", "treebank")
    assert (code, out.split()) == (0, ["run", "R@2kt", "run.trec", "0.3333"])
    missing = "run.trec: 1 of the 3 questions with an answer to look for are not in the run and count as 0: 44"
    assert said == [f"tokens: treebank ({TOKENIZERS['treebank']})", missing]


def test_evaluate_all_languages(track, command):
    run_file(track, RANKINGS | {"50": ["4"], "61": ["2"]}, "one.trec")
    run_file(track, {"50": ["4", "5"]}, "two.trec")
    _, out, said = command("evaluate", "one.trec", "two.trec", "--dataset", ALL, "--measures", "R@2kt,R@5kt")
    # ja 2/3 and 3/3, ko 0, te 1; fi has yes and no alone.
    assert [line.split() for line in out.splitlines()] == [["run", "R@2kt", "R@5kt"], ["one.trec", "0.5556", "0.6667"], ["two.trec", "0.3333", "0.3333"]]
    assert said[-4:] == [
        "one.trec: R@2kt by language, whose mean the table has: ja 0.6667, ko 0.0000, te 1.0000",
        "one.trec: R@5kt by language, whose mean the table has: ja 1.0000, ko 0.0000, te 1.0000",
        "two.trec: R@2kt by language, whose mean the table has: ja 0.0000, ko 1.0000, te 0.0000",
        "two.trec: R@5kt by language, whose mean the table has: ja 0.0000, ko 1.0000, te 0.0000",
    ]
    assert command("evaluate", "one.trec", "--dataset", ALL, "--measures", "R@2kt", "--quiet")[2] == []


def test_evaluate_refuses(track, refused, cli):
    run = run_file(track, RANKINGS)
    (track / "qrels").write_text("-41 0 1 1\n")
    both = ("evaluate", run, "--dataset", JA, "--measures")
    message = "measure R@2kt looks for answers and RR@10 takes judgements; score them in two calls"
    assert refused(*both, "R@2kt,RR@10") == message
    done = cli(*both, "R@2kt,RR@10")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"Error: {message}\n")
    assert refused(*both, "R@10", "--tokenizer", "pysbd") == "--tokenizer is for measures such as R@2kt; leave it out"
    assert refused(*both, "R@10") == f"{JA} has no judgements; give --qrels FILE"
    assert "not known; use one of" in refused(*both, "R@0kt")
    assert "qrels: R@2kt looks for answers, which qrels have not; give --dataset ID" in refused("evaluate", run, "--qrels", "qrels", "--measures", "R@2kt")
    assert "the run has no sidecar" in refused("evaluate", run, "--measures", "R@2kt")
    assert "its topics have no answers to look for" in refused("evaluate", run, "--dataset", "csrerank/demo/en-de", "--measures", "R@2kt")
    run_file(track, {"42": ["none"], "43": ["3", "404"]})
    assert refused(*both, "R@2kt") == f"run.trec: topic '43': document '404' is not in {JA}; give the dataset that the run was made from"
    (track / run).write_text("-41 Q0 1 1 1\n")
    assert "run.trec:1: 5 columns where a TREC run has 6" in refused(*both, "R@2kt")


def test_export_writes_the_texts_and_every_question(track, command, cli):
    run = run_file(track, {"43": ["3", "5"], "-41": ["2"]})
    to = ("export", run, "--format", "xor-retrieve", "--output")
    assert command(*to, "out.json", "--dataset", JA) == (0, "", ["out.json: 4 lines, keeps the rules of xor-retrieve"])
    written = (track / "out.json").read_text(encoding="utf-8")
    assert json.loads(written) == [
        {"id": "43", "lang": "ja", "ctxs": ['The "Argo" led 17 boats', '"Basel"']},
        {"id": "-41", "lang": "ja", "ctxs": ["Lisbon has an old harbour"]},
        {"id": "42", "lang": "ja", "ctxs": []},
        {"id": "44", "lang": "ja", "ctxs": []},
    ]
    assert len(written.splitlines()) == 4
    assert command("check", "out.json", "--profile", "xor-retrieve") == (0, "out.json: keeps the rules of xor-retrieve\n", [])
    by_topic = ("--dataset", JA, "--measures", "R@2kt,R@5kt", "--by-topic", "--quiet")
    first, second = command("evaluate", run, *by_topic)[1], command("evaluate", "out.json", *by_topic)[1]
    assert first.replace(run, "out.json") == second and "\t1.0\n" in second
    assert command(*to, "out.json.gz", "--dataset", JA, "--quiet") == (0, "", [])
    assert gzip.decompress((track / "out.json.gz").read_bytes()).decode() == written
    assert command("evaluate", "out.json.gz", "--dataset", JA, "--measures", "R@2kt")[1].split()[-1] == "0.6667"
    (track / f"{run}.ir-metadata.yml").write_text(f"data:\n  test collection:\n    ir_datasets: {JA}\n")
    assert cli(*to, "-", "--quiet").stdout == written
    _, out, said = command("evaluate", run, "--measures", "R@2kt")
    assert out.split()[-1] == "0.6667" and said[0] == f"answers of {JA} (from the run's metadata)"


def test_export_refuses_and_writes_nothing(track, refused):
    run = run_file(track, {"-41": ["2"], "50": ["5"]})
    (track / "out.json").write_text("old")
    to = ("export", run, "--output", "out.json", "--format")
    xor = (*to, "xor-retrieve", "--dataset")
    assert refused(*xor, JA) == f"run.trec: topic '50' is no question of {JA}; give the dataset that the run was made from"
    assert "its topics name no language" in refused(*xor, "dpr-w100/natural-questions/dev")
    assert "unknown dataset 'none'" in refused(*xor, "none")
    assert "a xor-retrieve file has no tag" in refused(*xor, ALL, "--tag", "t")
    assert "no texts to write: give --dataset ID" in refused(*to, "xor-retrieve")
    assert "--dataset is for formats with texts in them, which trec is not" in refused(*to, "trec", "--dataset", JA)
    run_file(track, {"-41": ["2", "404"]})
    assert refused(*xor, JA) == f"run.trec: topic '-41': document '404' is not in {JA}; give the dataset that the run was made from"
    (track / run).write_text("")
    assert "run.trec: the file is empty" in refused(*xor, JA)
    assert sorted(path.name for path in track.iterdir()) == ["out.json", "run.trec"] and (track / "out.json").read_text() == "old"


def test_export_cuts_at_a_hundred(monkeypatch, tmp_path):
    from csrerank.profiles import export_run

    store = SimpleNamespace(get_many=lambda ids: {doc_id: SimpleNamespace(text=f"text {doc_id}") for doc_id in ids})
    dataset = SimpleNamespace(
        has_docs=lambda: True,
        docs_cls=lambda: SimpleNamespace(_fields=("doc_id", "text")),
        docs_store=lambda: store,
        has_queries=lambda: True,
        queries_cls=lambda: xor_retrieve.XorQuery,
        queries_iter=lambda: iter([xor_retrieve.XorQuery("1", "q", "fi", ("x",))]),
    )
    monkeypatch.setattr(xor_retrieve, "load", lambda name: dataset)
    run_file(tmp_path, {"1": list(range(150))})
    assert export_run(tmp_path / "run.trec", tmp_path / "out.json", "xor-retrieve", dataset="toy") == 1
    assert read_predictions(tmp_path / "out.json") == [Prediction("1", "fi", [f"text {number}" for number in range(100)])]


ENTRY = {"id": "1", "lang": "ja", "ctxs": ["a", "b"]}


@pytest.mark.parametrize(
    "content, expected",
    [
        ([ENTRY], []),
        ([ENTRY | {"ctxs": []}, ENTRY | {"id": "2", "score": 1}], []),
        ([ENTRY, ["1"]], ["out.json: entry 2: not an object with id, lang and ctxs; "]),
        ([{"id": "1", "ctxs": []}], ["out.json: entry 1: not an object with id, lang and ctxs; "]),
        ([ENTRY | {"id": 12345}], ["out.json: entry 1: id 12345 is not a question's, which is a string without white space; "]),
        ([ENTRY | {"id": " 1"}], ['out.json: entry 1: id " 1" is not a question\'s']),
        ([ENTRY, ENTRY], ["out.json: entry 2: question '1' stands again, first in entry 1; "]),
        (
            [ENTRY | {"lang": "en"}, ENTRY],
            ["out.json: entry 1: question '1': lang \"en\" is none of ar bn fi ja ko ru te; ", "out.json: entry 2: question '1' stands"],
        ),
        ([ENTRY | {"ctxs": [{"text": "a"}]}], ["out.json: entry 1: question '1': ctxs is not a list of texts; "]),
        ([], ["out.json:1: not a JSON list with entries; "]),
        (ENTRY, ["out.json:1: not a JSON list with entries; "]),
        ('[\n\n{"id": }]', ["out.json:3: not JSON (Expecting value); "]),
        ("", ["out.json: the file is empty"]),
        ("[" * 100_000, ["out.json: not JSON ("]),
    ],
)
def test_check_findings(content, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.json").write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    findings = check_run("out.json", "xor-retrieve")
    assert len(findings) == len(expected)
    for finding, start in zip(findings, expected, strict=True):
        assert finding.startswith(start) and "; " in finding and "\n" not in finding


def test_check_counts_missing_questions_and_findings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.json").write_text(json.dumps([ENTRY, *[1] * 30]))
    findings = check_run("out.json", "xor-retrieve", ["1", "2"])
    assert len(findings) == 21 and findings[-1] == "… and 11 more"
    (tmp_path / "out.json").write_text(json.dumps([ENTRY]))
    assert check_run("out.json", "xor-retrieve", ["1", "2"]) == ["out.json: topic '2' is missing; add at least one document for it"]


def test_a_prediction_file_is_known_by_its_start(tmp_path):
    for content, answer in (
        (b'[{"id"', True),
        (b" \n[\n {", True),
        (b"[]", True),
        (b"[", True),
        (b"[1 Q0 a 1 1 t\n", False),
        (b"1 Q0 a 1 1 t\n", False),
        (b"", False),
    ):
        for written in (content, gzip.compress(content)):
            (tmp_path / "file").write_bytes(written)
            assert is_prediction_file(str(tmp_path / "file")) == answer
    (tmp_path / "file").write_bytes(gzip.compress(b"[{")[:-9])
    assert not is_prediction_file(str(tmp_path / "file"))
    assert not is_prediction_file("-")
    with pytest.raises(InputError, match="no such file"):
        is_prediction_file(str(tmp_path / "none"))


def test_evaluate_refuses_prediction_files_that_do_not_fit(track, refused):
    given = ("evaluate", "out.json", "--measures", "R@2kt")
    (track / "out.json").write_text(json.dumps([{"id": "-41", "lang": "ko", "ctxs": []}]))
    assert refused(*given) == "out.json: no answers to score by; give --dataset ID"
    assert refused(*given, "--dataset", JA) == "out.json: question '-41' is in ja, not ko; write its language in lang"
    (track / "out.json").write_text(json.dumps([ENTRY | {"id": 1}]))
    assert refused(*given, "--dataset", JA).startswith("out.json: entry 1: id 1 is not a question's")
    (track / "out.json").write_text("[{]")
    assert refused(*given, "--dataset", JA).startswith("out.json:1: not JSON (")
