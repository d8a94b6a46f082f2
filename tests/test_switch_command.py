"""``csrerank switch``: what it writes in each format, its data card, what it shows, and what it refuses."""

import json
import os
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import Cli, needs_real_data

from csrerank.codeswitch import Lexicons, Policy, Switch, rebuilt, switch
from csrerank.errors import InputError
from csrerank.lexicons.lexicon import Entry, Source, StoredLexicon
from csrerank.switching import rates
from csrerank.switching.engines import Engine, Held, Noted, here
from csrerank.switching.folder import MANIFEST
from csrerank.switching.formats import jsonl, parquet, tsv
from csrerank.switching.job import Job, Shard, requested
from csrerank.switching.marks import PALETTE, colours_of, marked, shown
from csrerank.switching.shards import NOTES
from csrerank.switching.show import shown_pairs
from csrerank.switching.sources import DatasetSource, FolderSource
from csrerank.switching.writing import Report, planned, write_collection

WORDS = ("the river", "a bridge", "water", "stone", "old", "crosses", "under", "mill", "flour", "grain", "is ground", "by", "wheel", "slowly", "unknownword")


def write_lexicons(folder: Path, licence: str = "CC0", languages: Sequence[str] = ("de", "ru")) -> Path:
    """A lexicon a language that turns every word but one round, and adds the language's code."""
    folder.mkdir(exist_ok=True)
    known = sorted({word for phrase in WORDS for word in phrase.split()} - {"unknownword"})
    for lang in languages:
        entries = [Entry(word, word[::-1] + lang) for word in known]
        StoredLexicon.compiled(entries, Source("toy", licence, {"toy.tsv": "0123"}), "en", lang).save(folder / f"en-{lang}.lex")
    return folder


def write_policy(path: Path, lexicons: Path, more: str = "", rule: str = "") -> Path:
    """Every word with probability 0.5 into German or Russian."""
    words = f"{{strategy: multilingual, languages: [de, ru], probability: 0.5, lexicon: {lexicons}}}"
    path.write_text(f"name: toy\nabout: A toy.\nquery: {{rules: [{words}]}}\npassage: {{{more}rules: [{rule or words}]}}\n")
    return path


def text_of(number: int) -> str:
    """A made-up text."""
    return " ".join(WORDS[(number * 7 + place * place) % len(WORDS)] for place in range(8 + number % 5)).capitalize() + "."


def write_input(folder: Path, docs: int, queries: int = 0, files: int = 3, order: Sequence[int] | None = None) -> Path:
    """Parquet files of documents (with a column ``year``) and of queries, and judgements: topic q<n> has d<n>."""
    folder.mkdir(exist_ok=True)
    places = list(order if order is not None else range(docs))
    bounds = [docs * number // files for number in range(files + 1)]
    for number in range(files):
        some = places[bounds[number] : bounds[number + 1]]
        table = pa.table({"year": [1900 + place for place in some], "doc_id": [f"d{place}" for place in some], "text": [text_of(place) for place in some]})
        pq.write_table(table, folder / f"docs-{number}.parquet", row_group_size=7)
    if queries:
        (folder / "queries").mkdir(exist_ok=True)
        table = pa.table({"query_id": [f"q{place}" for place in range(queries)], "text": [text_of(1000 + place) for place in range(queries)]})
        pq.write_table(table, folder / "queries" / "all.parquet")
        (folder / "qrels.txt").write_text("".join(f"q{place} 0 d{place} 1\n" for place in range(queries)))
    return folder


class Toy:
    """A toy input, policy and lexicons in a folder of the test's own."""

    def __init__(self, folder: Path, licence: str = "CC0", **policy: str) -> None:
        self.folder = folder
        self.lexicons = write_lexicons(folder / "lexicons", licence)
        self.policy = write_policy(folder / "policy.yaml", self.lexicons, **policy)
        self.input = write_input(folder / "input", 50, 12)

    def job(self, output: str, format: str = "parquet", seed: int | None = None, **options: Any) -> Job:
        return planned(requested(None, str(self.input), str(self.policy), seed, None), self.folder / output, format, **{"shard_size": 20, **options})

    def write(self, output: str, format: str = "parquet", seed: int | None = None, **options: Any) -> Report:
        return write_collection(self.job(output, format, seed, **options), here, quiet=True)


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the provenance, which may differ."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "provenance.yaml"}


def expected(toy: Toy, number: int) -> tuple[str, list[Switch]]:
    """What document ``number`` becomes, by ``switch`` itself."""
    return switch(text_of(number), f"d{number}", Policy.load(toy.policy), Lexicons(), 2023)


def test_parquet(toy: Toy) -> None:
    report = toy.write("out")
    assert report[:3] == ({"queries": 12, "docs": 50}, 4, 0)
    assert sorted(contents(toy.folder / "out")) == [
        "README.md", "card.yaml", "docs/part-00000.parquet", "docs/part-00001.parquet", "docs/part-00002.parquet", "manifest.json", "qrels.txt",
        "queries/part-00000.parquet",
    ]  # fmt: skip
    rows = [row for path in sorted((toy.folder / "out" / "docs").iterdir()) for row in pq.read_table(path).to_pylist()]
    assert list(rows[0]) == ["doc_id", "year", "text", "switches"]
    assert [row["doc_id"] for row in rows] == [f"d{number}" for number in range(50)] and [row["year"] for row in rows] == list(range(1900, 1950))
    for number, row in enumerate(rows):
        text, switches = expected(toy, number)
        assert row["text"] == text
        assert row["switches"] == [{**found._asdict(), "field": "text"} for found in switches]
        assert rebuilt(row["text"], switches) == text_of(number)
    assert sum(len(row["switches"]) for row in rows) > 100
    schema = pq.read_schema(toy.folder / "out" / "docs" / "part-00000.parquet")
    assert schema.metadata is None and pq.ParquetFile(toy.folder / "out" / "docs" / "part-00000.parquet").metadata.row_group(0).column(0).compression == "ZSTD"


def test_jsonl_holds_what_parquet_holds(toy: Toy) -> None:
    toy.write("p")
    toy.write("j", "jsonl")
    lines = [json.loads(line) for path in sorted((toy.folder / "j" / "docs").iterdir()) for line in path.read_text().splitlines()]
    assert lines == [row for path in sorted((toy.folder / "p" / "docs").iterdir()) for row in pq.read_table(path).to_pylist()]


def test_tsv(toy: Toy) -> None:
    toy.write("out", "tsv")
    lines = (toy.folder / "out" / "docs" / "part-00001.tsv").read_text().splitlines()
    assert lines == [f"d{number}\t{expected(toy, number)[0]}" for number in range(20, 40)]
    switches = (toy.folder / "out" / "docs" / "part-00001.switches.tsv").read_text().splitlines()
    assert switches == ["\t".join(map(str, (f"d{number}", "text", *found))) for number in range(20, 40) for found in expected(toy, number)[1]]


def test_without_records(toy: Toy) -> None:
    toy.write("p", records=False)
    assert pq.read_schema(toy.folder / "p" / "docs" / "part-00000.parquet").names == ["doc_id", "year", "text"]
    toy.write("j", "jsonl", records=False)
    assert list(json.loads((toy.folder / "j" / "docs" / "part-00000.jsonl").read_text().splitlines()[0])) == ["doc_id", "year", "text"]
    toy.write("t", "tsv", records=False)
    assert not list((toy.folder / "t").rglob("*.switches.tsv"))
    assert yaml.safe_load((toy.folder / "t" / "card.yaml").read_text())["files"]["switches"] == "The switches are not kept."


def test_formats_of_unusual_texts() -> None:
    from ir_datasets.formats import GenericDoc

    change = Switch(0, 1, "\t", 'a"b\\\u2028\x01', "de", "toy", 0)
    records = [GenericDoc("d1", "a\tb\nc\\d\re\x00f\u2028g"), GenericDoc("d2", "")]
    columns = {"doc_id": str, "text": str}
    found = tsv(records, [{"text": [change]}, {"text": []}], columns)
    assert found[".tsv"] == "d1\ta\\tb\\nc\\\\d\\re\\0f\u2028g\nd2\t\n".encode()
    assert found[".switches.tsv"] == 'd1\ttext\t0\t1\t\\t\ta"b\\\\\u2028\x01\tde\ttoy\t0\n'.encode()
    lines = jsonl(records, [{"text": [change]}, {"text": []}], columns)[".jsonl"].decode().split("\n")
    assert [json.loads(line) for line in lines[:2]] == [
        {"doc_id": "d1", "text": records[0].text, "switches": [{**change._asdict(), "field": "text"}]},
        {"doc_id": "d2", "text": "", "switches": []},
    ]
    table = pq.read_table(pa.BufferReader(parquet(records, [{"text": []}, {"text": []}], columns)[".parquet"]))
    assert table.to_pylist() == [{"doc_id": record.doc_id, "text": record.text, "switches": []} for record in records]
    with pytest.raises(InputError, match=r"record 'd\\t1': an id with a tab"):
        tsv([GenericDoc("d\t1", "a")], None, columns)
    for write in (tsv, jsonl, parquet):
        with pytest.raises(InputError, match="record 'd9': half of a surrogate pair"):
            write([GenericDoc("d8", "a"), GenericDoc("d9", "a\ud800")], None, columns)


def test_types_of_fields() -> None:
    from csrerank.switching.formats import arrow_type

    assert arrow_type(str) == pa.string() and arrow_type(int | None) == pa.int64() and arrow_type(pa.date32()) == pa.date32()
    assert arrow_type(tuple[str, ...]) == arrow_type(list[str]) == pa.list_(pa.string())
    assert arrow_type(dict[str, str]) is None and arrow_type(tuple[str, int]) is None and arrow_type(object) is None


def test_the_card(toy: Toy) -> None:
    toy.write("out")
    card = yaml.safe_load((toy.folder / "out" / "card.yaml").read_text())
    assert card["name"] == "Parquet files switched by toy" and "restriction" not in card
    assert (card["seed"], card["epoch"], card["qrels"]) == (2023, 0, 12)
    assert card["policy"] == Policy.load(toy.policy).plain() and card["policy fingerprint"] == Policy.load(toy.policy).fingerprint
    assert sorted(card["made from"]["input"]) == ["docs-0.parquet", "docs-1.parquet", "docs-2.parquet", "qrels.txt", "queries/all.parquet"]
    lexicon = card["lexicons"][f"{toy.lexicons} en-de"]
    assert lexicon["fingerprint"] == StoredLexicon.load(toy.lexicons / "en-de.lex").fingerprint
    assert lexicon["sources"] == [{"name": "toy", "licence": "CC0", "files": {"toy.tsv": "0123"}}]
    docs, switches = card["docs"], [found for number in range(50) for found in expected(toy, number)[1]]
    assert docs["records"] == 50 and docs["switches"] == docs["switched words"] == len(switches)
    assert docs["words"] == sum(len(text_of(number).split()) for number in range(50))
    assert docs["share of words switched"] == round(len(switches) / docs["words"], 4)
    assert docs["switches by language"] == {lang: sum(found.lang == lang for found in switches) for lang in ("de", "ru")}
    assert docs["records without a switch"] == sum(not expected(toy, number)[1] for number in range(50))
    sample = docs["of the first 10000 records"]
    covered = 1 - sum(text_of(number).lower().count("unknownword") for number in range(50)) / docs["words"]
    assert min(sample["coverage by language"].values()) <= covered <= max(sample["coverage by language"].values())
    # All that p chose among the words that a lexicon has, switched.
    assert sample["switching rate of words that the lexicon has"] == round(len(switches) / round(covered * docs["words"]), 4)
    examples = docs["examples"]
    assert len(examples) == 5 and [example["id"] for example in examples] != [f"d{number}" for number in range(5)]
    for example in examples:
        number = int(example["id"][1:])
        assert example["original"] == text_of(number) and example["switched"] == marked(text_of(number), expected(toy, number)[1])
        assert ":toy}" in example["switched"]


def test_the_readme_is_a_hugging_face_card(tmp_path: Path) -> None:
    toy = Toy(tmp_path, licence="CC BY-NC 4.0")
    toy.write("out")
    readme = (tmp_path / "out" / "README.md").read_text()
    _, front, body = readme.split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["language"] == ["de", "en", "ru"] and "non-commercial" in matter["tags"]
    assert matter["configs"] == [{"config_name": part, "data_files": f"{part}/part-?????.parquet"} for part in ("queries", "docs")]
    assert body.splitlines()[:3] == ["# Parquet files switched by toy", "", "> **NOT FOR COMMERCIAL USE: words come from lexicons under CC BY-NC 4.0.**"]
    assert "| toy | CC BY-NC 4.0 | toy.tsv `0123` |" in body


def test_long_texts_are_cut_in_the_card(toy: Toy) -> None:
    long = {"doc_id": ["d1"], "text": ["water " * 500]}
    for path in toy.input.glob("docs-*.parquet"):
        path.unlink()
    pq.write_table(pa.table(long), toy.input / "docs.parquet")
    toy.write("out", parts=("docs",))
    (example,) = yaml.safe_load((toy.folder / "out" / "card.yaml").read_text())["docs"]["examples"]
    assert example["original"].endswith("...") and 380 < len(example["original"]) <= 404
    assert example["switched"].endswith(" ...") and "retaw" in example["switched"]


def test_texts_that_stay_english_are_no_misses(tmp_path: Path) -> None:
    toy = Toy(tmp_path, more="stays-english: 0.5, ")
    toy.write("out")
    docs = yaml.safe_load((tmp_path / "out" / "card.yaml").read_text())["docs"]
    assert 15 < docs["records without a switch"] < 35
    assert 0.4 < docs["of the first 10000 records"]["switching rate of words that the lexicon has"] < 0.6
    assert docs["share of words switched"] < 0.35


def test_rates_of_phrases_and_of_scripts_without_spaces() -> None:
    titles = Policy.load("wiki-cs").passage
    counts = rates.count([["the old mill by the river"]], [[[Switch(0, 12, "the old mill", "M\u00fchle", "de", "toy", 0)]]], titles)
    assert (counts["words"], counts["switched"], counts["switches"]) == (6, 3, 1)
    japanese = Policy.load("translate-test", {"query": "ja", "passage": "ja"}).passage
    counts = rates.count([["\u6c34\u8eca\u3002"]], [[[Switch(0, 1, "\u6c34", "water", "en", "toy", 0)]]], japanese)
    assert (counts["words"], counts["switched"]) == (2, 1) and rates.unit_of(japanese) == "characters"
    assert rates.plain(counts, japanese)["share of characters switched"] == 0.5


def test_a_record_gets_the_same_text_in_another_order(toy: Toy) -> None:
    toy.write("one")
    write_input(toy.input, 50, 12, order=[(number * 17) % 50 for number in range(50)])
    toy.write("other", shard_size=7)

    def rows(folder: str) -> dict[str, Any]:
        return {row["doc_id"]: row for path in (toy.folder / folder / "docs").iterdir() for row in pq.read_table(path).to_pylist()}

    assert rows("one") == rows("other") and len(rows("one")) == 50


def test_another_seed_and_epoch_switch_other_words(toy: Toy) -> None:
    toy.write("one")
    toy.write("two", seed=1)
    assert (toy.folder / "one" / "docs" / "part-00000.parquet").read_bytes() != (toy.folder / "two" / "docs" / "part-00000.parquet").read_bytes()


def test_a_finished_folder_is_left_alone_and_a_damaged_one_mended(toy: Toy) -> None:
    toy.write("out")
    before = contents(toy.folder / "out")
    assert toy.write("out").kept == 4 and contents(toy.folder / "out") == before
    (toy.folder / "out" / "docs" / "part-00001.parquet").write_bytes(b"spoilt")
    (toy.folder / "out" / "queries" / "part-00000.parquet").unlink()
    (toy.folder / "out" / "README.md").unlink()
    assert toy.write("out").kept == 2 and contents(toy.folder / "out") == before


def test_a_finished_folder_keeps_its_provenance(toy: Toy) -> None:
    toy.write("out")
    place = toy.folder / "out" / "provenance.yaml"
    place.write_text("of the first writing")
    toy.write("out")
    (toy.folder / "out" / "README.md").unlink()
    toy.write("out")
    assert place.read_text() == "of the first writing" and (toy.folder / "out" / "README.md").exists()
    (toy.folder / "out" / "queries" / "part-00000.parquet").unlink()
    toy.write("out")
    assert yaml.safe_load(place.read_text())["method"]["code-switching"]["kept"] == 3
    place.unlink()
    toy.write("out")
    assert place.exists()


class Power(BaseException):
    """Out it goes."""


def test_a_folder_has_no_manifest_while_it_is_mended(toy: Toy) -> None:
    toy.write("out")
    out, before = toy.folder / "out", contents(toy.folder / "out")

    def cut(after: int) -> Engine:
        def engine(job: Job, some: Sequence[Shard], held: Held) -> Noted:
            for number, written in enumerate(here(job, some, held)):
                assert not (out / MANIFEST).exists()
                yield written
                if number + 1 == after:
                    raise Power
            if not after:
                raise Power

        return engine

    (out / "docs" / "part-00001.parquet").unlink()
    (out / "docs" / "part-00002.parquet").unlink()
    with pytest.raises(Power):
        write_collection(toy.job("out"), cut(1), quiet=True)
    assert not (out / MANIFEST).exists() and (out / "docs" / "part-00001.parquet").exists()
    # The other shards are known all the same, and other settings are refused.
    with pytest.raises(InputError, match=r"another seed \(2023, now 1\)"):
        toy.write("out", seed=1)
    assert toy.write("out").kept == 3 and contents(out) == before


def test_a_mending_that_got_nowhere_gives_the_manifest_back(toy: Toy) -> None:
    toy.write("out")
    out, before = toy.folder / "out", contents(toy.folder / "out")

    def out_of_power(job: Job, some: Sequence[Shard], held: Held) -> Noted:
        raise Power

    (out / "docs" / "part-00001.parquet").unlink()
    with pytest.raises(Power):
        write_collection(toy.job("out"), out_of_power, quiet=True)
    assert (out / MANIFEST).exists() and not (out / NOTES).exists()
    assert toy.write("out").kept == 3 and contents(out) == before


def test_a_second_job_of_one_process_reads_anew(toy: Toy) -> None:
    toy.write("one")

    def switched(folder: str) -> list[str]:
        return [row["text"] for path in sorted((toy.folder / folder / "docs").iterdir()) for row in pq.read_table(path).to_pylist()]

    write_input(toy.input, 50, 12, order=list(range(49, -1, -1)))
    toy.write("two")
    assert switched("two") == switched("one")[::-1] == [expected(toy, number)[0] for number in range(49, -1, -1)]
    entries = [Entry(word, f"{word}neu") for phrase in WORDS for word in phrase.split()]
    for lang in ("de", "ru"):
        StoredLexicon.compiled(entries, Source("toy", "CC0"), "en", lang).save(toy.lexicons / f"en-{lang}.lex")
    toy.write("three")
    assert switched("three") == [expected(toy, number)[0] for number in range(49, -1, -1)] and "neu" in switched("three")[0]


def test_an_input_that_is_written_anew_between_two_windows(toy: Toy) -> None:
    source = FolderSource(str(toy.input))
    assert [row.doc_id for row in source.rows("docs", 0, 2)] == ["d0", "d1"]
    write_input(toy.input, 50, 12, order=list(range(49, -1, -1)))
    assert [row.doc_id for row in source.rows("docs", 0, 2)] == ["d49", "d48"]


def test_too_many_shards(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"docs": 2_000_001, "queries": 1}
    assert sum(1 for _ in toy.job("out").shards(counts | {"docs": 2_000_000})) == 100_001  # one of them with queries
    with pytest.raises(InputError, match="--shard-size 20: 2000001 docs would be more than 100000 files; take a larger --shard-size"):
        list(toy.job("out").shards(counts))
    monkeypatch.setattr("csrerank.switching.job.MOST_SHARDS", 2)
    with pytest.raises(InputError, match="--shard-size 20: 50 docs would be more than 2 files"):
        toy.write("out")
    assert not (toy.folder / "out").exists()


def test_the_manifest_names_every_file(toy: Toy) -> None:
    from csrerank.collections.texts import file_hash

    toy.write("out", "tsv")
    manifest = json.loads((toy.folder / "out" / MANIFEST).read_text())
    assert sorted(manifest["files"]) == sorted(set(contents(toy.folder / "out")) - {MANIFEST})
    assert all(entry["sha256"] == file_hash(toy.folder / "out" / path) for path, entry in manifest["files"].items())


class Terminal(StringIO):
    """Stands for standard error on a terminal."""

    def isatty(self) -> bool:
        return True


def test_hashing_the_input_shows_progress(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", said := Terminal())
    toy.write("quiet")
    assert said.getvalue() == ""
    write_collection(toy.job("out"), here)
    assert "hashing the input" in said.getvalue() and "switching" in said.getvalue()


def test_row_groups_and_shards_do_not_depend_on_each_other(toy: Toy) -> None:
    source = FolderSource(str(toy.input))
    every = [row.doc_id for row in source.rows("docs", 0, 50)]
    assert every == [f"d{number}" for number in range(50)]
    for start in range(0, 50, 3):
        for stop in (start, start + 1, start + 9, 50):
            assert [row.doc_id for row in source.rows("docs", start, stop)] == every[start:stop]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "jsonl"}, "another format (parquet, now jsonl)"),
        ({"seed": 1}, "another seed (2023, now 1)"),
        ({"shard_size": 21}, "another shard size (20, now 21)"),
        ({"records": False}, "another switch records (true, now false)"),
        ({"parts": ("docs",)}, 'another parts (["docs", "queries", "qrels"], now ["docs"])'),
    ],
)
def test_a_folder_of_other_settings_is_refused(toy: Toy, change: dict[str, Any], message: str) -> None:
    toy.write("out")
    before = contents(toy.folder / "out")
    with pytest.raises(InputError) as refused:
        toy.write("out", **change)
    assert f"{toy.folder / 'out'}: holds a collection written with {message}; give another --output" in str(refused.value)
    assert contents(toy.folder / "out") == before and not (toy.folder / "out" / NOTES).exists()


def test_another_policy_or_lexicon_or_input_is_refused(toy: Toy) -> None:
    toy.write("out")
    toy.policy.write_text(toy.policy.read_text().replace("0.5", "0.6"))
    with pytest.raises(InputError, match=r"another policy: query: rules: probability \(0\.5, now 0\.6\)"):
        toy.write("out")
    toy.policy.write_text(toy.policy.read_text().replace("0.6", "0.5"))
    StoredLexicon.compiled([Entry("mill", "M\u00fchle")], Source("toy", "CC0"), "en", "de").save(toy.lexicons / "en-de.lex")
    with pytest.raises(InputError, match=r"another lexicons: .*lexicons en-de \("):
        toy.write("out")
    write_lexicons(toy.lexicons)
    toy.write("out")
    write_input(toy.input, 50, 11)
    with pytest.raises(InputError, match=r"another input: qrels\.txt \("):
        toy.write("out")


def test_a_folder_with_other_things_is_refused(toy: Toy) -> None:
    (toy.folder / "out").mkdir()
    (toy.folder / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"out: holds thesis\.tex, and no collection of csrerank's; give another --output"):
        toy.write("out")
    assert [path.name for path in (toy.folder / "out").iterdir()] == ["thesis.tex"]


def test_nothing_is_removed_that_csrerank_did_not_write(toy: Toy) -> None:
    out = toy.folder / "out"
    mine = ["docs/part-1.doc", "docs/thesis.tex", ".progress/settings.json", ".progress/lock", ".progress/notes.txt"]
    for name in mine:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("years of work")
    with pytest.raises(InputError, match=r"out: holds \.progress, and no collection"):
        toy.write("out")
    assert sorted(contents(out)) == sorted(mine) and not (out / NOTES).exists()
    # Nor where a job of csrerank's was killed before its first shard.
    (out / NOTES).mkdir()
    for name in (f"{NOTES}/settings.json", f"{NOTES}/mine", "docs/part-00000.parquet"):
        (out / name).write_text("{}")
    with pytest.raises(InputError, match=r"out: holds \.progress, and no collection"):
        toy.write("out")
    assert sorted(contents(out)) == sorted([*mine, f"{NOTES}/mine"])


def test_bad_qrels_are_refused_before_the_first_shard(toy: Toy) -> None:
    def never(job: Job, some: Sequence[Shard], held: Held) -> Noted:
        raise AssertionError("a shard was written")

    (toy.input / "qrels.txt").write_text("q0 0 d0 1\nq1 0 d1 high\n")
    with pytest.raises(InputError, match=r"qrels\.txt:2: grade 'high' is not an integer"):
        write_collection(toy.job("out"), never, quiet=True)
    assert not (toy.folder / "out").exists()


def test_a_job_that_got_nowhere_leaves_nothing(toy: Toy) -> None:
    pq.write_table(pa.table({"query_id": ["q1", "q2"], "text": ["water", None]}), toy.input / "queries" / "all.parquet")
    with pytest.raises(InputError, match=r"queries/all\.parquet: row 2: no text; fill it in"):
        toy.write("out")
    assert not (toy.folder / "out").exists()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"docno": ["1"], "text": ["a"]}, r"columns docno, text; documents need doc_id and text"),
        ({"doc_id": [1], "text": ["a"]}, r"column doc_id is int64, not text; cast it to string"),
        ({"doc_id": ["1"], "text": ["a"], "switches": [1]}, r"has a column switches, so it is switched already"),
        ({"doc_id": ["1"], "text": ["a"], "more": [1]}, r"other columns than .*docs-0\.parquet"),
    ],
)
def test_input_that_will_not_do(toy: Toy, columns: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table(columns), toy.input / "z.parquet")
    with pytest.raises(InputError, match=rf"z\.parquet: {message}"):
        toy.write("out")


def test_input_that_is_no_parquet(toy: Toy, tmp_path: Path) -> None:
    (toy.input / "z.parquet").write_text("no")
    with pytest.raises(InputError, match=r"z\.parquet: not a Parquet file"):
        toy.write("out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no Parquet file in it"):
        FolderSource(str(tmp_path / "empty"))
    with pytest.raises(InputError, match="nowhere: no such folder"):
        FolderSource(str(tmp_path / "nowhere"))


def test_input_with_damaged_pages(toy: Toy) -> None:
    path = toy.input / "docs-1.parquet"
    table = pa.table({"year": list(range(17)), "doc_id": [f"e{number}" for number in range(17)], "text": [text_of(number) for number in range(17)]})
    pq.write_table(table, path, row_group_size=7, compression="zstd", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(2)
    content = bytearray(path.read_bytes())
    start, size = column.data_page_offset, column.total_compressed_size
    content[start : start + size] = bytes(255 - byte for byte in content[start : start + size])
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"docs-1\.parquet: rows 8 to 14: cannot be read \(.+\); the file is damaged: write it anew, or take it out$"):
        toy.write("out")
    assert [path.name for path in (toy.folder / "out" / "docs").iterdir()] == ["part-00000.parquet"]
    path.unlink()
    source = FolderSource(str(toy.input))
    (toy.input / "docs-2.parquet").unlink()
    with pytest.raises(InputError, match=r"docs-2\.parquet: cannot be read \(No such file or directory\)"):
        list(source.rows("docs", 0, source.count("docs")))


def test_input_that_is_not_utf_8(toy: Toy) -> None:
    texts = pa.array([b"fine", b"caf\xe9", b"fine"], pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    pq.write_table(pa.table({"query_id": ["q1", "q2", "q3"], "text": texts}), toy.input / "queries" / "all.parquet")
    with pytest.raises(InputError, match=r"queries/all\.parquet: row 2: column text cannot be read \('utf-8' codec .+\); mend the value, or take the row out$"):
        toy.write("out")


def test_input_with_two_columns_of_one_name(toy: Toy) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array(["1"])] * 3, names=["doc_id", "text", "text"]), toy.input / "z.parquet")
    with pytest.raises(InputError, match=r"z\.parquet: 2 columns are called text; rename all but one"):
        toy.write("out")


def test_numbers_that_json_lacks() -> None:
    class Scored(NamedTuple):
        doc_id: str
        text: str
        score: float
        more: Any

    good, bad, worse = Scored("d1", "a", 0.5, {"b": 1}), Scored("d2", "a", float("nan"), None), Scored("d3", "a", 0.5, {"b": float("inf")})
    columns = {"doc_id": str, "text": str, "score": float, "more": object}
    assert json.loads(jsonl([good], None, columns)[".jsonl"]) == good._asdict()
    for write, record in ((jsonl, bad), (jsonl, worse), (parquet, worse)):
        with pytest.raises(InputError, match=f"record '{record.doc_id}': a number that is infinite or NaN, which JSON lacks; mend it, or take --format tsv"):
            write([good, record], None, columns)
    assert pq.read_table(pa.BufferReader(parquet([good, bad], None, columns)[".parquet"])).column("more").to_pylist() == ['{"b": 1}', None]


def found_as_toy(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every name stand for one toy lexicon."""
    lexicon = StoredLexicon.load(toy.lexicons / "en-de.lex")
    monkeypatch.setattr("csrerank.lexicons.catalogue.find", lambda *name, quiet=False: lexicon)


def test_settings_name_simplemma_where_a_rule_translates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import version

    for name in ("plain", "toy"):
        (tmp_path / name).mkdir()
    plain = Toy(tmp_path / "plain")
    assert list(plain.job("out").versions) == ["csrerank", "pyarrow"] and "simplemma" not in plain.job("out", "tsv").settings({})
    toy = Toy(tmp_path / "toy", rule="{strategy: translate, source: de, languages: [en]}")
    found_as_toy(toy, monkeypatch)
    settings = toy.job("out", "tsv").settings({})
    assert settings["simplemma"] == version("simplemma") and settings["csrerank"] == version("csrerank") and "pyarrow" not in settings


def test_lexicons_under_a_translated_base_are_settings(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    from csrerank.collections import mmarco

    def under(name: str) -> list[tuple[str, str, str]]:
        return sorted({lexicon for policy in DatasetSource(f"csrerank/{name}").policies() for lexicon in policy.lexicons()})

    assert under("demo/en-en") == [] and under("demo/de-en/translate-test") == [("open", "de", "en")]
    assert under("demo/en-ru/translate-test") == [("open", "ru", "en")]
    assert under("xquad-r/x4-x4/paragraphs/translate-test") == [("open", lang, "en") for lang in ("ar", "de", "ru")]
    assert [lang for _, lang, _ in under("mmarco/en-x6/dev/small/translate-test")] == sorted(set(mmarco.TRACKS["x6"]) - {"en"})
    found_as_toy(toy, monkeypatch)
    job = planned(requested("csrerank/demo/de-en/translate-test", None, str(toy.policy), None, None), toy.folder / "out", "tsv")
    assert ("open", "de", "en") in job.lexicons and "simplemma" in job.versions
    assert "open de-en" in job.settings({})["lexicons"]


def test_marks() -> None:
    switches = [Switch(0, 5, "Water", "Wasser", "de", "wiktionary", 0), Switch(9, 14, "stone", "\u043a\u0430\u043c\u0435\u043d\u044c", "ru", "muse", 1)]
    text = "Water on\nstone\x1b[31m"
    assert marked(text, switches) == "Wasser{de:wiktionary} on \u043a\u0430\u043c\u0435\u043d\u044c{ru:muse}\ufffd[31m"
    colours = colours_of(["de", "ru", "de"])
    assert colours == {"de": PALETTE[0], "ru": PALETTE[1]}
    assert marked(text, switches, colours).startswith(f"\x1b[1;38;5;{PALETTE[0]}mWasser{{de}}\x1b[0m on \x1b[1;38;5;{PALETTE[1]}m")
    assert shown("a\tb\u200f") == "a b\ufffd"


def test_show(toy: Toy) -> None:
    lines = list(shown_pairs(requested(None, str(toy.input), str(toy.policy), None, None), 2, colour=False))
    assert [line for line in lines if line and not line.startswith(" ")] == ["query q0", "passage d0", "query q1", "passage d1"]
    text, switches = expected(toy, 1)
    place = lines.index("passage d1")
    assert lines[place + 1] == f"  {marked(text_of(1), switches)}" and text != text_of(1)
    first = switches[0]
    assert lines[place + 2] == f"    {first.original} \u2192 {first.replacement} ({first.lang}, toy, rank 0)"
    assert lines[place + 1 + len(switches)].startswith("    ") and lines[place + 2 + len(switches)] == ""
    for qrels, message in (
        ("q0 0 d0 0\nq1 0 d1 -1\n", r"its qrels give no document a grade above 0"),
        ("t0 0 d0 1\nq1 0 d999 1\n", r"its qrels name topic 't0' with document 'd0', which are not both in it; check the ids in the qrels"),
    ):
        (toy.input / "qrels.txt").write_text(qrels)
        with pytest.raises(InputError, match=f"input: {message}"):
            list(shown_pairs(requested(None, str(toy.input), str(toy.policy), None, None), 2, colour=False))
    (toy.input / "qrels.txt").unlink()
    lines = list(shown_pairs(requested(None, str(toy.input), str(toy.policy), None, None), 3, colour=True))
    assert [line for line in lines if line.startswith("passage")] == ["passage d0", "passage d1", "passage d2"] and "\x1b[1;38;5;" in "".join(lines)


def test_the_command(toy: Toy, cli: Cli) -> None:
    arguments = ("--input", toy.input, "--policy", toy.policy)
    done = cli("switch", *arguments, "--output", toy.folder / "out", "--shard-size", "20")
    assert done.returncode == 0 and done.stdout == ""
    assert done.stderr.startswith(f"{toy.folder / 'out'}: 12 queries, 50 docs, ") and done.stderr.endswith("% of the words switched\n")
    toy.write("same")
    assert contents(toy.folder / "out") == contents(toy.folder / "same")
    provenance = yaml.safe_load((toy.folder / "out" / "provenance.yaml").read_text())
    assert provenance["method"]["code-switching"]["settings"]["seed"] == 2023 and provenance["times"]["started"] > "2020"
    done = cli("switch", *arguments, "--show")
    assert done.returncode == 0 and done.stdout.count("query q") == 5 and "\x1b" not in done.stdout
    assert "\x1b[1;38;5;" in cli("switch", *arguments, "--show", "1", "--color", "always").stdout


def test_the_command_on_a_dataset(toy: Toy, cli: Cli) -> None:
    done = cli("switch", "--dataset", "csrerank/demo/en-en", "--policy", toy.policy, "--output", toy.folder / "out", "--format", "jsonl", "--quiet")
    assert done.returncode == 0 and done.stderr == ""
    lines = [json.loads(line) for line in (toy.folder / "out" / "docs" / "part-00000.jsonl").read_text().splitlines()]
    assert len(lines) == 144 and list(lines[0])[:2] == ["doc_id", "text"] and any(found["field"] == "context" for line in lines for found in line["switches"])
    assert (toy.folder / "out" / "qrels.txt").read_text().splitlines()[0].split()[1] == "0"
    assert yaml.safe_load((toy.folder / "out" / "card.yaml").read_text())["made from"] == {"dataset": "csrerank/demo/en-en"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "ml-cs", "--show"], "give either --dataset ID or --input FOLDER"),
        (["--dataset", "csrerank/demo/en-en", "--input", ".", "--policy", "ml-cs", "--show"], "give either --dataset ID or --input FOLDER"),
        (["--dataset", "csrerank/demo/en-en", "--show"], "--policy is needed"),
        (["--dataset", "csrerank/demo/en-en", "--policy", "zero-shot"], "give either --output FOLDER or --show"),
        (["--dataset", "csrerank/nothing", "--policy", "zero-shot", "--show"], "unknown dataset 'csrerank/nothing'"),
        (["--dataset", "csrerank/en-qa/train/zero-shot", "--policy", "zero-shot", "--show"], "switched by zero-shot already; leave --policy out, or give"),
        (["--dataset", "csrerank/demo/en-en", "--policy", "nothing", "--show"], "nothing: no such policy"),
        (["--dataset", "csrerank/demo/en-en", "--policy", "zero-shot", "--output", "x", "--parts", "docs,words"], "--parts: unknown part 'words'"),
        (["--dataset", "csrerank/demo/en-en", "--policy", "zero-shot", "--output", "x", "--parts", "docpairs"], "csrerank/demo/en-en: has no docpairs"),
        (["--dataset", "csrerank/demo/en-en", "--policy", "zero-shot", "--output", "x", "--parts", "qrels"], "neither docs nor queries to switch"),
        (["--dataset", "csrerank/demo/en-en", "--policy", "zero-shot", "--output", "x", "--address", "auto"], "--address belongs to --engine ray"),
    ],
)
def test_refusals(arguments: list[str], message: str, cli: Cli, tmp_path: Path) -> None:
    done = cli("switch", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_output_is_not_input(toy: Toy, cli: Cli) -> None:
    done = cli("switch", "--input", toy.input, "--policy", toy.policy, "--output", toy.input)
    assert done.returncode == 2 and "--output would write into --input" in done.stderr


@needs_real_data
@pytest.mark.slow
def test_a_switched_id_gives_what_ir_datasets_gives(toy: Toy, tmp_path: Path) -> None:
    import ir_datasets

    import csrerank.collections  # noqa: F401  registers

    name = f"csrerank/en-qa/validation/policy:{toy.policy}/seed-5/epoch-2"
    job = planned(requested(name, None, None, None, None), tmp_path / "out", "jsonl", parts=("docs", "queries"))
    write_collection(job, here, quiet=True)
    for part, records in (("docs", ir_datasets.load(name).docs_iter()), ("queries", ir_datasets.load(name).queries_iter())):
        lines = [json.loads(line) for path in sorted((tmp_path / "out" / part).iterdir()) for line in path.read_text().splitlines()]
        assert [line["text"] for line in lines] == [record.text for record in records] and len(lines) > 500
    card = yaml.safe_load((tmp_path / "out" / "card.yaml").read_text())
    assert (card["made from"], card["seed"], card["epoch"]) == ({"dataset": "csrerank/en-qa/validation"}, 5, 2) and card["docs"]["switches"] > 500
