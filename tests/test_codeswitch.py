"""The switching function: definitions, properties on arbitrary text, rates, and that nothing but its arguments matters."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from csrerank.codeswitch import Lexicons, Policy, Rule, Side, rebuilt, switch
from csrerank.codeswitch.multilingual import decisions
from csrerank.codeswitch.switching import key_for
from csrerank.codeswitch.tables import Words
from csrerank.lexicons.lexicon import Entry, Lexicon, Source, StoredLexicon, key_of
from csrerank.words import FUNCTION_WORDS

ENGLISH = ["the", "water", "is", "cold", "in", "every", "old", "town", "and", "I", "drink", "it", "with", "fresh", "lemon"]
LANGS = ("de", "ru", "ar", "nl", "it")


def lexicon(target: str, entries: dict[str, list[str]], source: str = "en", name: str = "toy", licence: str = "CC0") -> StoredLexicon:
    rows = [Entry(word, text, 1 / (1 + rank)) for word, texts in entries.items() for rank, text in enumerate(texts)]
    return StoredLexicon.compiled(rows, Source(name, licence), source, target)


def toy(langs: tuple[str, ...] = LANGS) -> dict[tuple[str, str, str], Lexicon]:
    """Every word of ENGLISH but two for each language, which that language lacks; "de" lacks the first two, and so on."""
    found: dict[tuple[str, str, str], Lexicon] = {}
    for number, lang in enumerate(langs):
        known = [word for place, word in enumerate(ENGLISH) if place // 2 != number]
        found[("toy", "en", lang)] = lexicon(lang, {word: [f"{word}-{lang}", f"{word}-{lang}-2"] for word in known})
    return found


TOY = Lexicons(toy())


def policy(probability: float = 0.5, strategy: str = "multilingual", langs: tuple[str, ...] = LANGS, mix: str = "toy", **settings: object) -> Policy:
    rule = Rule(strategy, tuple((lang, 1.0) for lang in langs), probability, lexicon=mix, **settings)  # type: ignore[arg-type]
    return Policy("test", Side((rule,)), Side((rule,)))


texts = st.one_of(
    st.text(max_size=80), st.lists(st.sampled_from([*ENGLISH, "Water", "COLD", "naïve", "don't", "水", "पानी", "\n", "x1"]), max_size=30).map(" ".join)
)


def _composed(strategy: str, probability: float) -> Policy:
    """A policy with one rule, or with several in a row."""
    if strategy == "translate":
        chinese = Rule("translate", (("en", 1.0),), probability, source="zh", lexicon="toy")
        return Policy("zh", Side(), Side((chinese, chinese._replace(lexicon="more"))))
    if strategy == "bilingual":
        return policy(probability, strategy, ("zh", "ru"))
    rules = policy(probability, strategy.partition("+")[0]).passage.rules
    return Policy("test", Side(), Side(rules + policy(probability, strategy.partition("+")[2]).passage.rules if "+" in strategy else rules))


ANY = Lexicons(
    toy((*LANGS, "zh"))
    | {
        ("toy", "zh", "en"): lexicon("en", {"水": ["water"], "水水": ["waters"], "water": ["wet"]}, "zh"),
        ("more", "zh", "en"): lexicon("en", {"火": ["fire"], "水": ["never"]}, "zh"),
    }
)
chinese = st.text(alphabet=st.sampled_from("水火木e1 。\u3099"), max_size=20)


@given(
    texts | chinese,
    st.sampled_from([0.25, 0.5, 1.0]),
    st.integers(0, 3),
    st.sampled_from(["multilingual", "titles", "titles+multilingual", "translate", "bilingual"]),
)
def test_nothing_outside_the_records_changes(text: str, probability: float, epoch: int, strategy: str) -> None:
    """Records lie in order, never overlap, hold what stood there; and the original comes back from them. Whatever the strategy, or several in a row."""
    switched, records = switch(text, "id", _composed(strategy, probability), ANY, 1, epoch)
    assert rebuilt(switched, records) == text
    place, shift = 0, 0
    for record in records:
        assert place <= record.start < record.end <= len(text)
        assert text[record.start : record.end] == record.original
        assert switched[place + shift : record.start + shift] == text[place : record.start]
        shift += len(record.replacement) - len(record.original)
        assert switched[record.end + shift - len(record.replacement) : record.end + shift] == record.replacement
        place = record.end
    assert switched[place + shift :] == text[place:]


@given(texts)
def test_probability_zero_is_identity(text: str) -> None:
    """Nothing switches."""
    assert switch(text, "id", policy(0), TOY, 1) == (text, [])


@given(texts)
def test_probability_one_switches_all_that_is_covered(text: str) -> None:
    """The language is drawn first; then every word that its lexicon has switches, and no other."""
    chosen = policy(1.0)
    _, records = switch(text, "id", chosen, TOY, 1)
    cut = Words.of(text, "en")
    expected = [
        (start, lang)
        for start, (word, _, lang, _) in zip(
            cut.starts[1::2], decisions(cut, chosen.passage.rules[0], f"{key_for(1, 0, 'passage', 'id')}\x1f0", TOY), strict=False
        )
        if key_of(word) in TOY.find("toy", "en", lang)
    ]
    assert [(record.start, record.lang) for record in records] == expected


def test_known_output() -> None:
    """These bytes are what every machine must give: a change here changes everybody's collections."""
    switched, records = switch("Drink the Cold water in every TOWN, lemon!", "d1", policy(1.0), TOY, seed=1)
    again, _ = switch("Drink the Cold water in every TOWN, lemon!", "d1", policy(1.0), Lexicons(toy()), seed=1)
    assert switched == again
    assert [tuple(record) for record in records] == KNOWN


KNOWN: list[tuple[object, ...]] = [
    (0, 5, "Drink", "Drink-de", "de", "toy", 0),
    (10, 14, "Cold", "Cold-nl", "nl", "toy", 0),
    (15, 20, "water", "water-ru", "ru", "toy", 0),
    (21, 23, "in", "in-ru", "ru", "toy", 0),
    (24, 29, "every", "every-nl", "nl", "toy", 0),
    (30, 34, "TOWN", "TOWN-RU", "ru", "toy", 0),
    (36, 41, "lemon", "lemon-it", "it", "toy", 0),
]


def test_draws_are_keyed_by_seed_epoch_side_and_id() -> None:
    """Each of them gives other draws; the same give the same, whatever was switched before."""
    text = " ".join(ENGLISH * 3)
    first = switch(text, "a", policy(), TOY, 1)
    assert switch("something else", "b", policy(), TOY, 1) and switch(text, "a", policy(), TOY, 1) == first
    others = [switch(text, "b", policy(), TOY, 1), switch(text, "a", policy(), TOY, 2), switch(text, "a", policy(), TOY, 1, 1)]
    others.append(switch(text, "a", policy(), TOY, 1, 0, "query"))
    assert all(other != first for other in others)


def test_a_higher_probability_switches_a_superset() -> None:
    """The draws do not depend on p, so a sweep over p compares like with like."""
    text = " ".join(ENGLISH * 3)
    places = [{record[:4] for record in switch(text, "a", policy(p), TOY, 1)[1]} for p in (0.25, 0.5, 0.75, 1.0)]
    assert places[0] < places[1] < places[2] < places[3]


def test_rates_and_languages() -> None:
    """20,000 passages: the switching rate of covered words is p within a binomial bound, and languages are uniform."""
    chosen = policy(0.5)
    covered = switched = 0
    languages: Counter[str] = Counter()
    text = " ".join(ENGLISH)
    cut = Words.of(text, "en")
    for number in range(20_000):
        for _, hit, lang, known in decisions(cut, chosen.passage.rules[0], f"{key_for(7, 0, 'passage', str(number))}\x1f0", TOY):
            covered += known
            switched += hit and known
            languages[lang] += 1
    assert sum(len(switch(text, str(number), chosen, TOY, 7)[1]) for number in range(2_000)) == sum(
        hit and known
        for number in range(2_000)
        for _, hit, _, known in decisions(cut, chosen.passage.rules[0], f"{key_for(7, 0, 'passage', str(number))}\x1f0", TOY)
    )
    assert binomtest(switched, covered, 0.5).pvalue > 0.001
    assert sum(languages.values()) == 20_000 * len(ENGLISH)
    assert chisquare([languages[lang] for lang in LANGS]).pvalue > 0.001


def test_weights() -> None:
    """A language of weight 3 comes three times as often as one of weight 1."""
    rule = Rule("multilingual", (("de", 3.0), ("ru", 1.0)), 1.0, lexicon="toy")
    counts = Counter(record.lang for number in range(3000) for record in switch("fresh lemon", str(number), Policy("w", Side(), Side((rule,))), TOY, 1)[1])
    assert binomtest(counts["de"], counts.total(), 0.75).pvalue > 0.001


def test_sampled_translations_go_by_score() -> None:
    """With scores 1 and 1/2 the first comes in two thirds; the best is always the first."""
    ranks = Counter(
        record.rank for number in range(3000) for record in switch("lemon lemon", str(number), policy(1.0, choose="sampled", langs=("de",)), TOY, 1)[1]
    )
    assert binomtest(ranks[0], ranks.total(), 2 / 3).pvalue > 0.001
    assert {record.rank for number in range(50) for record in switch("lemon", str(number), policy(1.0, langs=("de",)), TOY, 1)[1]} == {0}


def test_function_words_may_stay() -> None:
    """With function words off, they are left and the others are not."""
    text = "the water is cold in every old town"
    replaced = {record.original for number in range(30) for record in switch(text, str(number), policy(1.0, function_words=False), TOY, 1)[1]}
    assert replaced == {"water", "cold", "old", "town"}
    assert {"the", "is", "in", "every"} <= FUNCTION_WORDS


def test_texts_that_stay_english() -> None:
    """A share of the texts stays whole, and which ones does not depend on p."""
    rule = policy(1.0).passage.rules
    staying = Policy("stay", Side(), Side(rule, stays_english=0.3))
    unchanged = [number for number in range(3000) if not switch(" ".join(ENGLISH), str(number), staying, TOY, 1)[1]]
    seldom = Policy("seldom", Side(), Side((rule[0]._replace(probability=0.5),), stays_english=0.3))
    assert set(unchanged) <= {number for number in range(3000) if not switch(" ".join(ENGLISH), str(number), seldom, TOY, 1)[1]}
    assert binomtest(len(unchanged), 3000, 0.3).pvalue > 0.001


def test_bilingual_leaves_an_english_side_alone() -> None:
    """BL-CS en-de: no query changes, passage words become German."""
    built = Policy.load("bl-cs", {"query": "en", "passage": "de"})
    assert built.query.rules == () and [rule.languages for rule in built.passage.rules] == [(("de", 1.0),)]
    given = Lexicons({("open", "en", "de"): TOY.find("toy", "en", "de")})
    assert switch("every old town", "q", built, given, 1, side="query") == ("every old town", [])
    assert {record.lang for number in range(20) for record in switch("every old town", str(number), built, given, 1)[1]} == {"de"}


def test_words_of_a_language_without_spaces_touch() -> None:
    """But for those apart by more than a space, and beside words that stay."""
    chinese = Lexicons({("toy", "en", "zh"): lexicon("zh", {"water": ["水"], "is": ["是"], "cold": ["冷"]})})
    text = "Water is cold, cold water is fresh  cold"
    switched, records = switch(text, "id", policy(1.0, "bilingual", ("zh",)), chinese, 1)
    assert switched == "水是冷, 冷水是 fresh  冷" and rebuilt(switched, records) == text
    assert [record.original for record in records] == ["Water", " is", " cold", "cold", " water", " is", "cold"]


def test_bilingual_with_several_languages_draws_one_a_text() -> None:
    """By the weights; which words switch is as with that language alone, and the counts of a collection say the same."""
    from csrerank.switching.rates import count_decisions

    rule = Rule("bilingual", (("de", 3.0), ("ru", 1.0)), 0.5, lexicon="toy")
    many, ones = Policy("m", Side(), Side((rule,))), {lang: Policy("o", Side(), Side((rule._replace(languages=((lang, 1.0),)),))) for lang in ("de", "ru")}
    text, drawn = " ".join(ENGLISH), Counter[str]()
    for number in range(2000):
        switched, records = switch(text, str(number), many, TOY, 1)
        if records:
            (lang,) = {record.lang for record in records}
            drawn[lang] += 1
            assert (switched, records) == switch(text, str(number), ones[lang], TOY, 1)
    assert binomtest(drawn["de"], drawn.total(), 0.75).pvalue > 0.001
    counts = count_decisions([(str(number), text) for number in range(2000)], many, "passage", TOY, 1, 0)
    switches = Counter(record.lang for number in range(2000) for record in switch(text, str(number), many, TOY, 1)[1])
    assert {lang: counts[f"chosen/{lang}"] for lang in ("de", "ru")} == switches


TITLES = Lexicons(
    {
        ("names", "en", "de"): lexicon("de", {"new york": ["Neu-York"], "new": ["Neu"], "york": ["Jork"], "st. louis": ["Sankt Ludwig"], "art": ["Kunst"]}),
        ("names", "en", "ru"): lexicon("ru", {"new york": ["Нью-Йорк"], "the new york times": ["четыре слова"], "art": ["искусство"]}),
    }
)


def test_titles_longest_first_whole_words_one_language() -> None:
    """Phrases before their words, up to three words, nothing inside a word, one language a text."""
    wiki = policy(1.0, "titles", ("de",), "names")
    assert switch("A start in New York, near St. Louis: Art!", "t", wiki, TITLES, 1)[0] == "A start in Neu-York, near Sankt Ludwig: Kunst!"
    both = policy(1.0, "titles", ("de", "ru"), "names")
    drawn = [{record.lang for record in switch("New York art", str(number), both, TITLES, 1)[1]} for number in range(200)]
    assert {len(langs) for langs in drawn} == {1}
    assert binomtest(sum(langs == {"de"} for langs in drawn), 200, 0.5).pvalue > 0.001
    hyphened = Lexicons({("names", "en", "de"): lexicon("de", {"x-ray": ["Röntgenbild"]})})
    assert switch("An X-ray, an x ray", "t", wiki, hyphened, 1)[0] == "An Röntgenbild, an x ray"
    assert switch("New \ud800 York", "t", wiki, TITLES, 1)[0] == "Neu \ud800 Jork"
    four = policy(1.0, "titles", ("ru",), "names")
    assert switch("The New York Times", "t", four, TITLES, 1)[0] == "The Нью-Йорк Times"


def test_composition_never_switches_twice() -> None:
    """Titles first, then words among what is left."""
    lexicons = Lexicons(
        {**{key: TITLES.find(*key) for key in [("names", "en", "de")]}, ("toy", "en", "ru"): lexicon("ru", {"new": ["новый"], "town": ["город"]})}
    )
    rules = (Rule("titles", (("de", 1.0),), 1.0, lexicon="names"), Rule("multilingual", (("ru", 1.0),), 1.0, lexicon="toy"))
    switched, records = switch("new town, New York", "t", Policy("both", Side(), Side(rules)), lexicons, 1)
    assert switched == "Neu город, Neu-York" and rebuilt(switched, records) == "new town, New York"


def test_translate_from_any_language() -> None:
    """German by lemma, Arabic without clitics, Chinese by longest match with the spaces that English needs."""
    lexicons = Lexicons(
        {
            ("toy", "de", "en"): lexicon("en", {"haus": ["house"], "wasser": ["water"]}, "de"),
            ("toy", "ar", "en"): lexicon("en", {"ماء": ["water"], "كتاب": ["book"]}, "ar"),
            ("toy", "zh", "en"): lexicon("en", {"中国": ["China"], "中": ["middle"], "水": ["water"], "e": ["no"]}, "zh"),
            ("toy", "th", "en"): lexicon("en", {"ก": ["K"], "กา": ["crow"]}, "th"),
            ("toy", "it", "en"): lexicon("en", {"i": ["the"]}, "it"),
            ("toy", "tr", "en"): lexicon("en", {"ilk": ["first"], "ışık": ["light"]}, "tr"),
        }
    )

    def translated(text: str, lang: str) -> str:
        rule = Rule("translate", (("en", 1.0),), 1.0, source=lang, lexicon="toy")
        switched, records = switch(text, "t", Policy("tt", Side(), Side((rule,))), lexicons, 1)
        assert rebuilt(switched, records) == text
        return switched

    assert translated("Alte Häuser am Wasser.", "de") == "Alte Houses am Water.".replace("Houses", "House")
    assert translated("والكتاب كِتَابٌ", "ar") == "book book"
    assert translated("中国水好，水。", "zh") == "China water 好，water。"
    assert translated("2008年水email，3水", "zh") == "2008年 water email，3 water"
    assert translated("กี่กา", "th") == "กี่ crow" and translated("I ragazzi", "it") == "The ragazzi"
    twice = Rule("translate", (("en", 1.0),), 1.0, source="zh", lexicon="toy")
    both = Policy("two", Side(), Side((twice, twice._replace(lexicon="more"))))
    more = {("more", "zh", "en"): lexicon("en", {"火": ["fire"]}, "zh"), ("toy", "zh", "en"): lexicon("en", {"水": ["water"]}, "zh")}
    assert switch("水火木", "t", both, Lexicons(more), 1)[0] == "water fire 木"
    halves = {switch("水水水", str(number), Policy("h", Side(), Side((twice._replace(probability=0.5),))), Lexicons(more), 1)[0] for number in range(60)}
    assert len(halves) == 8  # each word of a run draws for itself
    assert translated("İlk IŞIK ışık", "tr") == "First LIGHT light"


SCRIPT = """
from test_codeswitch import ENGLISH, TOY, policy
from csrerank.codeswitch import switch
for number in range(200):
    print(switch(" ".join(ENGLISH), str(number), policy(0.5, choose="sampled"), TOY, 3))
"""


def test_hash_seed_does_not_matter() -> None:
    """Two processes with other PYTHONHASHSEEDs print the same."""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent)}, capture_output=True, text=True, check=True
        )
        for seed in ("0", "1")
    ]
    assert outputs[0].stdout == outputs[1].stdout and outputs[0].stdout.count("\n") == 200


POLICY = """name: mine
query:
  rules: []
passage:
  stays-english: 0.2
  rules:
    - strategy: multilingual
      languages: {de: 2, ru: 1}
      probability: 0.25
      choose: sampled
      function-words: false
      lexicon: wiktionary+freedict
"""


def test_a_policy_file(tmp_path: Path) -> None:
    """A user's file is read as it says, and plain() spells it again."""
    path = tmp_path / "mine.yaml"
    path.write_text(POLICY)
    mine = Policy.load(path)
    assert mine.passage == Side((Rule("multilingual", (("de", 2.0), ("ru", 1.0)), 0.25, "en", False, "sampled", "wiktionary+freedict"),), 0.2)
    import yaml

    path.write_text(yaml.safe_dump(mine.plain()))
    assert Policy.load(path).fingerprint == mine.fingerprint
    rule = Rule("multilingual", (("de", 2), ("ru", 2)), 1)
    assert (
        Policy("a", Side((rule,)), Side()).fingerprint
        == Policy("b", Side((rule._replace(languages=(("de", 1.0), ("ru", 1.0)), probability=1.0),)), Side()).fingerprint
    )
    assert mine.lexicons() == [("wiktionary+freedict", "en", "de"), ("wiktionary+freedict", "en", "ru")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("multilingual", "all"), "mine.yaml:7: strategy must be one of bilingual, multilingual, titles, translate, found 'all'"),
        (("0.25", "25%"), "mine.yaml:9: probability must be a number from 0 to 1, found '25%'"),
        (("0.25", "1.5"), "mine.yaml:9: probability must be a number from 0 to 1, found 1.5"),
        (("0.25", "yes"), "mine.yaml:9: probability must be a number from 0 to 1, found True"),
        (("{de: 2, ru: 1}", "[de, xx]"), "mine.yaml:8: unknown language 'xx'; known are"),
        (("{de: 2, ru: 1}", "[de, de]"), "mine.yaml:8: languages must name at least one language, each once"),
        (("{de: 2, ru: 1}", "{de: 0}"), "mine.yaml:8: a language's weight must be a number above 0"),
        (("{de: 2, ru: 1}", "[en, de]"), "mine.yaml:8: en is the source language"),
        (("{de: 2, ru: 1}", "de"), "mine.yaml:8: languages must be a list"),
        (("{de: 2, ru: 1}", "{de: 2, ru: 1, de: 5}"), "mine.yaml:8: languages must name at least one language, each once"),
        (("{de: 2, ru: 1}", "[{de: 2}]"), "mine.yaml:8: unknown language {'de': 2}"),
        (("{de: 2, ru: 1}", "[[de]]"), "mine.yaml:8: unknown language ['de']"),
        (("{de: 2, ru: 1}", "[no]"), "mine.yaml:8: unknown language False"),
        (("{de: 2, ru: 1}", "{de: " + "9" * 400 + "}"), "mine.yaml:8: a language's weight must be a number above 0"),
        (("{de: 2, ru: 1}", "!!python/name:os.system"), "mine.yaml:8: languages must be a list"),
        (("{de: 2, ru: 1}", "[!env HOME]"), "mine.yaml:8: a value that no policy has"),
        (("{de: 2, ru: 1}", "&a [*a]"), "mine.yaml:8: "),
        (("0.25", "!!int abc"), "mine.yaml:9: a value that no policy has"),
        (("0.25", "2024-13-45"), "mine.yaml:9: a value that no policy has"),
        (("choose: sampled", "[a]: sampled"), "mine.yaml:10: a rule knows no"),
        (("{de: 2, ru: 1}", "[" * 3000), "mine.yaml:"),
        (("choose: sampled\n      function-words: false", "source: zh"), "mine.yaml:10: multilingual needs a language that puts spaces between words, not zh"),
        (("choose: sampled", "source: [en]"), "mine.yaml:10: unknown language ['en']"),
        (("probability", "probabilty"), "mine.yaml:9: a rule knows no 'probabilty'; it has strategy, languages, probability"),
        (("choose: sampled", "choose: random"), "mine.yaml:10: choose must be one of best, sampled, found 'random'"),
        (("function-words: false", "function-words: no thanks"), "mine.yaml:11: function-words must be true or false"),
        (("name: mine\n", ""), "mine.yaml:1: name is missing"),
        (("  rules: []", "  rules:"), "mine.yaml:3: query needs rules, a list"),
        (("rules: []", "rules: ["), "mine.yaml:3: not YAML"),
        (("stays-english: 0.2", "stays-english: 0.2\n  stays-english: 0.3"), "mine.yaml:6: 'stays-english' stands twice"),
        (("strategy: multilingual", "strategy: translate"), "mine.yaml:8: translate takes one language, found 2"),
        (
            ("strategy: multilingual\n      languages: {de: 2, ru: 1}", "strategy: bilingual\n      languages: [en, de]"),
            "en is the source language; take it out",
        ),
        (("languages: {de: 2, ru: 1}", 'languages: ["{passage}"]'), "mine.yaml:8: {passage} needs a language pair"),
    ],
)
def test_a_broken_policy_names_its_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    """One line with file, line and mend."""
    from csrerank.errors import InputError

    path = tmp_path / "mine.yaml"
    path.write_text(POLICY.replace(*change, 1))
    with pytest.raises(InputError) as caught:
        Policy.load(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)
