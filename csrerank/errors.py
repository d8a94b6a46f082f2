"""The one exception for bad input: the command line prints it as a single line and exits with code 2; and what its messages are made of."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line that names the file (and line, where there is one), what is wrong, and how to mend it:
    ``bm25.trec:17: 5 columns where a TREC run has 6 (qid Q0 docid rank score tag); add the missing one``.
    """


def printable(text: str) -> str:
    """A name as a message may carry it: on one line."""
    return text if text.isprintable() else repr(text)


def reason(error: BaseException) -> str:
    """What the system or a library says of an error, on one line and without its full stop."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".").replace("\n", " ")
