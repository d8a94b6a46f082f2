"""Code-switched ids: switched on the fly, the same record the same bytes however it is reached; MS MARCO in its real format; Translate-Test tracks."""

import gzip
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import ir_datasets
import pytest
from conftest import needs_freedict, needs_real_data
from test_codeswitch import lexicon

import csrerank.collections  # noqa: F401  registers
from csrerank.codeswitch import Lexicons, Policy, switch
from csrerank.collections import switched
from csrerank.collections.catalogue import load
from csrerank.errors import InputError

WORDS = {"the": ["der"], "of": ["von"], "what": ["was"], "is": ["ist"], "in": ["im"], "whale": ["Wal"], "city": ["Stadt"]}
MINE = "name: mine\nquery:\n  rules: []\npassage:\n  rules:\n    - {strategy: bilingual, languages: [de], probability: 0.5, lexicon: %s}\n"


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy file whose lexicon is a folder with one saved file."""
    folder = tmp_path_factory.mktemp("mine")
    lexicon("de", WORDS).save(folder / "en-de.lex")
    (folder / "mine.yaml").write_text(MINE % folder)
    return folder / "mine.yaml"


def test_ids_are_registered_and_documented() -> None:
    """Every system of every training set is listed, and says what it is."""
    ids = set(ir_datasets.registry)
    for base in ("en-qa/train", "en-qa/paragraphs/train", "msmarco/train"):
        for system in ("zero-shot", "bl-cs/en-de", "bl-cs/ar-ru", "ml-cs", "wiki-cs"):
            dataset = ir_datasets.load(f"csrerank/{base}/{system}")
            assert f"csrerank/{base}/{system}" in ids and dataset.has_docs() and dataset.has_queries() and dataset.has_qrels() and dataset.has_docpairs()
            assert "switched on the fly" in dataset.documentation()["desc"]
    assert "csrerank/xquad-r/de-en/translate-test" in ids and "csrerank/xquad-r/en-en/translate-test" not in ids
    assert "csrerank/mmarco/ar-ru/dev/small/translate-test" in ids and "csrerank/demo/x8-x8/translate-test" in ids


def test_recipe(mine: Path) -> None:
    """An id says what it is made of."""
    found = switched.recipe("csrerank/en-qa/paragraphs/train/ml-cs/seed-7/epoch-3")
    assert found is not None and (found.base, found.policy.name, found.seed, found.epoch) == ("csrerank/en-qa/paragraphs/train", "ml-cs", 7, 3)
    assert switched.recipe("csrerank/msmarco/train/bl-cs/de-it").policy.query.rules[0].languages == (("de", 1.0),)  # type: ignore[union-attr]
    assert switched.recipe(f"csrerank/en-qa/train/policy:{mine}/epoch-2").epoch == 2  # type: ignore[union-attr]
    assert switched.recipe("csrerank/en-qa/train") is None and switched.recipe("csrerank/xquad-r/en-de") is None


@pytest.mark.parametrize(
    ("dataset_id", "message"),
    [
        (
            "csrerank/en-qa/train/policy:no.yaml",
            "no.yaml: no such policy; give a YAML file or one of bl-cs, ml-cs, ml-cs-all, ml-cs-texts, muse, translate-test, wiki-cs, zero-shot",
        ),
        ("csrerank/en-qa/train/mlcs", "mlcs: no such policy"),
        ("csrerank/en-qa/train/bl-cs/en-xx", "unknown language 'xx'"),
        ("csrerank/en-qa/train/bl-cs", "needs a language pair"),
        ("csrerank/en-qa/train/ml-cs/epoch-x", "unknown dataset"),
        ("csrerank/en-qa/train/ml-cs/seed-" + "9" * 40, "unknown dataset"),
        ("csrerank/en-qa/train/ml-cs/seed-\u0663", "unknown dataset"),
        ("csrerank/en-qa/train/ml-cs\n", "unknown dataset"),
        ("csrerank/en-qa/train/policy:" + "x" * 300, "no such policy"),
        ("csrerank/xquad-r/th-en/translate-test", "unknown dataset"),
    ],
)
def test_a_wrong_id_says_so(dataset_id: str, message: str) -> None:
    """One line."""
    with pytest.raises(InputError, match=re.escape(message)):
        load(dataset_id)


@needs_real_data
def test_the_same_record_however_it_is_reached(mine: Path) -> None:
    """Stream, slice, index and store agree with the function itself; ids, judgements and pairs are the plain collection's."""
    plain, dataset = load("csrerank/en-qa/validation"), load(f"csrerank/en-qa/validation/policy:{mine}")
    streamed = list(dataset.docs_iter())
    assert [document.doc_id for document in streamed] == [document.doc_id for document in plain.docs_iter()]
    assert list(dataset.docs_iter()[: 1 / 10]) == streamed[: len(streamed) // 10]
    assert list(dataset.docs_iter()[5:50:5]) == streamed[5:50:5] and dataset.docs_iter()[7] == streamed[7]
    some = [document.doc_id for document in streamed[90:10:-7]]
    assert dataset.docs_store().get_many(some) == {document.doc_id: document for document in streamed if document.doc_id in some}
    first = plain.docs_iter()[7]
    text, records = switch(first.text, first.doc_id, Policy.load(mine), Lexicons(), 2023)
    assert streamed[7].text == text and streamed[7].title == first.title and dataset.docs_cls() is plain.docs_cls()
    assert sum(document.text != original.text for document, original in zip(streamed, plain.docs_iter(), strict=True)) > len(streamed) / 2
    assert list(dataset.queries_iter()) == list(plain.queries_iter())
    assert list(dataset.qrels_iter()) == list(plain.qrels_iter()) and list(dataset.docpairs_iter()) == list(plain.docpairs_iter())
    other = load(f"csrerank/en-qa/validation/policy:{mine}/epoch-1").docs_iter()[7:40]
    assert [document.text for document in other] != [document.text for document in streamed[7:40]]
    content = mine.read_text()
    mine.write_text(content.replace("0.5", "0"))
    assert dataset.docs_iter()[7].text == first.text  # a policy file counts as it is when reading begins
    mine.write_text(content)
    assert dataset.docs_iter()[7] == streamed[7]
    assert dataset.docs_count() == plain.docs_count() and dataset.queries_count() == plain.queries_count()


@needs_real_data
def test_english_pairs() -> None:
    """Each relevant sentence with four others, none of them relevant, at most two of its article by choice; the same every time."""
    validation = load("csrerank/en-qa/validation")
    pairs = list(validation.docpairs_iter())
    relevant = {(row.query_id, row.doc_id) for row in validation.qrels_iter()}
    assert {(pair.query_id, pair.doc_id_a) for pair in pairs} == relevant and len(pairs) == 4 * len(relevant)
    assert not any((pair.query_id, pair.doc_id_b) in relevant for pair in pairs)
    assert len({tuple(pair) for pair in pairs}) == len(pairs)


class Body(NamedTuple):
    """A document without a field called text."""

    doc_id: str
    body: str


def test_a_record_without_text() -> None:
    """A collection that has other fields is refused, with its fields named."""
    with pytest.raises(InputError, match="Body d1: no field 'text' to switch; its fields are doc_id, body"):
        switched.switched_record(Body("d1", "x"), "passage", Policy.load("zero-shot"), Lexicons(), 1, 0)


def test_translate_test_follows_each_records_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pair one language is translated; in a mixed track each document from its own; English stays as it is."""
    given: dict[Any, Any] = {
        ("open", lang, "en"): lexicon("en", {"der": [f"the({lang})"], "la": [f"the({lang})"], "и": ["and"]}, lang)
        for lang in ["de", "it", "ru", "ar", "nl", "es", "zh"]
    }
    monkeypatch.setattr(switched, "lexicons", lambda: Lexicons(given))
    plain = {document.doc_id: document for document in load("csrerank/demo/x8-x8").docs_iter()}
    changed = {document.doc_id: document for document in load("csrerank/demo/x8-x8/translate-test").docs_iter()}
    assert plain.keys() == changed.keys()
    for name, document in changed.items():
        assert document.lang == plain[name].lang
        if document.lang == "en":
            assert document.text == plain[name].text
        else:
            assert not re.search(rf"the\((?!{document.lang})", document.text)
    assert {document.lang for name, document in changed.items() if document.text != plain[name].text} >= {"de", "it", "ru", "es"}
    pair = load("csrerank/demo/de-en/translate-test")
    assert list(pair.docs_iter()) == list(load("csrerank/demo/de-en").docs_iter())
    assert any("(de)" in topic.text for topic in pair.queries_iter()) and pair.queries_lang() == "en"


MSMARCO = """
import json, sys
import ir_datasets
import csrerank.collections
name = sys.argv[1]
dataset = ir_datasets.load(f"csrerank/msmarco/train/policy:{name}")
print(json.dumps({
    "docs": list(dataset.docs_iter()), "slice": list(dataset.docs_iter()[1:3]), "store": dataset.docs_store().get("2"), "count": dataset.docs_count(),
    "queries": list(dataset.queries_iter()), "query": dataset.queries.lookup("9"), "qrels": list(dataset.qrels_iter()),
    "docpairs": list(dataset.docpairs_iter()), "plain": list(ir_datasets.load("csrerank/msmarco/train/zero-shot").docs_iter()),
}))
"""


def _archive(path: Path, members: dict[str, str]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))


def test_msmarco_in_its_real_format(tmp_path: Path, mine: Path) -> None:
    """Passages, training topics, judgements and sentence-transformers' list of triples, laid as ir_datasets keeps them."""
    home = tmp_path / "home"
    (home / "msmarco-passage" / "train").mkdir(parents=True)
    (home / "csrerank" / "msmarco").mkdir(parents=True)
    passages = [f"{number}\tThe whale is in the city of numbers, {number} times" for number in range(5)]
    _archive(home / "msmarco-passage" / "collectionandqueries.tar.gz", {"collection.tsv": "\n".join(passages) + "\n"})
    _archive(home / "msmarco-passage" / "queries.tar.gz", {"queries.train.tsv": "7\twhat is the whale\n9\twhat is the city\n"})
    (home / "msmarco-passage" / "train" / "qrels").write_text("7\t0\t2\t1\n9\t0\t4\t1\n")
    (home / "csrerank" / "msmarco" / "qidpidtriples.rnd-shuf.train.tsv.gz").write_bytes(gzip.compress(b"9\t4\t0\n7\t2\t3\n"))
    environment = {**os.environ, "IR_DATASETS_HOME": str(home)}
    process = subprocess.run([sys.executable, "-c", MSMARCO, str(mine)], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    policy = Policy.load(mine)
    expected = [[str(number), switch(line.partition("\t")[2], str(number), policy, Lexicons(), 2023)[0]] for number, line in enumerate(passages)]
    assert found["docs"] == expected and found["slice"] == expected[1:3] and found["store"] == expected[2] and found["count"] == 5
    assert any("Wal" in text for _, text in expected)
    assert found["plain"] == [line.split("\t") for line in passages]
    assert found["queries"] == [["7", "what is the whale"], ["9", "what is the city"]] and found["query"] == found["queries"][1]
    assert found["qrels"] == [["7", "2", 1, "0"], ["9", "4", 1, "0"]]
    assert found["docpairs"] == [["9", "4", "0"], ["7", "2", "3"]]


@needs_freedict
@pytest.mark.slow
def test_ml_cs_on_the_real_lexicons() -> None:
    """The shipped policy over real text: several languages in a passage, ranks and sources recorded, English of the lexicon's gaps left."""
    dataset = load("csrerank/en-qa/validation/ml-cs")
    plain = load("csrerank/en-qa/validation")
    changed = [(document.text, original.text) for document, original in zip(dataset.docs_iter()[:500], plain.docs_iter()[:500], strict=True)]
    text = " ".join(new for new, _ in changed)
    assert re.search("[а-я]{3}", text) and re.search("[\u0627-\u064a]{2}", text)
    assert sum(new != old for new, old in changed) > 450


@pytest.mark.parametrize("name", ["ml-cs-all", "ml-cs-texts"])
def test_every_language_with_a_dictionary_that_may_be_shipped_but_finnish(name: str) -> None:
    from csrerank.codeswitch import Policy
    from csrerank.languages import LANGUAGES
    from csrerank.lexicons.catalogue import ALIASES, languages_of
    from csrerank.lexicons.registry import SOURCES

    used = Policy.load(name).lexicons()
    assert {mix for mix, _, _ in used} == {"open"} and {source for _, source, _ in used} == {"en"}
    assert {lang for _, _, lang in used} == languages_of("open") - {"fi"} and languages_of("open") <= set(LANGUAGES)
    # What the default model was trained with: a language more would be another policy.
    assert Policy.load(name).fingerprint == {"ml-cs-all": "170c3aa4a704a6c9d5f9f101c444fae8", "ml-cs-texts": "5ac48a616057487d702c48d613a2f980"}[name]
    licences = {licence for part in ALIASES["open"] for licence in (SOURCES[part].licence, *SOURCES[part].licences.values())}
    assert licences and not any("NC" in licence.replace("-", " ").split() or "non-commercial" in licence for licence in licences)
