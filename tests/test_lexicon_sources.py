"""Each source of lexicons reads the format in which its publisher ships it, and says in one line what is wrong with a file."""

import bz2
import gzip
import hashlib
import io
import lzma
import random
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import FETCHED, needs_real_data

from csrerank.errors import InputError
from csrerank.languages import LANGUAGES
from csrerank.lexicons import cldr, dictd, freedict, muse, names, titles, wiktionary
from csrerank.lexicons.catalogue import read_file
from csrerank.lexicons.lemmas import LEMMATISED, inflected
from csrerank.lexicons.lexicon import Entry, Source, StoredLexicon
from csrerank.lexicons.registry import Skipped
from csrerank.lexicons.senses import Sense, cleaned, ranked, turned

Read = Callable[..., object]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pairs(entries: object) -> list[tuple[str, str]]:
    return [(entry.word, entry.translation) for entry in entries]  # type: ignore[attr-defined]


def refused(read: Read, path: Path, source_lang: str = "en", target_lang: str = "de") -> str:
    with pytest.raises(InputError) as caught:
        list(read(path, source_lang, target_lang, Skipped()))  # type: ignore[call-overload]
    assert "\n" not in str(caught.value)
    return str(caught.value)


# MUSE


@pytest.mark.parametrize("gap", ["\t", " "])
def test_muse_ranks_by_the_order_of_the_file_and_keeps_equal_pairs(tmp_path: Path, gap: str) -> None:
    path = written(tmp_path / "m.txt", f"lamp{gap}lampe\npeter{gap}peter\nlamp{gap}leuchte\n")
    assert list(muse.read(path, "en", "de", Skipped())) == [Entry("lamp", "lampe", 1.0), Entry("peter", "peter", 1.0), Entry("lamp", "leuchte", 0.5)]


@pytest.mark.parametrize("line", ["lamp", "lamp lampe leuchte", "lamp\t", "a\tb\tc"])
def test_muse_refuses_a_line_that_has_not_two_words(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "m.txt", f"sun sonne\n{line}\n")
    assert refused(muse.read, path).startswith(f"{path}:2: ")


def test_muse_refuses_a_truncated_gzip(tmp_path: Path) -> None:
    path = written(tmp_path / "m.txt.gz", gzip.compress(b"sun sonne\n" * 99)[:-9])
    assert "truncated or damaged gzip" in refused(muse.read, path)


# Senses


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("etw. reparieren", "de", "reparieren"),
        ("jdn./etw. beherbergen", "de", "beherbergen"),
        ("sich freuen", "de", "freuen"),
        ("die Lampe", "de", "Lampe"),
        ("dĳk", "nl", "dijk"),
        ("كِتَاب", "ar", "كتاب"),
        ("كتاب kitāb", "ar", "كتاب"),
        ("Hijazi كتاب", "ar", ""),
        ("кни́га", "ru", "книга"),
        ("東西", "zh", "东西"),
        ("一贯 的", "zh", "一贯的"),
        ("DVDプレーヤー", "ja", "DVDプレーヤー"),
        ("जल~चर", "hi", "जल चर"),
        ("-bar", "de", ""),
        ("Schüler/in", "de", ""),
        ("eins zwei drei vier", "de", "eins zwei drei vier"),
        ("eins zwei drei vier fünf", "de", ""),
        ("¿dónde?", "es", "dónde"),
        ("книга", "de", ""),
        ("...", "de", ""),
        ("", "de", ""),
    ],
)
def test_cleaned(text: str, lang: str, expected: str) -> None:
    assert cleaned(text, lang) == expected


def test_a_translation_in_more_senses_and_about_as_usual_as_its_headword_comes_first() -> None:
    entries = list(ranked([Sense("house", ("Gehäuse", "Haus")), Sense("House", ("Haus",)), Sense("lamp", ("Xyzzy", "Lampe"))], "en", "de"))
    best = {entry.word: entry.translation for entry in reversed(sorted(entries, key=lambda entry: entry.score)) if entry.score == 1.0}
    assert best == {"house": "Haus", "lamp": "Lampe"}
    assert all(0 < entry.score <= 1 for entry in entries)


def test_a_translation_of_many_headwords_ranks_lower() -> None:
    senses = [Sense("qqa", ("qqx", "qqy")), *(Sense(f"qq{letter}", ("qqx",)) for letter in "bcdefgh")]
    assert max((entry for entry in ranked(senses, "en", "de") if entry.word == "qqa"), key=lambda entry: entry.score).translation == "qqy"


def test_turned_leads_back_from_the_main_translation() -> None:
    lexicon = StoredLexicon.compiled([Entry("house", "Haus", 1.0), Entry("home", "Heim", 1.0), Entry("home", "Haus", 0.3)], Source("s", "none"), "en", "de")
    back = StoredLexicon.compiled(turned(lexicon), Source("s", "none"), "de", "en")
    assert [translation.text for translation in back.translations("haus")] == ["house", "home"]


# Wiktionary

EXTRACT = """# English :: German dictionary extracted from http://en.wiktionary.org/
beacon {n} (signal fire (on a hill)) :: Leuchtfeuer {n}, [archaic] Bake {f}; Signalfeuer {n} [Swiss, formal]
beacon {v} (to guide) :: jdn. leiten
Beaconsfield {prop} (town) :: Beaconsfield {n}
beacon light {n} (a lamp) :: Leuchte {f}
beacon of all good hope {phrase} :: Licht {n}
balefire {n} (fire) SEE: beacon ::
beaconry {n} (craft) SEE: beacon ::
beaconry {n} (x) :: Feuerkunde {f}
-able {suffix} (y) :: -bar
a line in disorder
]] ::
"""


def test_wiktionary_text(tmp_path: Path) -> None:
    skipped: Counter[str] = Counter()
    found = pairs(wiktionary.read(written(tmp_path / "w.txt", EXTRACT), "en", "de", skipped))
    assert set(found) == {
        ("beacon", "Leuchtfeuer"), ("beacon", "Bake"), ("beacon", "Signalfeuer"), ("beacon", "leiten"), ("beaconry", "Feuerkunde"),
        ("balefire", "Leuchtfeuer"), ("balefire", "Bake"), ("balefire", "Signalfeuer"),
    }  # fmt: skip
    assert sum(skipped.values()) == 2


def test_wiktionary_keeps_names_and_phrases_apart(tmp_path: Path) -> None:
    found = pairs(wiktionary.read_names(written(tmp_path / "w.txt", EXTRACT), "en", "de", Skipped()))
    assert found == [("beaconsfield", "Beaconsfield"), ("beacon light", "Leuchte")]


@pytest.mark.parametrize(
    ("column", "lang", "expected"),
    [
        ("نور {m} /nūr, ḍawʾ/, ضوء {m} /ḍawʾ/", "ar", ["نور", "ضوء"]),
        ("كتب /kátaba/ imperfect: يكتب /yáktubu/", "ar", ["كتب"]),
        ("Hijazi: نور, ضوء", "ar", ["نور", "ضوء"]),
        ("燈塔, 灯塔 /dēngtǎ/, 火", "zh", ["灯塔", "火"]),
        ("灯 /ひ, hi/, 灯台 /とうだい /tōdai", "ja", ["灯", "灯台"]),
        ("등대(燈臺)", "ko", ["등대"]),
        ("[no word exists]", "de", []),
        ("Licht {n}, Licht {n}", "de", ["Licht"]),
    ],
)
def test_wiktionary_translations(column: str, lang: str, expected: Sequence[str]) -> None:
    assert wiktionary.translations(column, lang) == expected


DSL = """#NAME "Wiktionary English-Russian"
#INDEX_LANGUAGE "English"
#CONTENTS_LANGUAGE "Russian"

beacon
\t[b][c darkblue]~[/c][/b] [p]<n>[/p] [c gray]/ˈbiːkən/[/c] (signal)
\t[m1]мая́к [p]<m>[/p] [c gray]/maják/[/c], \\[dated\\] огонь [p]<m>[/p][/m]

balefire
\t[b][c darkblue]~[/c][/b] [p]<n>[/p] (fire)
\tSEE: <<beacon>>

Volga
\t[b][c darkblue]~[/c][/b] [p]<prop>[/p] [i](river)[/i]
\t[m1]Волга [p]<f>[/p][/m]
"""


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8"])
def test_wiktionary_dsl(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path / "w.dsl.dz", gzip.compress(DSL.encode(encoding)))
    assert set(pairs(wiktionary.read(path, "en", "ru", Skipped()))) == {("beacon", "маяк"), ("beacon", "огонь"), ("balefire", "маяк"), ("balefire", "огонь")}
    assert pairs(wiktionary.read_names(path, "en", "ru", Skipped())) == [("volga", "Волга")]


def test_wiktionary_refuses_what_is_none(tmp_path: Path) -> None:
    assert "no line of the form" in refused(wiktionary.read, written(tmp_path / "a", "lamp\tlampe\n"))
    assert "is empty" in refused(wiktionary.read, written(tmp_path / "b", ""))
    assert "not UTF-8" in refused(wiktionary.read, written(tmp_path / "c", "lamp {n} :: Glühlämpchen\n".encode("latin-1")))
    assert "German, not English :: French" in refused(wiktionary.read, written(tmp_path / "d", EXTRACT), "en", "fr")
    assert "not a whole DSL file in UTF-16" in refused(wiktionary.read, written(tmp_path / "e", gzip.compress(DSL.encode("utf-16")[:-1])), "en", "ru")
    assert "says that it is Russian, not German" in refused(wiktionary.read, written(tmp_path / "f", gzip.compress(DSL.encode("utf-16"))))
    assert "truncated or damaged gzip" in refused(wiktionary.read, written(tmp_path / "g", gzip.compress(DSL.encode("utf-16"))[:-12]), "en", "ru")


# FreeDict

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def base64(number: int) -> str:
    return (base64(number >> 6) if number >> 6 else "") + DIGITS[number & 63]


def database(entries: Sequence[str]) -> tuple[bytes, bytes]:
    """An index and a text of these entries."""
    text, index = b"00-database-info\n", ["00databaseinfo\tA\tR"]
    for entry in entries:
        index.append(f"{entry.split(' ')[0].lower()}\t{base64(len(text))}\t{base64(len(entry.encode()))}")
        text += entry.encode()
    return "\n".join(index).encode() + b"\n", text


def two_files(folder: Path, entries: Sequence[str]) -> Path:
    index, text = database(entries)
    written(folder / "eng-xxx.dict.dz", gzip.compress(text))
    return written(folder / "eng-xxx.index", index)


def package(entries: Sequence[str], pack: Callable[[bytes], bytes] = lzma.compress) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        index, text = database(entries)
        for name, content in (("x.index", index), ("x.dict.dz", gzip.compress(text)), ("copyright", b"free")):
            member = tarfile.TarInfo(f"./usr/share/dictd/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    parts = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0"), ("data.tar.xz", pack(archive.getvalue()))):
        parts += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2)
    return parts


# Made up, in the layouts of the published ones.
LAYOUTS = {
    "plain": ("de", "anvil /ˈanvɪl/\nAmboss, Schlagklotz\n", [("anvil", "Amboss"), ("anvil", "Schlagklotz")]),
    "numbered": ("nl", "weld /wɛld/\n1. lassen\n2. wellen, samensmeden\n", [("weld", "lassen"), ("weld", "wellen"), ("weld", "samensmeden")]),
    "blank line": ("el", "anvil /ˈanvɪl/\n\nαμόνι\n", [("anvil", "αμόνι")]),
    "capital, vowel marks": ("ar", "Anvil /ˈanvɪl/\nالسّندان\n", [("anvil", "السندان")]),
    "examples in quotes": ("hi", 'anvil /ˈanvɪl/ <N>\n1. निहाई{लोहार की}\n      "The anvil rang."\n2. लोहा~पीटना\n', [("anvil", "निहाई"), ("anvil", "लोहा पीटना")]),
    "phrases after a full stop": ("tr", "forge /fɔːdʒ/\n1. demirhane, (mim.) ocak. forge ahead ilerlemek.\n", [("forge", "demirhane"), ("forge", "ocak")]),
    "glosses below": ("ja", "anvil //ˈænvɪl// /[ˈæn]/ <n>\n1. 金床, 鉄床 2.\nblock for striking\n 3.\nbone in the ear\n4. 台\nsomething\n", [("anvil", "金床"), ("anvil", "鉄床"), ("anvil", "台")]),
    "glosses below, in Latin letters": ("fi", "clasp //klɑːsp// <n>\n1. haka, solki 2.\nfastener or holder\n 3.\nembrace\n4. lukko\nof a bag\n", [("clasp", "haka"), ("clasp", "solki"), ("clasp", "lukko")]),
    "suffix": ("ja", "wise //waɪz// <suffix>\nのように\n", []),
    "Ding": (
        "de",
        'hammer sth. /ˈhamə/ <v>\n [Br.] (etw.) hämmern <v, trans>, klopfen <masc> [ugs.] , den Hammer <masc>\n      "hammer it"  - draufhauen\n'
        "         Note: laut\n   Synonyms: {beat}, {pound}\n\n see: {hammers}\n",
        [("hammer", "hämmern"), ("hammer", "klopfen"), ("hammer", "den Hammer")],
    ),
    "a sentence": ("de", "He hammers the hot iron. /hiː/\nEr hämmert.\n", []),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_freedict_layouts(layout: str) -> None:
    lang, entry, expected = LAYOUTS[layout]
    assert [(sense.word.lower(), text) for sense in freedict.senses_of(entry, "en", lang) for text in sense.translations] == expected


def test_freedict_weighs_a_sense_with_an_example_more() -> None:
    assert [sense.weight for lang, entry, _ in (LAYOUTS["Ding"], LAYOUTS["plain"]) for sense in freedict.senses_of(entry, "en", lang)] == [1.5, 1.0]


ENTRIES = ["anvil /ˈanvɪl/\nAmboss\n", "weld /wɛld/\nschweißen\n", "chronometre watch of the ship /x/\nUhr\n"]


def test_freedict_reads_two_files_and_a_debian_package_alike(tmp_path: Path) -> None:
    skipped: Counter[str] = Counter()
    index = two_files(tmp_path, ENTRIES)
    expected = [("anvil", "Amboss"), ("weld", "schweißen")]
    assert pairs(freedict.read(index, "en", "de", skipped)) == expected
    assert skipped == {"entries without a short head and a translation": 1}
    assert pairs(freedict.read(tmp_path / "eng-xxx.dict.dz", "en", "de", Skipped())) == expected
    for pack in (lzma.compress, gzip.compress, bz2.compress, bytes):
        assert pairs(freedict.read(written(tmp_path / "x.deb", package(ENTRIES, pack)), "en", "de", Skipped())) == expected


def test_freedict_names_both_files_that_it_read(tmp_path: Path) -> None:
    index = two_files(tmp_path, ENTRIES)
    text = tmp_path / "eng-xxx.dict.dz"
    digests = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in (index, text)}
    for path in (index, text):
        made, _ = read_file("freedict", path, "en", "de")
        assert made.sources == (Source("freedict", f"that of {path.name}", digests),)
    deb = written(tmp_path / "x.deb", package(ENTRIES))
    assert read_file("freedict", deb, "en", "de")[0].sources[0].files == {"x.deb": hashlib.md5(deb.read_bytes()).hexdigest()}


def test_freedict_takes_one_ending_off_a_name(tmp_path: Path) -> None:
    index = two_files(tmp_path, ENTRIES)
    renamed = index.rename(tmp_path / "eng.dict.index")
    (tmp_path / "eng-xxx.dict.dz").rename(tmp_path / "eng.dict.dict.dz")
    assert [path.name for path in dictd.files_of(renamed)] == ["eng.dict.index", "eng.dict.dict.dz"]
    assert len(pairs(freedict.read(renamed, "en", "de", Skipped()))) == 2


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress, bz2.compress])
def test_freedict_refuses_a_package_with_a_changed_or_missing_byte(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """Whatever bit it is: either one line says so, or the bit meant nothing and the entries are the same."""
    whole, chance = package(ENTRIES, pack), random.Random(1)
    expected, refusals = [("anvil", "Amboss"), ("weld", "schweißen")], 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path = written(tmp_path / "x.deb", bytes(damaged))
        try:
            assert pairs(freedict.read(path, "en", "de", Skipped())) == expected
        except InputError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            refusals += 1
    assert refusals > 50
    packed = pack(b"")
    place = whole.index(packed[:3])
    for cut in (place + 8, place + (len(whole) - place) // 2):
        size = f"{cut - place:<10}".encode()
        short = whole[: place - 12] + size + whole[place - 2 : cut]
        assert "a damaged package" in refused(freedict.read, written(tmp_path / "x.deb", short))


@pytest.mark.parametrize("size", ["-60", "-1", "9999999999", "1_0", "+3", "", "x"])
def test_a_package_with_an_impossible_size_is_refused(tmp_path: Path, size: str) -> None:
    whole = package(ENTRIES)
    path = written(tmp_path / "x.deb", whole[:56] + f"{size:<10}".encode() + whole[66:])
    assert "a Debian package without a whole data.tar in it" in refused(freedict.read, path)


def test_freedict_leaves_spanish_heads_that_lost_words(tmp_path: Path) -> None:
    index = two_files(tmp_path, ["house /haus/\ncasa\n", "house /hausɔfwəːʃip/\niglesia\n"])
    assert pairs(freedict.read(index, "en", "es", Skipped())) == [("house", "casa")]


def test_freedict_refuses_what_is_none(tmp_path: Path) -> None:
    index = two_files(tmp_path, ENTRIES)
    assert "neither a Debian package nor a dictd database" in refused(freedict.read, written(tmp_path / "x.txt", "anvil\n"))
    assert "without a whole data.tar" in refused(freedict.read, written(tmp_path / "cut.deb", package(ENTRIES)[:-40]))
    assert "a damaged package" in refused(freedict.read, written(tmp_path / "bad.deb", package(ENTRIES).replace(b"\xfd7zXZ", b"\xfd7zXY")))
    assert "no entry with a translation into ru" in refused(freedict.read, index, "en", "ru")
    outside = written(tmp_path / "eng-xxx.index", "anvil\tA\tB\nweld\tB\tDIA\n")
    assert f"{outside}:2: points to byte 12801 of a text of" in refused(freedict.read, outside)
    assert f"{index}:1: no place and length" in refused(freedict.read, written(index, "anvil\t?\tB\n"))
    assert f"{index}:1: no place and length" in refused(freedict.read, written(index, "anvil\n"))
    text = (tmp_path / "eng-xxx.dict.dz").read_bytes()
    written(tmp_path / "eng-xxx.dict.dz", text[:-9])
    assert "truncated or damaged gzip" in refused(freedict.read, index)
    (tmp_path / "eng-xxx.dict.dz").unlink()
    assert "no " in refused(freedict.read, index) and "beside it" in refused(freedict.read, index)


def test_dictd_reads_each_place_once_in_the_order_of_the_text(tmp_path: Path) -> None:
    index = two_files(tmp_path, ["b /b/\nB\n", "a /a/\nA\n"])
    written(index, b"z\tZ\tI\nA\tZ\tI\nb\tR\tI\n")
    assert list(dictd.Database.open(index).entries()) == ["b /b/\nB\n", "a /a/\nA\n"]


# Titles

XML = """<?xml version="1.0" encoding="UTF-8"?>
<wikipediaTitles name="deen">
 <titles id="1"><entry lang="de">Merkur (Planet)</entry><entry lang="en">Mercury (planet)</entry></titles>
 <titles id="2"><entry lang="en">Iron &amp; Wine</entry><entry lang="de">Iron &amp; Wine</entry></titles>
 <titles id="3"><entry lang="de">Kategorie:Eisen</entry><entry lang="en">Category:Iron</entry></titles>
 <titles id="4"><entry lang="de">Lang</entry><entry lang="en">A title of more words</entry></titles>
 <titles id="5"><entry lang="de">Ohne</entry></titles>
</wikipediaTitles>
"""


def test_titles_xml_in_either_direction(tmp_path: Path) -> None:
    skipped: Counter[str] = Counter()
    path = written(tmp_path / "t.xml.gz", gzip.compress(XML.encode()))
    assert list(titles.read(path, "en", "de", skipped)) == [
        Entry("Mercury", "Merkur", 0.5),
        Entry("Iron & Wine", "Iron & Wine", 1.0),
        Entry("Iron", "Eisen", 1.0),
    ]
    assert sum(skipped.values()) == 1
    assert Entry("Merkur", "Mercury", 0.5) in list(titles.read(path, "de", "en", Skipped()))


def test_titles_tsv(tmp_path: Path) -> None:
    path = written(tmp_path / "t.tsv", "Mercury (planet)\t水星 (行星)\nStar Trek: Voyager\t星際旅行\n")
    assert list(titles.read(path, "en", "zh", Skipped())) == [Entry("Mercury", "水星", 0.5), Entry("Star Trek: Voyager", "星际旅行", 1.0)]


def test_titles_refuse_what_is_none(tmp_path: Path) -> None:
    assert ":2: 1 columns" in refused(titles.read, written(tmp_path / "a", "Iron\tEisen\nGold\n"))
    assert "cut off" in refused(titles.read, written(tmp_path / "b", XML[:400]))
    assert 'no element with <entry lang="en">' in refused(titles.read, written(tmp_path / "c", XML), "en", "fr")
    assert "cut off" in refused(titles.read, written(tmp_path / "d", gzip.compress(XML.encode() * 1)[:-20]))
    assert "no such file" in refused(titles.read, tmp_path / "e")


# CLDR, lemmas


def test_cldr_has_names_of_every_kind() -> None:
    found = dict(pairs(cldr.entries("en", "de")))
    expected = {
        "German": "Deutsch",
        "France": "Frankreich",
        "Cyrillic": "Kyrillisch",
        "May": "Mai",
        "Friday": "Freitag",
        "Euro": "Euro",
        "kilometer": "Kilometer",
    }
    assert {word: found.get(word) for word in expected} == expected
    assert not any(char in "()0123456789" for word in found for char in word)
    assert dict(pairs(cldr.entries("ru", "en")))["январь"] == "January"


def test_inflected_words_take_their_lemmas_translations_scored_lower() -> None:
    lexicon = StoredLexicon.compiled([Entry("house", "Haus", 1.0), Entry("house", "Heim", 0.5), Entry("horses", "Rösser")], Source("s", "none"), "en", "de")
    found = [entry for entry in inflected(lexicon) if entry.word in ("houses", "house", "horses", "horse")]
    assert found == [Entry("houses", "Haus", 0.5), Entry("houses", "Heim", 0.25)]


def test_every_language_of_ours_that_simplemma_and_wordfreq_have_is_lemmatised() -> None:
    from simplemma.strategies.dictionaries.dictionary_factory import SUPPORTED_LANGUAGES
    from wordfreq import available_languages

    assert set(LANGUAGES) & set(SUPPORTED_LANGUAGES) == LEMMATISED
    assert not LEMMATISED - set(available_languages())
    arabic = StoredLexicon.compiled([Entry("مدرسة", "school")], Source("s", "none"), "ar", "en")
    assert Entry("مدارس", "school", 0.5) in list(inflected(arabic))


def test_no_lemmas_are_known_for_chinese() -> None:
    assert list(inflected(StoredLexicon.compiled([Entry("房子", "house")], Source("s", "none"), "zh", "en"))) == []


# Real files


@pytest.mark.skipif(not (FETCHED / "5c8731d16fd57a192cef6f104d25b98a").exists(), reason="FreeDict's Finnish is not at hand; tests/fetch_freedict.py fetches it")
@pytest.mark.slow
def test_real_freedict_finnish() -> None:
    found = pairs(freedict.entries("en", "fi"))
    assert len(found) == 126_946 and {("house", "talo"), ("parliament", "eduskunta"), ("flea market", "kirpputori")} <= set(found)


@needs_real_data
@pytest.mark.slow
def test_real_freedict_german_is_read_in_seconds() -> None:
    """CPU time: under 15 s on a core of its own."""
    start = time.process_time()
    assert sum(1 for _ in freedict.entries("en", "de")) == 678_601
    assert time.process_time() - start < 30


@needs_real_data
@pytest.mark.slow
@pytest.mark.parametrize(("lang", "words", "phrases"), [("ar", 7000, 3000), ("zh", 15000, 8000), ("hi", 3000, 1500), ("ru", 26000, 11000)])
def test_real_wiktionary(lang: str, words: int, phrases: int) -> None:
    found, named = (StoredLexicon.compiled(entries, Source("w", "x"), "en", lang) for entries in (wiktionary.entries("en", lang), names.entries("en", lang)))
    assert len(found) > words and len(named) > phrases
    assert not any(" " in key for key in found)
    book = {"ar": "كتاب", "zh": "书", "hi": "किताब", "ru": "книга"}
    assert book[lang] in [translation.text for translation in found.translations("book")]
