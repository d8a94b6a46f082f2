"""Why induced lexicons are as right as they are: the share of gold words whose translation is in the target list at all, and P@1, by the length of that list.

    python benchmarks/induction.py --languages de,ru,it,es [--target-words 40000,80000] [--seeds wiktionary,wiktionary+freedict]
    python benchmarks/induction.py --languages de,ru,ar,nl,it,es,zh --thresholds

``--thresholds`` prints, for mutual neighbours above each score, P@1 and the share of the gold words kept, on the chosen-on words alone: what
``embeddings.THRESHOLDS`` was read from. Otherwise P@1 is of CSLS without filter, as ``induced-csls`` is made; *chosen on* are MUSE's first 5,000 words, *test* those at places 5,000 to 6,500. Vectors are kept in
the cache; ten minutes a language and list on one core to begin with.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from csrerank.cache import cache_folder
from csrerank.lexicons.catalogue import find
from csrerank.lexicons.embeddings import ENCODER, SEED, chosen, cross_fitted, ranked, seed_pairs, spaces_of, translated
from csrerank.lexicons.lexicon import Source, StoredLexicon, key_of
from csrerank.lexicons.quality import RANKS, Gold, _gold_entries, gold_words, precision
from csrerank.lexicons.vectors import WORDS, centred, log_frequencies, target_words, word_list, word_vectors

CHOSEN_ON = (0, 5_000)


def reachable(gold: Gold, targets: set[str]) -> float:
    """The share of gold words of which a translation is among ``targets``: no method can be right more often."""
    return sum(not targets.isdisjoint(found) for found in gold.values()) / len(gold)


def vectors(words: list[str]) -> np.ndarray:
    """Both layers' vectors of words, as the product joins them."""
    return np.hstack([centred(layer) for layer in word_vectors(words, cache_folder() / ENCODER, cache_folder())])


def thresholds(lang: str) -> Iterator[str]:
    """Lines of threshold, P@1 of the gold words kept, and their share."""
    gold = gold_words(_gold_entries("muse", lang), CHOSEN_ON)
    source, target, spaces = spaces_of("en", lang)
    ranking = ranked(spaces, len(target), "csls")
    for threshold in (place / 100 for place in range(46, 63)):
        made = StoredLexicon.compiled(chosen(ranking, source, target, True, threshold), Source("induced", ""), "en", lang)
        found = precision(made, gold)
        yield f"{lang:4} {threshold:.2f} {found.p1_covered:.3f} {found.covered:.3f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--languages", required=True)
    parser.add_argument("--target-words", default=str(WORDS))
    parser.add_argument("--seeds", default=SEED)
    parser.add_argument("--thresholds", action="store_true")
    arguments = parser.parse_args()
    if arguments.thresholds:
        print("lang threshold P@1 kept")
        for lang in arguments.languages.split(","):
            print("\n".join(thresholds(lang)), flush=True)
        return
    source = word_list("en")
    left = vectors(source)
    print("lang  target words  seed                  reachable chosen-on  test   P@1 chosen-on  test")
    for lang in arguments.languages.split(","):
        golds = [gold_words(_gold_entries("muse", lang), ranks) for ranks in (CHOSEN_ON, RANKS)]
        for count in map(int, arguments.target_words.split(",")):
            target = target_words(lang, count)
            keys, right = {key_of(word) for word in target}, vectors(target)
            bounds = [reachable(gold, keys) for gold in golds]
            for seed in arguments.seeds.split(","):
                pairs = seed_pairs(find(seed, "en", lang), source, target)
                spaces = cross_fitted(source, left, right, pairs, (log_frequencies(source, "en"), log_frequencies(target, lang)))
                made = StoredLexicon.compiled(translated(spaces, source, target, mutual=False), Source("induced", ""), "en", lang)
                rights = [precision(made, gold).p1 for gold in golds]
                print(f"{lang:4} {count:13} {seed:22} {bounds[0]:18.3f} {bounds[1]:6.3f} {rights[0]:14.3f} {rights[1]:6.3f}", flush=True)


if __name__ == "__main__":
    main()
