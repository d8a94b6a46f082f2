"""The measures of a lexicon's quality, by hand, and the command that prints them."""

import json
import sys
from io import StringIO
from pathlib import Path

import pytest
from conftest import REAL_DOWNLOADS, Cli, needs_real_data

from csrerank.errors import InputError
from csrerank.lexicons.lexicon import Entry, Source, StoredLexicon
from csrerank.lexicons.quality import coverage, gold_words, identity_rate, measured, precision, quality, shown, translations_per_word

ENTRIES = [
    Entry("cat", "Katze", 0.9), Entry("cat", "Kater", 0.5), Entry("dog", "Köter", 0.9), Entry("dog", "Hund", 0.8),
    Entry("taxi", "Taxi"), Entry("film", "Streifen", 0.3), Entry("film", "Film", 0.2),
]  # fmt: skip


def lexicon(entries: list[Entry] = ENTRIES) -> StoredLexicon:
    return StoredLexicon.compiled(entries, Source("made", "own"), "en", "de")


def entries_of(text: str) -> list[Entry]:
    return [Entry(*line.split()) for line in text.splitlines()]


def test_coverage_identity_and_translations() -> None:
    words = ["Cat", "dog", "taxi", "film", "whale"]
    assert coverage(lexicon(), words) == 4 / 5
    assert identity_rate(lexicon(), words) == 1 / 4  # taxi; film's best is another
    assert translations_per_word(lexicon(), words) == 7 / 4
    for measure in (coverage, identity_rate, translations_per_word):
        assert measure(lexicon(), []) == 0.0
    assert identity_rate(lexicon(), ["whale"]) == translations_per_word(lexicon(), ["whale"]) == 0.0


def test_gold_takes_places_and_leaves_out_english() -> None:
    entries = entries_of("the der\nthe die\ndie sterben\ntaxi taxi\nCat Katze\ncat Mieze\nhouse haus\nthe das\nwhale Wal")
    assert gold_words(entries, (0, 100)) == {"the": {"der", "das"}, "die": {"sterben"}, "cat": {"katze", "mieze"}, "house": {"haus"}, "whale": {"wal"}}
    # Places count every source word, also those left without a translation (taxi is at place 2).
    assert list(gold_words(entries, (2, 4))) == ["cat"]
    assert list(gold_words(entries, (4, 6))) == ["house", "whale"]
    assert gold_words(entries, (6, 9)) == {}


def test_precision_by_hand() -> None:
    gold = {"cat": frozenset(["katze"]), "dog": frozenset(["hund"]), "film": frozenset(["movie"]), "whale": frozenset(["wal"])}
    found = precision(lexicon(), gold)
    assert found == (4, 3 / 4, 1 / 4, 2 / 4, 1 / 3, 2 / 3)
    assert precision(lexicon(), {}) == (0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_only_the_first_five_translations_count() -> None:
    many = [Entry("cat", f"t{number}", 1 / (1 + number)) for number in range(6)]
    assert precision(lexicon(many), {"cat": frozenset(["t4"])}).p5 == 1.0
    assert precision(lexicon(many), {"cat": frozenset(["t5"])}).p5 == 0.0


def test_spelling_is_compared_as_words_are_looked_up() -> None:
    arabic = StoredLexicon.compiled([Entry("book", "كِتَاب")], Source("made", "own"), "en", "ar")
    assert precision(arabic, gold_words([Entry("Book", "كتاب")], (0, 1))).p1 == 1.0


def test_the_three_formats() -> None:
    rows = [measured("made", lexicon(), ["cat", "whale"], {"cat": frozenset(["katze"]), "whale": frozenset(["wal"])})]
    table = shown(rows).splitlines()
    assert table[0].split("  ")[0] == "lexicon" and table[1].split() == [
        "made",
        "de",
        "0.500",
        "0.000",
        "2.000",
        "2",
        "0.500",
        "0.500",
        "0.500",
        "1.000",
        "1.000",
    ]
    assert len(table[0]) == len(table[1])
    tsv = [line.split("\t") for line in shown(rows, "tsv").splitlines()]
    assert tsv[0][:3] == ["lexicon", "language", "coverage"] and tsv[1][:3] == ["made", "de", "0.5"] and len(tsv[0]) == len(tsv[1]) == 11
    (row,) = json.loads(shown(rows, "json"))
    assert row["p1_covered"] == 1.0 and row["gold"] == 2
    with pytest.raises(InputError, match="unknown format 'csv'; known are table tsv json"):
        shown(rows, "csv")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    lexicon().save(tmp_path / "en-de.lex")
    (tmp_path / "gold-de.tsv").write_text("cat\tKatze\ndog\tHund\nwhale\tWal\n", encoding="utf-8")
    return tmp_path


def test_a_saved_lexicon_against_a_file(saved: Path) -> None:
    for gold in ("gold-de.tsv", "gold-{lang}.tsv"):
        (row,) = quality([str(saved / "en-de.lex")], ["de"], str(saved / gold), 100, (0, 3))
        assert (row.language, row.gold, row.p1, row.p5) == ("de", 3, 1 / 3, 2 / 3)
    (row,) = quality([str(saved / "en-de.lex")], ["de"], str(saved / "gold-de.tsv"), 100, (1, 3))
    assert (row.gold, row.p1, row.p5) == (2, 0.0, 0.5)


def test_chinese_gold_is_simplified(tmp_path: Path) -> None:
    StoredLexicon.compiled([Entry("study", "学习")], Source("made", "own"), "en", "zh").save(tmp_path / "en-zh.lex")
    (tmp_path / "gold.tsv").write_text("study\t學習\n", encoding="utf-8")
    assert next(iter(quality([str(tmp_path)], ["zh"], str(tmp_path / "gold.tsv"), 10, (0, 1)))).p1 == 1.0


def command(cli: Cli, *arguments: object) -> tuple[int, str, str]:
    done = cli("lexicon", "quality", *arguments)
    if "No such command" in done.stderr:
        pytest.skip("the command is not hooked in yet")
    return done.returncode, done.stdout, done.stderr


def test_the_command(saved: Path, cli: Cli) -> None:
    code, out, err = command(
        cli, saved / "en-de.lex", "--languages", "de", "--gold", saved / "gold-de.tsv", "--ranks", "0-3", "--words", 1000, "--format", "json"
    )
    assert code == 0, err
    assert json.loads(out)[0]["p5"] == 2 / 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--languages", "de", "--gold", "gold-de.tsv", "--ranks", "5"), "Error: --ranks 5: give two places"),
        (("--languages", "de", "--gold", "gold-de.tsv", "--ranks", "9-3"), "Error: --ranks 9-3: give two places"),
        (("--languages", "de", "--gold", "gold-de.tsv"), "Error: --gold {folder}/gold-de.tsv: no gold words for de at the places 5000-6500"),
        (("--languages", "de,ru", "--gold", "gold-de.tsv"), "Error: --gold {folder}/gold-de.tsv: one file for 2 languages; write {lang}"),
        (("--languages", "xx"), "Error: unknown language 'xx'"),
        (("--languages", "fi"), "Error: fi: MUSE has no dictionary from English"),
        (("--languages", ","), "Error: nothing to measure"),
        (("--languages", "de", "--gold", "none.tsv"), "Error: {folder}/none.tsv: no such file"),
        (("--languages", "de", "--gold", "bad.tsv"), "Error: {folder}/bad.tsv:1: 1 words where a MUSE dictionary has two"),
    ],
)
def test_the_command_refuses(saved: Path, cli: Cli, options: tuple[str, ...], message: str) -> None:
    (saved / "bad.tsv").write_text("cat\n", encoding="utf-8")
    given = [str(saved / part) if part.endswith(".tsv") else part for part in options]
    code, out, err = command(cli, saved / "en-de.lex", *given)
    assert (code, out) == (2, "")
    assert err.startswith(message.replace("{folder}", str(saved))) and err.count("\n") == 1


def test_unknown_lexicon(saved: Path) -> None:
    with pytest.raises(InputError, match="unknown lexicon 'wictionary'"):
        list(quality(["wictionary"], ["de"], str(saved / "gold-de.tsv"), 100, (0, 3)))


def test_a_source_without_the_language_gives_no_row(saved: Path) -> None:
    (saved / "gold-th.tsv").write_text("cat\tแมว\n", encoding="utf-8")
    remarks: list[str] = []
    names, gold = [str(saved), f"wiktionary+{saved}"], str(saved / "gold-{lang}.tsv")
    StoredLexicon.compiled([Entry("cat", "แมว")], Source("made", "own"), "en", "th").save(saved / "en-th.lex")
    (row,) = quality(names, ["th"], gold, 100, (0, 3), remarks.append)
    assert (row.lexicon, row.language, row.p1) == (str(saved), "th", 1.0)
    assert remarks == [f"wiktionary+{saved} en-th: left out; wiktionary has no th"]
    with pytest.raises(InputError, match="nothing to measure: none of wiktionary has th; give other lexicons or --languages"):
        list(quality(["wiktionary"], ["th"], gold, 100, (0, 3)))


def test_the_command_says_what_it_leaves_out(saved: Path, cli: Cli) -> None:
    StoredLexicon.compiled([Entry("cat", "แมว")], Source("made", "own"), "en", "th").save(saved / "en-th.lex")
    (saved / "gold-th.tsv").write_text("cat\tแมว\n", encoding="utf-8")
    options = ("--languages", "th", "--gold", saved / "gold-th.tsv", "--ranks", "0-3", "--format", "tsv")
    code, out, err = command(cli, saved, "wiktionary", *options)
    assert code == 0 and len(out.splitlines()) == 2 and err == "wiktionary en-th: left out; wiktionary has no th\n"
    assert command(cli, saved, "wiktionary", *options, "--quiet") == (0, out, "")
    code, out, err = command(cli, "wiktionary", *options)
    assert (code, out) == (2, "") and err.startswith("Error: nothing to measure: none of wiktionary has th") and err.count("\n") == 1


def test_progress_is_for_terminals(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", said := Terminal())
    list(quality([str(saved)], ["de"], str(saved / "gold-de.tsv"), 100, (0, 3), quiet=True))
    assert said.getvalue() == ""
    list(quality([str(saved)], ["de"], str(saved / "gold-de.tsv"), 100, (0, 3), quiet=False))
    assert "measuring" in said.getvalue() and f"{saved} en-de" in said.getvalue()


@needs_real_data
def test_test_words_of_the_real_gold() -> None:
    from csrerank.lexicons import muse
    from csrerank.lexicons.registry import Skipped

    path = REAL_DOWNLOADS.parent / "lexicons" / "muse" / "en-de.txt.gz"
    gold = gold_words(muse.read(path, "en", "de", Skipped()))
    assert 1000 < len(gold) <= 1500
    assert not any(word in translations for word, translations in gold.items())
