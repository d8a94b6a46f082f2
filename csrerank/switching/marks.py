"""Switched words made visible in a text: as ``Wasser{de:wiktionary}``, or in a colour a language."""

from collections.abc import Iterable, Mapping, Sequence

from csrerank.codeswitch import Switch

# The colours of Okabe and Ito, which the colour-blind tell apart, by their places among a terminal's 256; black and yellow left out.
PALETTE = (32, 208, 36, 175, 74, 166)


def marked(text: str, switches: Sequence[Switch], colours: Mapping[str, int] | None = None) -> str:
    """``text`` (the original) switched, with the switched words marked; in a terminal's colours by language where ``colours`` are given."""
    pieces, place = [], 0
    for switch in switches:
        pieces += [shown(text[place : switch.start]), _mark(switch, colours)]
        place = switch.end
    return "".join((*pieces, shown(text[place:])))


def _mark(switch: Switch, colours: Mapping[str, int] | None) -> str:
    if colours is None:
        return f"{shown(switch.replacement)}{{{switch.lang}:{switch.source}}}"
    return coloured(f"{shown(switch.replacement)}{{{switch.lang}}}", colours[switch.lang])


def coloured(text: str, colour: int) -> str:
    """``text`` in one of a terminal's 256 colours, bold."""
    return f"\x1b[1;38;5;{colour}m{text}\x1b[0m"


def colours_of(languages: Iterable[str]) -> dict[str, int]:
    """A colour for each language, the same whenever they come in the same order; with more than six they repeat, and the language's code beside each word tells."""
    return {lang: PALETTE[place % len(PALETTE)] for place, lang in enumerate(dict.fromkeys(languages))}


def shown(text: str) -> str:
    """``text`` without what a terminal would take for a command, and on one line."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " if letter.isspace() else "\ufffd" for letter in text)
