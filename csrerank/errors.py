"""The one exception for bad input: the command line prints it as a single line and exits with code 2."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line that names the file (and line, where there is one), what is wrong, and how to mend it:
    ``bm25.trec:17: 5 columns where a TREC run has 6 (qid Q0 docid rank score tag); add the missing one``.
    """
