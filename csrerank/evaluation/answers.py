"""Answer recall, the measure of XOR-Retrieve: does an answer stand in the first 2,000 or 5,000 tokens of a topic's passages?

Re-implemented from the organisers' description and script (github.com/AkariAsai/XORQA, evals/eval_xor_retrieve.py):

- a question counts if it has an answer other than ``yes`` and ``no``, and those answers alone are looked for;
- the passages' texts, in rank order, are tokenised one by one and their tokens joined with single spaces, as far as the budget goes;
- an answer is found if it stands in that string, exactly as written: case and accents count, and the answer itself is not tokenised;
- a language's value is the mean over its questions, and over several languages the mean of their values.

One difference: the script leaves out a question that the file lacks; here it counts as 0, as everywhere in csrerank.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from csrerank.errors import InputError
from csrerank.evaluation.measures import Measure, Scores

Tokenize = Callable[[str], list[str]]

YES_NO = ("yes", "no")
# The first is the default. They differ in where sentences end, for a full stop is a token of its own only there; docs/xor-retrieve.md has the figures.
TOKENIZERS = {
    "pysbd": "NLTK's word_tokenize on pysbd's sentences, the organisers' within 0.1 %",
    "treebank": "NLTK's word_tokenize on whole passages, 3 % fewer than the organisers'",
    "punkt": "NLTK's word_tokenize with its punkt model, as the organisers have it",
}
_PATTERN = re.compile(r"(?:R|Recall)@([1-9][0-9]{0,3})kt", re.IGNORECASE)


class Questions(NamedTuple):
    """The questions that count: topic -> the answers that are looked for, and topic -> language (empty where the dataset names none)."""

    answers: Mapping[str, Sequence[str]]
    languages: Mapping[str, str]


class AnswerScores(Scores):
    """Scores of answer recall; the mean over several languages is the mean of theirs."""

    def __init__(
        self,
        values: Mapping[str, Mapping[str, float]],
        missing: tuple[str, ...] = (),
        unjudged: tuple[str, ...] = (),
        languages: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(values, missing, unjudged)
        self._languages = languages or {}

    def by_language(self, measure: Measure | str) -> dict[str, float]:
        """The mean of each language, by name; of topics without one under the empty string. KeyError: it was not evaluated."""
        groups: dict[str, list[float]] = {}
        for topic, value in self[measure.name if isinstance(measure, Measure) else measure].items():
            groups.setdefault(self._languages.get(topic, ""), []).append(value)
        return {lang: math.fsum(groups[lang]) / len(groups[lang]) for lang in sorted(groups)}

    def mean(self, measure: Measure | str) -> float:
        """The mean of the languages' means. KeyError: it was not evaluated."""
        means = self.by_language(measure).values()
        return math.fsum(means) / len(means)


def answer_measures(names: Sequence[str]) -> dict[str, int]:
    """The tokens of each measure by its name, ``{"R@2kt": 2000}``; empty where none of ``names`` is answer recall.

    Raises ``InputError`` where only some are: the others take judgements.
    """
    tokens: dict[str, int] = {}
    others = []
    for name in names:
        match = _PATTERN.fullmatch(name)
        if match:
            tokens[f"R@{match[1]}kt"] = 1000 * int(match[1])
        else:
            others.append(name)
    if tokens and others:
        raise InputError(f"measure {next(iter(tokens))} looks for answers and {others[0]} takes judgements; score them in two calls")
    return tokens


def tokenizer(name: str) -> Tokenize:
    """The tokenizer of this name, one of ``TOKENIZERS``. Raises ``InputError`` for another, and where NLTK or its model is not installed."""
    if name not in TOKENIZERS:
        raise InputError(f"tokenizer {name!r} is unknown; choose one of {', '.join(TOKENIZERS)}")
    try:
        from nltk.tokenize import word_tokenize
    except ImportError:
        raise InputError("R@2kt and R@5kt count tokens with NLTK, which is not installed; pip install csrerank[xor]") from None
    by_line = partial(word_tokenize, preserve_line=True)
    if name != "punkt":
        return by_line if name == "treebank" else partial(_by_sentence, by_line)
    try:
        word_tokenize("One. Two.")
    except LookupError:
        raise InputError("--tokenizer punkt: NLTK's punkt model is not installed; python -m nltk.downloader punkt_tab, or leave --tokenizer out") from None
    return word_tokenize


def _by_sentence(tokenize: Tokenize, passage: str) -> list[str]:
    from csrerank.collections.en_qa import split_sentences

    # Cut where sentences start, because pysbd loses text here and there ("F–C–Dm–B♭").
    starts = sorted({start for start, _ in split_sentences(passage)})
    return [token for start, end in pairwise([0, *starts[1:], len(passage)]) for token in tokenize(passage[start:end])]


def dataset_questions(dataset_id: str) -> Questions:
    """The questions of an ir_datasets id that have an answer to look for. Raises ``InputError`` where its topics have none."""
    from csrerank.collections.catalogue import load

    dataset = load(dataset_id)
    fields = dataset.queries_cls()._fields if dataset.has_queries() else ()
    if "answers" not in fields:
        raise InputError(f"{dataset_id}: its topics have no answers to look for; give a dataset such as csrerank/xor-retrieve/ja-en/dev")
    answers: dict[str, Sequence[str]] = {}
    languages: dict[str, str] = {}
    for question in dataset.queries_iter():
        spans = tuple(answer for answer in question.answers if answer not in YES_NO)
        if spans:
            answers[question.query_id] = spans
            if "lang" in fields:
                languages[question.query_id] = question.lang
    if not answers:
        raise InputError(f"{dataset_id}: no topic has an answer other than yes and no; give another dataset")
    return Questions(answers, languages)


def answered(passages: Iterable[str], answers: Sequence[str], budgets: Sequence[int], tokenize: Tokenize) -> list[float]:
    """For each budget (a number of tokens) 1.0 if an answer stands in as many first tokens of the passages, else 0.0; passages are read as far as needed."""
    tokens: list[str] = []
    for passage in passages:
        tokens += tokenize(passage)
        if len(tokens) >= max(budgets):
            break
    starts = [" ".join(tokens[:budget]) for budget in budgets]
    return [float(any(answer in start for answer in answers)) for start in starts]


def evaluate_answers(rankings: Iterable[tuple[str, Iterable[str]]], questions: Questions, measures: Mapping[str, int], tokenize: Tokenize) -> AnswerScores:
    """Score rankings by answer recall, each question 0 or 1.

    :param rankings: one ``(topic, its passages' texts, best first)`` a topic, which may be read as a stream
    :param measures: name -> number of tokens, as :func:`answer_measures` gives them
    InputError: a topic comes twice. Questions that the rankings lack score 0 and are ``missing``; topics that do not count are ``unjudged``.
    """
    values = {name: dict.fromkeys(questions.answers, 0.0) for name in measures}
    seen: dict[str, None] = {}
    for topic, passages in rankings:
        if topic in seen:
            raise InputError(f"topic {topic!r} comes twice in the run; put its documents together")
        seen[topic] = None
        if topic in questions.answers:
            found = answered(passages, questions.answers[topic], list(measures.values()), tokenize)
            for name, value in zip(measures, found, strict=True):
                values[name][topic] = value
    missing = tuple(topic for topic in questions.answers if topic not in seen)
    unjudged = tuple(topic for topic in seen if topic not in questions.answers)
    return AnswerScores(values, missing, unjudged, questions.languages)
