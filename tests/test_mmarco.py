"""csrerank/mmarco over tiny files in the real formats, laid where ir_datasets keeps its downloads: a place that it reads at import.

So what is checked is read in processes of its own.
"""

import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from csrerank.collections.sampling import draw_language
from csrerank.languages import MMARCO, SEEN, language

PASSAGES = [str(number) for number in range(120)]
SMALL = ["1048585", "2", "524332", "1048642", "300674", "786436", "40", "1048579", "86", "131843"]
JUDGEMENTS = [[topic, str(7 * place), 1, "0"] for place, topic in enumerate(SMALL)]
CANDIDATES = [[topic, str((7 * place + step) % 120), 0.0] for place, topic in enumerate(SMALL) for step in (3, 0, 50)]
TRACKS = {"x6": SEEN, "x14": MMARCO}
TRACK_NAMES = ["x6-en", "en-x6", "x6-x6", "x14-en", "en-x14", "x14-x14"]
USED = ["en-de", "de-en", "nl-de", "de-nl", "en-en", "zh-ar", *TRACK_NAMES]

CONTENTS = """
import json, sys
from pathlib import Path
import ir_datasets
home = Path(ir_datasets.util.home_path())
laid = sorted(map(str, home.rglob("*marco*/**/*")))
import csrerank.collections.mmarco as mmarco
from csrerank.errors import InputError
mmarco.register(); mmarco.register()
found = {"ids": [name for name in ir_datasets.registry if name.startswith("csrerank/mmarco/") and not name.endswith("/translate-test")]}
found["untouched"] = laid == sorted(map(str, home.rglob("*marco*/**/*")))
found["documented"] = {name: ir_datasets.load(name).documentation() for name in found["ids"]}
sets = {name: ir_datasets.load(f"csrerank/mmarco/{name}/dev/small") for name in sys.argv[1:]}
found["docs"] = {name: list(dataset.docs_iter()) for name, dataset in sets.items()}
found["copies"] = [str(path) for path in home.rglob("*.pklz4")]
found["count"] = {name: dataset.docs_count() for name, dataset in sets.items()}
found["topics"] = {name: list(dataset.queries_iter()) for name, dataset in sets.items()}
found["qrels"] = {name: list(dataset.qrels_iter()) for name, dataset in sets.items()}
found["candidates"] = {name: list(dataset.scoreddocs_iter()) for name, dataset in sets.items()}
found["langs"] = {name: [dataset.queries_lang(), dataset.docs_lang(), dataset.docs.lang] for name, dataset in sets.items()}
found["fields"] = {name: [dataset.queries_cls()._fields, dataset.docs_cls()._fields] for name, dataset in sets.items()}
wanted = ["119", "3", "absent", "0", "3", "64"]
found["many"] = {name: dataset.docs_store().get_many(iter(wanted)) for name, dataset in sets.items()}
found["handler"] = {name: dataset.docs_handler().docs_store().get("64") for name, dataset in sets.items()}
found["slice"] = {name: list(dataset.docs_iter()[10:50:5]) for name, dataset in sets.items()}
found["index"] = {name: dataset.docs_iter()[-1] for name, dataset in sets.items()}
found["stores"] = sorted({path.parent.name for path in home.rglob("*.pklz4")})
found["count after"] = {name: dataset.docs_count() for name, dataset in sets.items()}
try:
    mmarco.collection_id("tr")
except InputError as error:
    found["named"] = [str(error), mmarco.collection_id("nl"), mmarco.topics_id("en")]
print(json.dumps(found))
"""


def passage(lang, number):
    return f"{lang} passage {number}: Überblick 東京" if lang != "en" else f"en passage {number}: café"


def topic_text(lang, number):
    return f"{lang} topic {number}: ¿qué?"


def tsv(rows):
    return "".join("\t".join(map(str, row)) + "\n" for row in rows).encode()


def mangled(text):
    """MS MARCO's passages are encoded twice here and there; ir_datasets mends that."""
    return text.replace("é", "é".encode().decode("latin1"))


def cache_paths():
    """Where ir_datasets looks for mMARCO's files before it downloads them."""
    spec = importlib.util.find_spec("ir_datasets")
    entries = json.loads((Path(spec.submodule_search_locations[0]) / "etc/downloads.json").read_text())["mmarco"]
    return {key: entry["cache_path"] for key, entry in entries.items()}


def lay(home):
    """MS MARCO's archive and candidate list, and mMARCO's passages and topics: in another order, with one that the small set lacks."""
    paths = cache_paths()
    (home / "mmarco/v2").mkdir(parents=True)
    (home / "msmarco-passage/dev").mkdir(parents=True)
    qrels = tsv([topic, 0, doc, grade] for topic, doc, grade, _ in JUDGEMENTS)
    members = {
        "collection.tsv": tsv([number, mangled(passage("en", number))] for number in PASSAGES),
        "queries.dev.small.tsv": tsv([number, topic_text("en", number)] for number in SMALL),
        "qrels.dev.small.tsv": qrels,
    }
    with tarfile.open(home / "msmarco-passage/collectionandqueries.tar.gz", "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    # What ir_datasets keeps of the archive of candidates, which has all the texts once more.
    (home / "msmarco-passage/dev/ms.run").write_bytes(tsv(row[:2] for row in CANDIDATES))
    (home / "mmarco" / paths["dev/qrels-small"]).write_bytes(qrels)
    for lang in MMARCO:
        if lang != "en":
            key = f"v2/{language(lang).mmarco}"
            (home / "mmarco" / paths[f"{key}/docs"]).write_bytes(tsv([number, passage(lang, number)] for number in PASSAGES))
            topics = [*reversed(SMALL), "999"]
            (home / "mmarco" / paths[f"{key}/queries/dev"]).write_bytes(tsv([number, topic_text(lang, number)] for number in topics))


def ask(home, code, *arguments, hash_seed="0"):
    # The check of free space asks for the real files' 14 GB.
    settings = {"IR_DATASETS_HOME": str(home), "IR_DATASETS_SKIP_DISK_FREE": "true", "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=os.environ | settings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ir_datasets")
    lay(folder)
    return folder


@pytest.fixture(scope="module")
def found(home):
    return ask(home, CONTENTS, *USED)


def test_every_pair_and_track_is_listed_and_registering_touches_nothing(found):
    pairs = [f"{query}-{document}" for query in MMARCO for document in MMARCO]
    assert len(pairs) == 196
    assert sorted(found["ids"]) == sorted(f"csrerank/mmarco/{name}/dev/small" for name in pairs + TRACK_NAMES)
    assert found["untouched"]


def test_documentation_cites_what_ir_datasets_cites(found):
    assert len(found["documented"]) == 202
    for name, entry in found["documented"].items():
        assert entry["bibtex_ids"] == ["Bonifacio2021MMarco", "Bajaj2016Msmarco"]
        assert entry["official_measures"] == ["RR@10"]
        assert "oracle" in entry["desc"]
        assert ("multilingual track" in entry["pretty_name"]) == ("/x" in name or "-x" in name)


@pytest.mark.parametrize("pair", ["en-de", "de-en", "nl-de", "de-nl", "en-en", "zh-ar"])
def test_a_pair_takes_topics_and_documents_from_its_languages(found, pair):
    query, document = pair.split("-")
    assert found["docs"][pair] == [[number, passage(document, number)] for number in PASSAGES]
    order = SMALL if query == "en" else SMALL[::-1]
    assert found["topics"][pair] == [[number, topic_text(query, number)] for number in order]
    assert found["langs"][pair] == [query, document, document]  # nl, where ir_datasets says dt


@pytest.mark.parametrize("name", USED)
def test_qrels_and_candidates_are_the_english_ones(found, name):
    assert found["qrels"][name] == JUDGEMENTS
    assert found["candidates"][name] == CANDIDATES


@pytest.mark.parametrize("name", USED)
def test_looking_up_slicing_and_reading_agree(found, name):
    documents = {document[0]: document for document in found["docs"][name]}
    assert found["many"][name] == {number: documents[number] for number in found["many"][name]}
    assert sorted(found["many"][name]) == ["0", "119", "3", "64"]
    assert found["handler"][name] == documents["64"]
    assert found["slice"][name] == found["docs"][name][10:50:5]
    assert found["index"][name] == found["docs"][name][-1]


@pytest.mark.parametrize("name", TRACK_NAMES)
def test_a_track_has_one_copy_of_each_record_in_its_drawn_language(found, name):
    query, document = name.split("-")
    if document == "en":
        assert found["docs"][name] == found["docs"]["en-en"]
    else:
        drawn = [(number, draw_language(TRACKS[document], "doc", number)) for number in PASSAGES]
        assert found["docs"][name] == [[number, passage(lang, number), lang] for number, lang in drawn]
        assert Counter(lang for _, lang in drawn).keys() == set(TRACKS[document])
    if query == "en":
        assert found["topics"][name] == found["topics"]["en-en"]
    else:
        drawn = [(number, draw_language(TRACKS[query], "query", number)) for number in SMALL]
        assert found["topics"][name] == [[number, topic_text(lang, number), lang] for number, lang in drawn]
    sides = [None if side in TRACKS else "en" for side in (query, document)]
    assert found["langs"][name] == [*sides, sides[1]]
    kinds = [["query_id", "text", "lang"], ["doc_id", "text", "lang"]]
    assert found["fields"][name] == [kind if side is None else kind[:2] for kind, side in zip(kinds, sides, strict=True)]


def test_tracks_with_the_same_documents_share_them(found):
    assert found["docs"]["x14-x14"] == found["docs"]["en-x14"]
    assert found["docs"]["x6-x6"] == found["docs"]["en-x6"]
    assert found["docs"]["x6-x6"] != found["docs"]["x14-x14"]


def test_reading_copies_nothing_and_looking_up_uses_the_languages_docstores(found):
    assert found["copies"] == []
    assert "msmarco-passage" in found["stores"]
    assert set(found["stores"]) == {"msmarco-passage", "v2"}


def test_counts_are_the_handlers(found):
    assert set(found["count"].values()) == {8841823}  # from ir_datasets' metadata, without reading the files
    assert set(found["count after"].values()) == {120}


def test_another_hash_seed_and_built_docstores_give_the_same(home, found):
    again = ask(home, CONTENTS, *USED, hash_seed="1")
    for part in ("docs", "topics", "qrels", "candidates", "many", "slice", "index"):
        assert again[part] == found[part]


def test_files_out_of_step_raise(tmp_path):
    lay(tmp_path)
    code = """
import json, sys
from pathlib import Path
import ir_datasets, csrerank.collections.mmarco as mmarco
from csrerank.errors import InputError
mmarco.register()
track = ir_datasets.load("csrerank/mmarco/x6-x6/dev/small")
def message(read):
    try:
        return [list(read()), None]
    except InputError as error:
        return str(error)
said = {}
for name, path, damage in (
    ("swapped", sys.argv[1], lambda lines: [lines[1], lines[0], *lines[2:]]),
    ("short", sys.argv[1], lambda lines: lines[:-1]),
    ("long", sys.argv[1], lambda lines: [*lines, b"120\\tmore\\n"]),
    ("topics", sys.argv[2], lambda lines: lines[1:]),
):
    whole = Path(path).read_bytes()
    Path(path).write_bytes(b"".join(damage(whole.splitlines(keepends=True))))
    said[name] = message(track.queries_iter if name == "topics" else track.docs_iter)
    Path(path).write_bytes(whole)
said["whole"] = len(message(track.docs_iter)[0])
said["field"] = message(lambda: track.docs_store("text"))
print(json.dumps(said))
"""
    paths = cache_paths()
    said = ask(tmp_path, code, *(tmp_path / "mmarco" / paths[f"v2/dt/{kind}"] for kind in ("docs", "queries/dev")))
    both = "msmarco-passage and mmarco/v2/dt are out of step: "
    assert said["swapped"].startswith(both + "passage 0 in the first stands where passage 1 does in the second; delete ")
    assert said["short"].startswith(both + "passage 119 in the first stands where the end does in the second; ")
    assert said["long"].startswith(both + "the end in the first stands where passage 120 does in the second; ")
    assert said["topics"].startswith("msmarco-passage/dev/small and mmarco/v2/dt/dev/small are out of step: 1 topics (such as 131843) ")
    assert said["field"] == "documents of mmarco/x6 are looked up by doc_id, not by 'text'; use field='doc_id'"
    assert said["whole"] == 120
    assert not any("\n" in str(text) for text in said.values())


def test_an_unknown_language_is_named(found):
    message, dutch, english = found["named"]
    assert message.startswith("mMARCO has no language 'tr'; choose one of en de ")
    assert (dutch, english) == ("mmarco/v2/dt", "msmarco-passage/dev/small")
