"""``switch``: one text, switched by a policy, with a record of every replacement. A pure function of its arguments."""

from collections.abc import Sequence

from csrerank.codeswitch.policy import Policy
from csrerank.codeswitch.strategies import STRATEGIES
from csrerank.codeswitch.tables import Lexicons, Switch, Words, text_draw


def key_for(seed: int, epoch: int, side: str, identifier: str) -> str:
    """What a text's draws are keyed by."""
    return f"{seed}\x1f{epoch}\x1f{side}\x1f{identifier}"


def switch(text: str, identifier: str, policy: Policy, lexicons: Lexicons, seed: int, epoch: int = 0, side: str = "passage") -> tuple[str, list[Switch]]:
    """``text`` switched, and the records, in order of place, none overlapping.

    :param identifier: the record's id: with seed, epoch and side it keys every draw.
    :param side: ``query`` or ``passage``: which of the policy's sides applies.
    """
    rules = policy.side(side)
    key = key_for(seed, epoch, side, identifier)
    if not rules.rules or (rules.stays_english and text_draw(key) < rules.stays_english):
        return text, []
    switches: list[Switch] = []
    for number, rule in enumerate(rules.rules):
        cut = Words.of(text, rule.source)
        found = STRATEGIES[rule.strategy](cut, rule, f"{key}\x1f{number}", lexicons, switches)
        switches = sorted(switches + found) if switches else found
    return applied(text, switches), switches


def applied(text: str, switches: Sequence[Switch]) -> str:
    """``text`` with the recorded replacements made."""
    if not switches:
        return text
    # By comprehensions: every switched word of a collection passes here.
    pieces = [""] * (2 * len(switches) + 1)
    pieces[1::2] = [record[3] for record in switches]
    ends, starts = [0, *(record[1] for record in switches)], [*(record[0] for record in switches), len(text)]
    pieces[::2] = [text[end:start] for end, start in zip(ends, starts, strict=True)]
    return "".join(pieces)


def rebuilt(switched: str, switches: Sequence[Switch]) -> str:
    """The original text, from the switched one and its records."""
    pieces: list[str] = []
    place = shift = 0
    for record in switches:
        start = record.start + shift
        pieces += (switched[place:start], record.original)
        place = start + len(record.replacement)
        shift += len(record.replacement) - (record.end - record.start)
    return "".join((*pieces, switched[place:]))
