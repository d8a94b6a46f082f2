"""``csrerank/xquad-r``: XQuAD-R (LAReQA), 11 languages, 240 parallel paragraphs and 1,190 parallel questions; documents are sentences, or paragraphs."""

import json
from functools import cache

from csrerank.collections.catalogue import Documentation, downloads
from csrerank.collections.parallel import Edition, Parallel, ParallelDoc, register_parallel
from csrerank.languages import XQUAD

NAME = "xquad-r"
TRACKS = {"x4": ("en", "de", "ru", "ar"), "x11": XQUAD}


@cache
def edition(lang: str, unit: str) -> Edition:
    """XQuAD-R in one language, as ``sentences`` or ``paragraphs``.

    Paragraphs are named ``<article>-<paragraph>`` by their places in the file, the same in every language; a sentence adds its place in the paragraph,
    which is each language's own, since sentences were split in each language on its own. A sentence is relevant to a question when the answer's first
    character lies in it, as LAReQA defines it.
    """
    with downloads(NAME)[lang].stream() as stream:
        content = json.load(stream)
    documents: list[ParallelDoc] = []
    topics: dict[str, str] = {}
    judgements: list[tuple[str, str, int]] = []
    for number, article in enumerate(content["data"]):
        for place, paragraph in enumerate(article["paragraphs"]):
            name, text = f"{number:02}-{place}", paragraph["context"]
            if unit == "paragraphs":
                documents.append(ParallelDoc(name, text, text, lang, name))
            else:
                documents += [ParallelDoc(f"{name}-{at}", sentence, text, lang, name) for at, sentence in enumerate(paragraph["sentences"])]
            for qa in paragraph["qas"]:
                topics[qa["id"]] = qa["question"]
                if unit == "paragraphs":
                    judgements.append((qa["id"], name, 1))
                else:
                    starts = {answer["answer_start"] for answer in qa["answers"]}
                    # An answer may begin in the white space between two sentences: it belongs to the one that follows.
                    holding = sorted({next(at for at, (_, end) in enumerate(paragraph["sentence_breaks"]) if start < end) for start in starts})
                    judgements += [(qa["id"], f"{name}-{at}", 1) for at in holding]
    return Edition(documents, topics, judgements)


COLLECTION = Parallel(NAME, XQUAD, edition, {1: "holds the answer"})


def register() -> None:
    """Register the 121 ordered pairs and six MLIR tracks, of sentences and (``.../paragraphs``) of paragraphs."""
    register_parallel(COLLECTION, TRACKS, {"": "sentences", "/paragraphs": "paragraphs"}, Documentation(f"{NAME}.yaml"))
