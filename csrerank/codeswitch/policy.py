"""Policies: what switches, how often, and into what; a small YAML file that a user can write."""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from csrerank.errors import InputError
from csrerank.languages import LANGUAGES
from csrerank.words import UNSPACED

STRATEGIES = ("bilingual", "multilingual", "titles", "translate")
CHOICES = ("best", "sampled")
SIDES = ("query", "passage")
_RULE_KEYS = ("strategy", "languages", "probability", "source", "function-words", "choose", "lexicon")


class Rule(NamedTuple):
    """One strategy with its settings.

    ``languages`` are targets with their weights; ``probability`` is that of a word (or phrase) to switch; ``choose`` takes the ``best`` translation or one
    ``sampled`` by score; ``function_words`` False leaves words of the closed classes English; ``lexicon`` is a mix by precedence, as ``lexicons.catalogue`` names
    them.
    """

    strategy: str
    languages: tuple[tuple[str, float], ...]
    probability: float = 0.5
    source: str = "en"
    function_words: bool = True
    choose: str = "best"
    lexicon: str = "open"

    def plain(self) -> dict[str, Any]:
        """The rule as a policy file spells it."""
        languages: Any = [lang for lang, _ in self.languages]
        if len({weight for _, weight in self.languages}) > 1:
            languages = {lang: float(weight) for lang, weight in self.languages}
        return dict(
            zip(_RULE_KEYS, (self.strategy, languages, float(self.probability), self.source, self.function_words, self.choose, self.lexicon), strict=True)
        )


class Side(NamedTuple):
    """What happens to queries, or to passages: rules in order (a later one sees only words that the earlier ones left), and how often a text stays as it is."""

    rules: tuple[Rule, ...] = ()
    stays_english: float = 0.0

    def plain(self) -> dict[str, Any]:
        """The side as a policy file spells it."""
        return {"stays-english": float(self.stays_english), "rules": [rule.plain() for rule in self.rules]}


class Policy:
    """A name, a line about it, and what it does to queries and to passages."""

    def __init__(self, name: str, query: Side, passage: Side, about: str = "") -> None:
        self.name, self.query, self.passage, self.about = name, query, passage, about

    def side(self, side: str) -> Side:
        """``query`` or ``passage``."""
        if side not in SIDES:
            raise ValueError(f"side {side!r}: query or passage")
        return self.query if side == "query" else self.passage

    def plain(self) -> dict[str, Any]:
        """The policy as a file spells it, every default written out."""
        return {"name": self.name, "about": self.about, "query": self.query.plain(), "passage": self.passage.plain()}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what the policy does; name and prose are no part of it."""
        does: list[Any] = [self.query.plain(), self.passage.plain()]
        # What csrerank 0.1 wrote with spaces is another text.
        if any(
            rule.strategy == "bilingual" and UNSPACED.intersection(lang for lang, _ in rule.languages)
            for side in (self.query, self.passage)
            for rule in side.rules
        ):
            does.append("words without spaces touch")
        return blake2b(json.dumps(does, sort_keys=True).encode(), digest_size=16).hexdigest()

    def lexicons(self) -> list[tuple[str, str, str]]:
        """(mix, source language, target language) of every lexicon that the policy needs."""
        return sorted({(rule.lexicon, rule.source, lang) for side in (self.query, self.passage) for rule in side.rules for lang, _ in rule.languages})

    @classmethod
    def load(cls, name: str | Path, languages: Mapping[str, str] | None = None) -> "Policy":
        """A built-in policy by name, or a YAML file.

        :param languages: what ``{query}`` and ``{passage}`` in the file stand for. A bilingual or translating rule from a language into itself falls away, which
            leaves an English side alone.
        :raises InputError: naming file and line.
        """
        built_in = files("csrerank.codeswitch") / "policies" / f"{name}.yaml"
        if str(name) in built_ins():
            return _Reader(f"policy {name}", built_in.read_text(encoding="utf-8"), languages or {}).policy()
        path = Path(name)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            if not isinstance(error, UnicodeDecodeError):
                raise InputError(f"{str(name)[:200]}: no such policy; give a YAML file or one of {', '.join(built_ins())}") from error
            raise InputError(f"{path}: not UTF-8 text; save the policy as UTF-8") from error
        return _Reader(str(path), text, languages or {}).policy()


def built_ins() -> list[str]:
    """The names of the policies that csrerank has."""
    return sorted(entry.name.removesuffix(".yaml") for entry in (files("csrerank.codeswitch") / "policies").iterdir() if entry.name.endswith(".yaml"))


class _Reader:
    """Reads a policy's YAML node by node, so that every complaint names its line."""

    def __init__(self, name: str, text: str, languages: Mapping[str, str]) -> None:
        import yaml

        self._yaml, self._name, self._languages = yaml, name, languages
        try:
            self._root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "context_mark", None) or getattr(error, "problem_mark", None)  # where the part began that is not ended
            raise InputError(f"{name}:{mark.line + 1 if mark else 1}: not YAML ({getattr(error, 'problem', None) or 'unreadable'}); mend that line") from error
        except RecursionError as error:
            raise InputError(f"{name}:1: nested too deeply to be a policy; it has name, query and passage") from error

    def _refuse(self, node: Any, message: str) -> InputError:
        return InputError(f"{self._name}:{node.start_mark.line + 1 if node is not None else 1}: {message}")

    def _mapping(self, node: Any, known: tuple[str, ...], what: str) -> dict[str, Any]:
        if not isinstance(node, self._yaml.MappingNode):
            raise self._refuse(node, f"{what} must be a mapping with {', '.join(known)}")
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, self._yaml.ScalarNode) or key.value not in known:
                raise self._refuse(key, f"{what} knows no {str(key.value)[:100]!r}; it has {', '.join(known)}")
            if key.value in found:
                raise self._refuse(key, f"{key.value!r} stands twice; take one out")
            found[key.value] = value
        return found

    def _value(self, node: Any) -> Any:
        try:
            return self._yaml.SafeLoader("").construct_object(node, deep=True)
        except (self._yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise self._refuse(node, "a value that no policy has; write plain words, numbers and lists") from error

    def _number(self, node: Any, what: str) -> float:
        value = self._value(node)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self._refuse(node, f"{what} must be a number from 0 to 1, found {value!r}")
        return float(value)

    def _text(self, node: Any, known: tuple[str, ...] | None, what: str) -> str:
        value = self._value(node)
        if not isinstance(value, str) or (known and value not in known):
            raise self._refuse(node, f"{what} must be {'one of ' + ', '.join(known) if known else 'a text'}, found {value!r}")
        return value

    def _lang(self, node: Any, text: Any) -> str:
        placeholder = text[1:-1] if isinstance(text, str) and text.startswith("{") and text.endswith("}") else None
        if placeholder in SIDES:
            if placeholder not in self._languages:
                raise self._refuse(node, f"{text} needs a language pair; give it with the policy's name (bl-cs/en-de), or write the language's code")
            text = self._languages[placeholder]
        if not isinstance(text, str) or text not in LANGUAGES:
            raise self._refuse(node, f'unknown language {text!r}; known are {" ".join(LANGUAGES)} (quote "no" and the like)')
        return text

    def policy(self) -> Policy:
        found = self._mapping(self._root, ("name", "about", *SIDES), "a policy")
        for needed in ("name", *SIDES):
            if needed not in found:
                raise self._refuse(self._root, f"{needed} is missing; a policy has name, query and passage")
        sides = [self._side(found[side], side) for side in SIDES]
        about = self._text(found["about"], None, "about") if "about" in found else ""
        return Policy(self._text(found["name"], None, "name"), sides[0], sides[1], about)

    def _side(self, node: Any, side: str) -> Side:
        found = self._mapping(node, ("stays-english", "rules"), side)
        rules = found.get("rules")
        if not isinstance(rules, self._yaml.SequenceNode):
            raise self._refuse(rules or node, f"{side} needs rules, a list (it may be empty: [])")
        stays = self._number(found["stays-english"], "stays-english") if "stays-english" in found else 0.0
        return Side(tuple(rule for entry in rules.value for rule in self._rule(entry)), stays)

    def _rule(self, node: Any) -> Iterator[Rule]:
        found = self._mapping(node, _RULE_KEYS, "a rule")
        for needed in ("strategy", "languages"):
            if needed not in found:
                raise self._refuse(node, f"{needed} is missing; a rule has {', '.join(_RULE_KEYS)}")
        strategy = self._text(found["strategy"], STRATEGIES, "strategy")
        source = self._lang(found.get("source"), self._value(found["source"]) if "source" in found else "en")
        languages = self._targets(found["languages"])
        given: dict[str, Any] = {}
        if "probability" in found:
            given["probability"] = self._number(found["probability"], "probability")
        if "function-words" in found:
            given["function_words"] = self._value(found["function-words"])
            if not isinstance(given["function_words"], bool):
                raise self._refuse(found["function-words"], "function-words must be true or false")
            if not given["function_words"] and source != "en":
                raise self._refuse(found["function-words"], f"function words are known for English only, not for {source}; leave function-words out")
        if "choose" in found:
            given["choose"] = self._text(found["choose"], CHOICES, "choose")
        if "lexicon" in found:
            given["lexicon"] = self._text(found["lexicon"], None, "lexicon")
        if strategy == "translate" and len(languages) != 1:
            raise self._refuse(found["languages"], f"translate takes one language, found {len(languages)}")
        if strategy != "translate" and source in UNSPACED:
            raise self._refuse(found["source"], f"{strategy} needs a language that puts spaces between words, not {source}; only translate cuts {source}")
        if strategy in ("bilingual", "translate") and languages[0][0] == source and len(languages) == 1:
            return
        if any(lang == source for lang, _ in languages):
            raise self._refuse(found["languages"], f"{source} is the source language; take it out, and use stays-english for texts that stay")
        yield Rule(strategy, languages, source=source, **given)

    def _targets(self, node: Any) -> tuple[tuple[str, float], ...]:
        if isinstance(node, self._yaml.MappingNode):
            pairs = [(self._lang(key, self._value(key)), self._value(weight)) for key, weight in node.value]
            if any(isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1e9 for _, weight in pairs):
                raise self._refuse(node, "a language's weight must be a number above 0")
        elif isinstance(node, self._yaml.SequenceNode):
            pairs = [(self._lang(lang, self._value(lang)), 1.0) for lang in node.value]
        else:
            raise self._refuse(node, "languages must be a list, or a mapping from language to weight")
        if not pairs or len({lang for lang, _ in pairs}) != len(pairs):
            raise self._refuse(node, "languages must name at least one language, each once")
        return tuple((lang, float(weight)) for lang, weight in pairs)
