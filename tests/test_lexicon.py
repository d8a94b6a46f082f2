"""The lexicon itself: ranking, merging, the other direction, and one file that is checked before it is mapped."""

import math
import random
from pathlib import Path

import pytest

from csrerank.errors import InputError
from csrerank.lexicons.building import facts
from csrerank.lexicons.lexicon import MOST, Entry, Merged, Source, StoredLexicon, Translation, inverted, key_of


def compiled(name: str, *entries: Entry, source: str = "en", target: str = "de") -> StoredLexicon:
    return StoredLexicon.compiled(entries, Source(name, "CC0", {"file": "0" * 32}), source, target)


FIRST = compiled("first", Entry("Water", "Gewässer", 1), Entry("water", "Wasser", 4), Entry("water", "Wasser", 2), Entry("New  York", "New York"))
SECOND = compiled("second", Entry("water", "Wasser"), Entry("water", "wässern"), Entry("dog", "Hund"))


def test_ranked_by_score_each_once() -> None:
    """The best score of a repeated pair counts; scores above 1 are divided by the word's best; ties keep the reader's order."""
    assert FIRST.translations("water") == (Translation("Wasser", 1.0, "first"), Translation("Gewässer", 0.25, "first"))
    assert SECOND.translations("water") == (Translation("Wasser", 1.0, "second"), Translation("wässern", 1.0, "second"))
    many = compiled("many", *(Entry("a", str(number), 1 / (1 + number)) for number in range(40)))
    assert [translation.text for translation in many.translations("a")] == [str(number) for number in range(MOST)]


def test_keys() -> None:
    """Lower case, NFC, straight apostrophes, single spaces, no Arabic vowel marks; what no word holds is not found, and breaks nothing."""
    assert [key_of(text) for text in ("Don\u2019T", "CAFE\u0301", "a \u00a0 b", "كِتَابٌ", "ـكـ")] == ["don't", "café", "a b", "كتاب", "ك"]
    for odd in ("", "\x01", "\0", "water\0", "wat", "\ud800", "new"):
        assert FIRST.translations(odd) == () and odd not in FIRST
    assert list(FIRST) == ["water", "new york"] and len(FIRST) == 2 and FIRST.longest == 2
    assert FIRST.prefixes("waterfall\0") == ["water"] and FIRST.prefixes("\x01") == [] and FIRST.prefixes("\ud800") == []
    assert "क्\u200dष" in compiled("joined", Entry("क्\u200dष", "x"), source="hi", target="en")


def test_merged_by_precedence() -> None:
    """The first part's translations, then what only the second has; stored as one file it is the same, sources and scores kept."""
    merged = Merged([FIRST, SECOND])
    assert merged.translations("water") == (*FIRST.translations("water"), Translation("wässern", 1.0, "second"))
    assert sorted(merged) == ["dog", "new york", "water"] and len(merged) == 3 and merged.prefixes("dogs") == ["dog"]
    stored = StoredLexicon.stored(merged)
    assert {key: stored.translations(key) for key in stored} == {key: merged.translations(key) for key in merged} and stored.sources == merged.sources
    assert Merged([SECOND, FIRST]).translations("water")[0].source == "second"
    assert Merged([SECOND, FIRST]).fingerprint != merged.fingerprint
    with pytest.raises(InputError, match="en-de, en-ru"):
        Merged([FIRST, compiled("ru", Entry("a", "а"), target="ru")])


def test_different_sources_of_one_name_are_told_apart() -> None:
    """Two files in one format keep their licences, files and counts; a source that comes again, also out of an earlier mix, is one."""

    def own(file: str, *entries: Entry) -> StoredLexicon:
        return StoredLexicon.compiled(entries, Source("muse", f"that of {file}", {file: "0" * 32}), "en", "de")

    one, two = own("one.txt", Entry("lamp", "Lampe"), Entry("sun", "Sonne")), own("two.txt", Entry("lamp", "Leuchte"), Entry("moon", "Mond"))
    stored = StoredLexicon.stored(Merged([one, two]))
    apart = (Source("muse", "that of one.txt", {"one.txt": "0" * 32}), Source("muse (2)", "that of two.txt", {"two.txt": "0" * 32}))
    assert stored.sources == Merged([one, two]).sources == apart
    assert stored.translations("lamp") == (Translation("Lampe", 1.0, "muse"), Translation("Leuchte", 1.0, "muse (2)"))
    assert stored.translations("moon") == Merged([one, two]).translations("moon") == (Translation("Mond", 1.0, "muse (2)"),)
    rows = list(facts(stored))
    assert ("source", "muse", "that of one.txt", "2 entries led") in rows and ("source", "muse (2)", "that of two.txt", "1 entries led") in rows
    assert Merged([stored, two, one]).sources == apart
    assert [source.name for source in Merged([two, stored]).sources] == ["muse", "muse (2)"]
    assert Merged([two, stored]).translations("sun")[0].source == "muse (2)"
    three = own("three.txt", Entry("star", "Stern"))
    assert Merged([stored, three]).translations("star")[0].source == "muse (3)"


@pytest.mark.parametrize("score", [0.0, -1.0, math.nan, math.inf])
def test_a_score_that_sampling_cannot_use_is_a_readers_mistake(score: float) -> None:
    with pytest.raises(ValueError, match=f"^wrong: score {score} of 'a' into 'x'; scores are numbers above 0$"):
        compiled("wrong", Entry("a", "x", score))


def test_the_least_score_stays_above_zero() -> None:
    """As float32 it would be 0."""
    assert [translation.score > 0 for translation in compiled("far", Entry("a", "x", 1e60), Entry("a", "y", 1.0)).translations("a")] == [True, True]


def test_the_other_direction() -> None:
    """A word's main translation leads back to it before others do."""
    other = StoredLexicon.compiled(
        inverted(compiled("x", Entry("sea", "See", 1), Entry("lake", "Teich", 1), Entry("lake", "See", 0.9))), Source("x", ""), "de", "en"
    )
    assert [translation.text for translation in other.translations("see")] == ["sea", "lake"]


def test_fingerprint_is_of_the_content() -> None:
    """The same entries give the same, other entries or another order of equal scores another."""
    again = compiled("second", Entry("dog", "Hund"), Entry("water", "Wasser"), Entry("water", "wässern"))
    assert again.fingerprint == SECOND.fingerprint
    assert compiled("second", Entry("dog", "Hund"), Entry("water", "wässern"), Entry("water", "Wasser")).fingerprint != SECOND.fingerprint


def test_saved_and_damaged(tmp_path: Path) -> None:
    """A file gives back what was saved; with any bit of it changed, or cut off, it is refused and never mapped."""
    path = tmp_path / "en-de.lex"
    StoredLexicon.stored(Merged([FIRST, SECOND])).save(path)
    loaded = StoredLexicon.load(path)
    assert loaded.translations("dog") == (Translation("Hund", 1.0, "second"),) and [source.name for source in loaded.sources] == ["first", "second"]
    assert (loaded.source_lang, loaded.target_lang, dict(loaded.sources[0].files)) == ("en", "de", {"file": "0" * 32})
    whole, chance = path.read_bytes(), random.Random(1)
    for _ in range(50):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="not a saved lexicon, or damaged"):
            StoredLexicon.load(path)
    for content in (b"", b"text", whole[:-1], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a saved lexicon, or damaged"):
            StoredLexicon.load(path)
    with pytest.raises(InputError, match="no such file"):
        StoredLexicon.load(tmp_path / "absent.lex")
    for unreadable in (tmp_path, tmp_path / ("n" * 300 + ".lex")):
        with pytest.raises(InputError, match=r"cannot be read \((Is a directory|File name too long)\)"):
            StoredLexicon.load(unreadable)
