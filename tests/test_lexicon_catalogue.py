"""Lexicons by name: compiled once, mapped afterwards, mixed in order, and built and shown on the command line."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import Cli, needs_real_data

from csrerank.errors import InputError
from csrerank.lexicons import catalogue
from csrerank.lexicons.catalogue import find, languages_of, names, read_file
from csrerank.lexicons.lexicon import Entry, Source, StoredLexicon, Translation
from csrerank.lexicons.registry import SOURCES, register


class Toy:
    """Two registered sources whose reading is counted."""

    def __init__(self) -> None:
        self.read: list[tuple[str, str]] = []
        self.digest = "1"

    def entries(self, source_lang: str, target_lang: str) -> Iterator[Entry]:
        self.read.append((source_lang, target_lang))
        yield from (Entry("lamp", "Lampe", 1.0), Entry("light", "Licht", 1.0), Entry("light", "Lampe", 0.5))

    def inputs(self, source_lang: str, target_lang: str) -> Mapping[str, str]:
        assert source_lang == "en"  # the other direction is turned, and depends on the same file
        return {"toy.txt": self.digest}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    names()  # the real ones are registered
    monkeypatch.setattr(catalogue, "SOURCES", SOURCES)
    for name in ("toy", "other"):
        monkeypatch.setitem(SOURCES, name, SOURCES["muse"])  # so that it is taken out again
    made = Toy()
    register("toy", "CC0", entries=made.entries, languages=["de", "nl"], inputs=made.inputs)
    register("other", "MIT", entries=lambda source, target: iter([Entry("lamp", "Leuchte"), Entry("sun", "Sonne")]), languages=["de"], both=True)
    return made


def test_a_source_is_compiled_once_and_again_when_what_it_reads_changed(toy: Toy, tmp_path: Path) -> None:
    first = find("toy", "en", "de", tmp_path)
    assert first.translations("light") == (Translation("Licht", 1.0, "toy"), Translation("Lampe", 0.5, "toy"))
    assert first.sources == (Source("toy", "CC0", {"toy.txt": "1"}),)
    assert find("toy", "en", "de", tmp_path).fingerprint == first.fingerprint
    assert toy.read == [("en", "de")]
    toy.digest = "2"
    assert find("toy", "en", "de", tmp_path).sources[0].files == {"toy.txt": "2"}
    assert toy.read == [("en", "de")] * 2
    assert len(list(tmp_path.glob("lexicons/toy-*/en-de.lex"))) == 2


def test_the_other_direction_is_turned(toy: Toy, tmp_path: Path) -> None:
    found = find("toy", "de", "en", tmp_path)
    assert found.translations("lampe") == (Translation("lamp", 1.0, "toy"), Translation("light", 0.25, "toy"))
    assert toy.read == [("en", "de")]
    assert found.sources == (Source("toy", "CC0", {"toy.txt": "1"}),)


def test_a_mix_keeps_the_order_and_each_translations_source(toy: Toy, tmp_path: Path) -> None:
    def texts(name: str) -> list[tuple[str, str]]:
        return [(translation.text, translation.source) for translation in find(name, "en", "de", tmp_path).translations("lamp")]

    assert texts("toy+other") == [("Lampe", "toy"), ("Leuchte", "other")]
    assert texts("other+toy") == [("Leuchte", "other"), ("Lampe", "toy")]
    assert texts("toy+toy") == [("Lampe", "toy")]
    assert [source.name for source in find("toy+other", "en", "de", tmp_path).sources] == ["toy", "other"]


def test_an_alias_leaves_out_what_lacks_the_language_and_a_mix_does_not(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogue.ALIASES, "both", ("toy", "other"))
    assert [source.name for source in find("both", "en", "nl", tmp_path).sources] == ["toy"]
    assert languages_of("both") == {"de", "nl"}
    with pytest.raises(InputError, match="^other: no lexicon for nl; it has de$"):
        find("toy+other", "en", "nl", tmp_path)
    with pytest.raises(InputError, match="^both: no lexicon for fr; it has de nl$"):
        find("both", "en", "fr", tmp_path)


def test_saved_files_and_folders(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = find("toy", "en", "de", tmp_path / "cache")
    (tmp_path / "mine").mkdir()
    saved.save(tmp_path / "mine" / "en-de.lex")
    for name in (str(tmp_path / "mine" / "en-de.lex"), str(tmp_path / "mine")):
        assert find(name, "en", "de", tmp_path / "cache").fingerprint == saved.fingerprint
    mixed = find(f"other+{tmp_path}/mine", "en", "de", tmp_path / "cache")
    assert [translation.text for translation in mixed.translations("lamp")] == ["Leuchte", "Lampe"]
    with pytest.raises(InputError, match=r"en-de\.lex: a lexicon from en into de, not from en into nl"):
        find(str(tmp_path / "mine" / "en-de.lex"), "en", "nl", tmp_path / "cache")
    with pytest.raises(InputError, match=r"en-nl\.lex: no such file"):
        find(str(tmp_path / "mine"), "en", "nl", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").mkdir()
    assert find("toy", "en", "de", tmp_path / "cache").fingerprint == saved.fingerprint  # the source, not the empty folder


def test_other_languages_than_english_only_from_a_saved_file(toy: Toy, tmp_path: Path) -> None:
    path = tmp_path / "own.lex"
    StoredLexicon.compiled([Entry("Haus", "huis")], Source("own", "own"), "de", "nl").save(path)
    assert find(str(path), "de", "nl", tmp_path).translations("haus")[0].text == "huis"
    with pytest.raises(InputError, match="^no lexicon from de into nl: one of the two languages must be en$"):
        find("toy", "de", "nl", tmp_path)
    with pytest.raises(InputError, match="one of the two languages must be en"):
        find("toy", "en", "en", tmp_path)


@pytest.mark.parametrize("name", ["", "toy+", "+toy", "toy++other", "+"])
def test_an_empty_name_is_not_the_current_folder(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    StoredLexicon.compiled([Entry("lamp", "Ampel")], Source("own", "own"), "en", "de").save(tmp_path / "en-de.lex")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="an empty name; write names joined by single"):
        find(name, "en", "de", tmp_path)
    assert find(".", "en", "de", tmp_path).translations("lamp")[0].text == "Ampel"


def test_names_too_long_for_a_file(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="^unknown lexicon 'nnn"):
        find("n" * 300, "en", "de", tmp_path)
    with pytest.raises(InputError, match="cannot be read .File name too long"):
        find("n" * 300 + ".lex", "en", "de", tmp_path)
    folder = tmp_path / ("\u00e4\U00020000" * 40)
    folder.mkdir()
    find("other", "en", "de", tmp_path).save(folder / "en-de.lex")
    assert [translation.text for translation in find(f"toy+{folder}", "en", "de", tmp_path).translations("lamp")] == ["Lampe", "Leuchte"]


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_file_is_made_again_in_the_cache_only(toy: Toy, tmp_path: Path) -> None:
    whole = {name: find(name, "en", "de", tmp_path).fingerprint for name in ("toy", "toy+other")}
    files = list(tmp_path.glob("lexicons/toy*/en-de.lex"))
    assert len(files) == 2 and toy.read == [("en", "de")]
    for path in files:
        _damage(path)
    assert {name: find(name, "en", "de", tmp_path).fingerprint for name in ("toy+other", "toy")} == whole
    assert toy.read == [("en", "de")] * 2
    assert {StoredLexicon.load(path).fingerprint for path in files} == set(whole.values())
    own = tmp_path / "own.lex"
    find("toy", "en", "de", tmp_path).save(own)
    _damage(own)
    damaged = own.read_bytes()
    for name in (str(own), f"other+{own}"):
        with pytest.raises(InputError, match=r"own\.lex: not a saved lexicon, or damaged"):
            find(name, "en", "de", tmp_path)
    assert own.read_bytes() == damaged


def test_a_mix_of_files_with_the_same_entries_names_the_licence_of_each(toy: Toy, tmp_path: Path) -> None:
    for licence in ("CC0", "MIT"):
        StoredLexicon.compiled([Entry("lamp", "Ampel")], Source("own", licence), "en", "de").save(tmp_path / "own.lex")
        assert [source.licence for source in find(f"toy+{tmp_path}/own.lex", "en", "de", tmp_path).sources] == ["CC0", licence]


def test_what_ranks_is_part_of_what_a_lexicon_depends_on() -> None:
    names()
    for source in ("wiktionary", "freedict", "names", "wiktionary-lemmas", "freedict-lemmas"):
        assert SOURCES[source].inputs("en", "de")["wordfreq"] == version("wordfreq")
    assert SOURCES["wiktionary-lemmas"].inputs("de", "en")["simplemma"] == version("simplemma")
    assert set(SOURCES["names"].inputs("en", "te")) == {"babel"}
    assert set(SOURCES["wiktionary"].inputs("en", "de")) == {"en-de", "wordfreq"}


def test_unknown_names_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="^unknown lexicon 'oxford'; known are .*wiktionary.* open, mixes"):
        find("oxford", "en", "de", tmp_path)
    with pytest.raises(InputError, match="^titles: there is no fixed address"):
        find("titles", "en", "fr", tmp_path)
    with pytest.raises(InputError, match="unknown language 'xx'"):
        find("open", "en", "xx", tmp_path)
    with pytest.raises(InputError, match="^freedict: no lexicon for zh; it has ar de"):
        find("freedict", "en", "zh", tmp_path)
    with pytest.raises(InputError, match="^unknown format 'oxford'; known are freedict muse titles wiktionary"):
        read_file("oxford", "x", "en", "de")
    with pytest.raises(InputError, match="cannot come from a pipe"):
        read_file("muse", "-", "en", "de")


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be made .*; set CSRERANK_CACHE to a folder"):
        find("cldr", "en", "de", tmp_path / "file")


def test_a_licence_may_be_that_of_one_language() -> None:
    names()
    for name in ("freedict", "freedict-lemmas"):
        assert SOURCES[name].licence_of("en", "fi") == SOURCES[name].licence_of("fi", "en") == "CC BY-SA 3.0"
        # To the letter: saved lexicons hold it, and are named in the cache by it.
        assert SOURCES[name].licence_of("en", "de") == "GPL-2.0-or-later (de: GPL-3.0-or-later and AGPL-3.0; id, ja: CC BY-SA 3.0)"


def test_muse_says_that_it_is_not_for_everything() -> None:
    assert "non-commercial" in SOURCES["muse"].licence
    assert not any("muse" in parts for parts in catalogue.ALIASES.values())


def test_cldr_in_both_directions(tmp_path: Path) -> None:
    assert find("cldr", "en", "ar", tmp_path).translations("friday")[0].text == "الجمعة"
    assert find("cldr", "ar", "en", tmp_path).translations("الجمعة")[0].text == "Friday"


def test_importing_the_catalogue_imports_nothing_heavy() -> None:
    code = "import sys, csrerank.lexicons.catalogue as c; c.names(); print([m for m in ('torch', 'faiss', 'wordfreq', 'babel', 'ir_datasets', 'simplemma') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# The command line


def test_build_show_of_a_file_of_ones_own(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("lamp Lampe\nlamp Leuchte\nsun Sonne\n", encoding="utf-8")
    done = cli("lexicon", "build", "--format", "muse", "--input", "words.txt", "en-de", "--output", "made/", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "made/en-de.lex: en-de, 2 words and phrases, of muse\n")
    shown = cli("lexicon", "show", "made", "en-de", "LAMP", "moon", cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (0, "LAMP\tLampe\t1.000\tmuse\nLAMP\tLeuchte\t0.500\tmuse\nmoon\t-\t-\t-\n")
    facts = dict(line.split("\t", 1) for line in cli("lexicon", "show", "made/en-de.lex", "en-de", cwd=tmp_path).stdout.splitlines())
    assert facts["languages"] == "en-de" and facts["entries"] == "2" and facts["translations"] == "1.50 an entry"
    assert facts["source"] == "muse\tthat of words.txt\t2 entries led"
    assert facts["made of"] == f"words.txt\t{hashlib.md5((tmp_path / 'words.txt').read_bytes()).hexdigest()}"


def test_titles_are_counted_where_they_are_left_out(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("Iron\tEisen\nA title of many words\tLang\n", encoding="utf-8")
    done = cli("lexicon", "build", "--format", "titles", "--input", "t.tsv", "en-de", "--output", "t.lex", cwd=tmp_path)
    assert done.stderr == "t.tsv: left out 1 titles that are empty or longer than three words\nt.lex: en-de, 1 words and phrases, of titles\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "open", "en-de"], "Missing option '--output'"),
        (["build", "open", "--output", "x"], "give NAME and PAIR"),
        (["build", "--format", "muse", "en-de", "--output", "x"], "--format and --input belong together"),
        (["build", "--format", "muse", "--input", "w.txt", "open", "en-de", "--output", "x"], "with --format give only the PAIR"),
        (["build", "open", "german", "--output", "x"], "'german' is no language pair; write it as en-de"),
        (["build", "open", "en-xx", "--output", "x"], "unknown language 'xx'"),
        (["build", "oxford", "en-de", "--output", "x"], "unknown lexicon 'oxford'"),
        (["build", "--format", "muse", "--input", "w.txt", "en-de", "--output", "x"], "w.txt:1: 3 words where a MUSE dictionary has two"),
        (["build", "--format", "titles", "--input", "w.txt", "en-de", "--output", "x"], "w.txt:1: 1 columns where parallel titles have two"),
        (["build", "--format", "freedict", "--input", "w.txt", "en-de", "--output", "x"], "w.txt: neither a Debian package nor a dictd database"),
        (["build", "--format", "wiktionary", "--input", "w.txt", "en-de", "--output", "x"], "w.txt: no line of the form"),
        (["build", "cldr", "en-de", "--output", "w.txt/x"], "w.txt/x: no folder can be made here"),
        (["build", "cldr", "en-de", "--output", "nowhere/x.lex"], "nowhere/x.lex: its folder does not exist"),
        (["show", "w.lex", "en-de"], "w.lex: not a saved lexicon"),
        (["show", "absent.lex", "en-de"], "absent.lex: no such file"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(cli: Cli, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "w.txt").write_text("three little words\n", encoding="utf-8")
    (tmp_path / "w.lex").write_text("no trie\n", encoding="utf-8")
    done = cli("lexicon", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("Error: ") and message in done.stderr


# Real downloads


@needs_real_data
@pytest.mark.slow
@pytest.mark.parametrize(("lang", "best"), [("de", "Haus"), ("nl", "huis"), ("it", "casa"), ("ru", "дом"), ("zh", "房屋"), ("ar", "منزل")])
def test_real_wiktionary_and_its_lemmas(lang: str, best: str, tmp_path: Path) -> None:
    found = find("wiktionary", "en", lang, tmp_path)
    assert best in [translation.text for translation in found.translations("house")][:2]
    lemmas = find("wiktionary-lemmas", "en", lang, tmp_path)
    assert "houses" in found or "houses" in lemmas
    assert not any(word in found for word in lemmas)
    assert "house" in [translation.text for translation in find("wiktionary", lang, "en", tmp_path).translations(best.lower())][:3]


def test_two_processes_may_compile_at_once(tmp_path: Path) -> None:
    code = "import sys, pathlib; from csrerank.lexicons.catalogue import find; print(find('cldr', 'en', 'fr', pathlib.Path(sys.argv[1])).fingerprint)"
    running = [subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(3)]
    assert len({process.communicate()[0] for process in running}) == 1
    assert [path.name for path in next(tmp_path.glob("lexicons/cldr-*")).iterdir()] == ["en-fr.lex"]
