"""``csrerank translate`` with Apertium itself (Debian's apertium and apertium-eng-spa), where it is installed."""

import json
import shutil
import subprocess
from pathlib import Path

import ir_datasets
import pytest
from ir_datasets.datasets.base import Dataset
from test_training import Held, Sentence

from csrerank.collections.catalogue import MemoryDocs
from csrerank.errors import InputError
from csrerank.training import translating
from csrerank.training.translations import read_translations

ENG_SPA = "apertium -u eng-spa"


def has_pair() -> bool:
    return shutil.which("apertium") is not None and "eng-spa" in subprocess.run(["apertium", "-l"], capture_output=True, text=True, check=False).stdout.split()


pytestmark = pytest.mark.skipif(not has_pair(), reason="Apertium's eng-spa is not at hand; Debian's apertium and apertium-eng-spa have it")

TEXTS = [
    "The house is big.",
    "The xyzzyq frobnicator is unknown",  # the next line's first word would come before its last one
    "*star* **two**",
    "the dog eats",
    "",
    " \t \u2028 ",
    "What is the ^capital$ of France?",
    r"a < b > c / d {x} {y} \ @ # [bracket] [ ] ~ + |",
    "[",
    "]",
    "^",
    "$",
    "\\",
    "^word/palabra<n><sg>$ [<STREAMCMD:SETVAR:x>] [[t:b:1]]the cat[[/]]",
    "the\tcat\nand\r\nthe dog",
    "A whale \U0001f40b and \U0001d518\U0001d52b\U0001d526 \U00010437",
    "\ufeffthe\u200bcat \u0301 \x01",
    "the whale is in the city " * 300,
    "x" * 5000,
    "5^2 = 25 & $5 <b>bold</b> &amp; http://example.com/a?b=c#d",
    "No full stop here",
]  # fmt: skip


@pytest.fixture(scope="module")
def dataset() -> str:
    """TEXTS as documents, and the toy topics, which end without a mark."""
    name = "toy-apertium"
    if name not in ir_datasets.registry._registered:
        rows = [Sentence(f"d{number}", text, "") for number, text in enumerate(TEXTS)]
        ir_datasets.registry.register(name, Dataset(MemoryDocs(lambda: rows, name, "en", Sentence), Held()))
    return name


def test_every_line_is_the_translation_of_its_text(dataset: str, tmp_path: Path) -> None:
    output = tmp_path / "es.jsonl"
    blank = [f"d{number}" for number, text in enumerate(TEXTS) if not text.strip()]
    assert translating.translate_dataset(dataset, ENG_SPA, output, quiet=True) == {"query": 4, "passage": len(TEXTS) - len(blank)}
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == [f"q{number}" for number in range(4)] + [f"d{number}" for number in range(len(TEXTS)) if f"d{number}" not in blank]
    found = read_translations(output)
    for number in range(4):
        (text,) = found["query", f"q{number}"]
        assert text.startswith("La ballena de ") and text.endswith(str(number))
    for number, text in enumerate(TEXTS):
        if text.strip():
            (made,) = found["passage", f"d{number}"]
            assert made == " ".join(made.split())
            for mark in "^$<>{}\\/@#*[]~+|&":
                assert made.count(mark) == text.count(mark), (text, made)
    by_text = {text: found["passage", f"d{number}"][0] for number, text in enumerate(TEXTS) if text.strip()}
    assert by_text["The house is big."] == "La casa es grande."
    assert by_text["The xyzzyq frobnicator is unknown"].endswith("desconocido") and "strella" in by_text["*star* **two**"]
    assert by_text["the\tcat\nand\r\nthe dog"].lower() == "el gato y el perro"
    assert all(letter in by_text[TEXTS[15]] for letter in "\U0001f40b\U0001d518\U0001d52b\U0001d526\U00010437")
    assert by_text["x" * 5000] == "x" * 5000 and by_text[TEXTS[17]].count("ballena") == 300


def test_a_killed_job_gives_the_same_bytes(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translating, "_BLOCK", 7)
    whole, again = tmp_path / "whole.jsonl", tmp_path / "again.jsonl"
    translating.translate_dataset(dataset, ENG_SPA, whole, quiet=True)
    program, calls = translating._translated, []

    def killed(*given: list[str]) -> list[str]:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return program(*given)

    monkeypatch.setattr(translating, "_translated", killed)
    with pytest.raises(KeyboardInterrupt):
        translating.translate_dataset(dataset, ENG_SPA, again, quiet=True)
    part = tmp_path / "again.jsonl.part"
    part.write_bytes(part.read_bytes()[:-100])
    translating.translate_dataset(dataset, ENG_SPA, again, quiet=True)
    assert again.read_bytes() == whole.read_bytes() and not part.exists()


def test_a_pair_that_is_not_installed_is_refused_in_one_line(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^--command apertium -u eng-xyz: failed with exit code 1 \(Error: Mode eng-xyz does not exist.*\); mend the command$"
    ):
        translating.translate_dataset(dataset, "apertium -u eng-xyz", tmp_path / "never.jsonl", quiet=True)
    assert not list(tmp_path.iterdir())
