"""``csrerank train`` from end to end on toy collections: what it writes and refuses, kill -9 at any moment, torchrun, early stopping.

As a program (``python tests/test_train_command.py FOLDER ARGUMENTS``) this file runs the command and writes the topics of every batch to FOLDER; without arguments
it is a server for the tests: it imports torch once and forks a command for each line that it reads.
"""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from csrerank.codeswitch import Lexicons
from csrerank.collections.demo import edition
from csrerank.errors import InputError

TOPICS, PASSAGES = 24, 60
WORDS = ["whale", "sleep", "mountain", "ash", "river", "stone", "light", "winter", "bread", "cloud", "music", "glass"]


def sentence(*key: object) -> str:
    generator = random.Random(repr(key))
    return " ".join(generator.choices(WORDS, k=generator.randint(3, 9)))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ir_datasets home with a small MS MARCO in its real format, a policy whose lexicon is a file, and a BM25 run."""
    from test_codeswitch import lexicon

    folder = tmp_path_factory.mktemp("home")
    (folder / "msmarco-passage" / "train").mkdir(parents=True)
    (folder / "csrerank" / "msmarco").mkdir(parents=True)
    topics = "".join(f"{1000 + number}\t{sentence('topic', number)}\n" for number in range(TOPICS))
    passages = "".join(f"{number}\t{sentence('passage', number)} {number}\n" for number in range(PASSAGES))
    for name, member, text in (("collectionandqueries", "collection.tsv", passages), ("queries", "queries.train.tsv", topics)):
        with tarfile.open(folder / "msmarco-passage" / f"{name}.tar.gz", "w:gz") as archive:
            entry = tarfile.TarInfo(member)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    (folder / "msmarco-passage" / "train" / "qrels").write_text("".join(f"{1000 + number}\t0\t{number}\t1\n" for number in range(TOPICS)))
    pairs = "".join(f"{1000 + number}\t{number}\t{other}\n" for number in range(TOPICS) for other in (30 + number, 59 - number))
    (folder / "csrerank" / "msmarco" / "qidpidtriples.rnd-shuf.train.tsv.gz").write_bytes(gzip.compress(pairs.encode()))
    run = (f"{1000 + number} Q0 {(number + rank) % PASSAGES} {rank + 1} {20 - rank} bm25\n" for number in range(TOPICS) for rank in range(12))
    (folder / "bm25.trec").write_text("".join(run))
    lexicon("de", {word: [f"{word}chen"] for word in WORDS}).save(folder / "en-de.lex")
    (folder / "mine.yaml").write_text(
        f"name: mine\nquery:\n  rules: []\npassage:\n  rules:\n    - {{strategy: bilingual, languages: [de], probability: 0.5, lexicon: {folder}}}\n"
    )
    return folder


@pytest.fixture(scope="module")
def encoder(toy_encoder: Path) -> Path:
    """The toy encoder, under the name that trainings here use."""
    return toy_encoder


def arguments(home: Path, base: Path, output: Path, *more: object) -> list[str]:
    """A training of 36 steps with a checkpoint every six."""
    given = {
        "--dataset": f"csrerank/msmarco/train/policy:{home / 'mine.yaml'}", "--base": base, "--output": output, "--bm25-run": home / "bm25.trec",
        "--negatives": "bm25=2,docpairs,random", "--negatives-per-topic": 3, "--epochs": 6, "--batch": 4, "--learning-rate": 1e-3, "--max-length": 64,
        "--query-tokens": 24, "--evaluate-every": 6, "--precision": "fp32",
    }  # fmt: skip
    return ["train", *(str(part) for pair in given.items() for part in pair), "--quiet", *map(str, more)]


class Commands:
    """Commands run by a server that imported torch before."""

    def __init__(self, home: Path) -> None:
        environment = {**os.environ, "IR_DATASETS_HOME": str(home), "OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def start(self, *given: str, recorded: Path | None = None) -> int:
        """Start ``csrerank given`` and return its process id."""
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps([str(recorded) if recorded else None, list(given)]) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def end(self) -> tuple[int, str]:
        """Wait for the command that was started last: its exit code, and what it said on standard output and error."""
        assert self._server.stdout
        code, said = json.loads(self._server.stdout.readline())
        return code, said

    def run(self, *given: str, recorded: Path | None = None) -> str:
        """Run ``csrerank given``, which must succeed, and return what it said."""
        self.start(*given, recorded=recorded)
        code, said = self.end()
        assert code == 0, said
        return said

    def close(self) -> None:
        self._server.kill()
        self._server.wait()


@pytest.fixture(scope="module")
def commands(home: Path) -> Iterator[Commands]:
    server = Commands(home)
    yield server
    server.close()


@pytest.fixture(scope="module")
def whole(home: Path, encoder: Path, commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted training."""
    output = tmp_path_factory.mktemp("whole") / "model"
    commands.run(*arguments(home, encoder, output))
    return output


def weights(output: Path) -> bytes:
    return (output / "model.safetensors").read_bytes()


def state(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_lexicons_for_non_commercial_use_take_no_licence(home: Path, encoder: Path, commands: Commands, tmp_path: Path) -> None:
    from test_codeswitch import lexicon

    lexicon("de", {word: [f"{word}chen"] for word in WORDS}, licence="CC BY-NC 4.0").save(tmp_path / "en-de.lex")
    policy = (home / "mine.yaml").read_text().replace(f"lexicon: {home}", f"lexicon: {tmp_path}")
    (tmp_path / "other.yaml").write_text(policy)
    dataset = f"csrerank/msmarco/train/policy:{tmp_path / 'other.yaml'}"
    commands.start(*arguments(home, encoder, tmp_path / "model", "--dataset", dataset, "--licence", "apache-2.0"))
    code, said = commands.end()
    assert code == 2 and f"--licence apache-2.0: {dataset} switches by lexicons for non-commercial use; leave --licence out" in said, said
    assert not (tmp_path / "model").exists()


def test_what_is_written(whole: Path, encoder: Path, home: Path) -> None:
    """A directory that transformers and the re-ranker load, with curves, a record, and a card of what happened; nothing else."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from csrerank.models.checkpoint import directory_hash
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

    assert {path.name for path in whole.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md", "training.json", "curves.tsv", "curves.png",
    }  # fmt: skip
    model, loaded = AutoModelForSequenceClassification.from_pretrained(whole, output_loading_info=True)
    assert model.config.num_labels == 1 and not loaded["missing_keys"] and not loaded["unexpected_keys"]
    assert model.config.sentence_transformers == {"activation_fn": "torch.nn.modules.linear.Identity"}
    assert AutoTokenizer.from_pretrained(whole).model_max_length == 128
    assert Reranker.load(whole, Settings(max_length=64, query_tokens=24)).score("whale", ["whale sleep", "stone"]).shape == (2,)
    table = "embeddings.word_embeddings.weight"
    assert torch.equal(state(whole)[f"roberta.{table}"], state(encoder)[table])
    position = "embeddings.position_embeddings.weight"
    assert not torch.equal(state(whole)[f"roberta.{position}"], state(encoder)[position])

    record = json.loads((whole / "training.json").read_text(encoding="utf-8"))
    assert record["made from"]["dataset"] == f"csrerank/msmarco/train/policy:{home / 'mine.yaml'}" and record["made from"]["base"] == directory_hash(encoder)
    assert record["made from"]["settings"]["batch"] == 4 and record["steps"] == record["kept step"] == 36 and record["resumed at step"] == 0
    assert sum(record["negatives drawn"].values()) == 6 * TOPICS * 3 and set(record["negatives drawn"]) == {"bm25", "docpairs", "random"}
    assert set(record["made from"]["SHA-256"]) == {"topics", "judgements", "documents"} and record["precision"] == "fp32" and record["processes"] == 1
    assert record["licences of the lexicons"] == ["CC0"] and record["policy"]["name"] == "mine"

    card = (whole / "README.md").read_text(encoding="utf-8")
    assert (
        card.startswith("---\npipeline_tag: text-ranking\n")
        and "base_model" not in card
        and "license: other\ndatasets:\n- csrerank/msmarco\nmetrics:\n- mrr\nlanguage:\n- de\n- en\n---" in card
    )
    shares = {name: count / (6 * TOPICS * 3) for name, count in record["negatives drawn"].items()}
    for said in (
        "| policy | mine; seed 2023 |", record["made from"]["SHA-256"]["documents"], "| lexicons | toy |", "CC0", "| licence | other; it was made from the base and the texts of csrerank/msmarco/train, the lexicons (CC0), whose licences have their say |",
        f"bm25 {shares['bm25']:.2f}", f"({TOPICS} of its {TOPICS} topics with a relevant document)", "| layers | 0, 1 of the base's |", "| dropout | 0.1 of hidden states", "36 of 4 topics, of 6 epochs; the weights of step 36", "Switched into de, word by word", "1 process, fp32", "- Languages other than de, en were in no training text",
        "- One training with one seed, on all topics; no validation chose its weights: the last step counts.",
    ):  # fmt: skip
        assert said in card, said
    assert "held-out" not in card  # without validation no word is held out


def test_curves(whole: Path) -> None:
    """A table with the loss every six steps, and a picture."""
    lines = [line.split("\t") for line in (whole / "curves.tsv").read_text().splitlines()]
    assert lines[0] == ["step", "grad_norm", "learning_rate", "loss"] and [line[0] for line in lines[1:]] == ["6", "12", "18", "24", "30", "36"]
    rates = [float(line[2]) for line in lines[1:]]
    assert rates == sorted(rates, reverse=True) and rates[0] < 1e-3 and rates[-1] > 0  # warm-up over the first three steps, then linear decay
    assert all(0.3 < float(line[3]) < 1.5 for line in lines[1:])
    assert (whole / "curves.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_the_command_itself(home: Path, encoder: Path, whole: Path, tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process of its own, not quiet: standard output stays empty, the last line on standard error sums up; the same seed gives the same weights."""
    monkeypatch.setenv("IR_DATASETS_HOME", str(home))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    said = cli(*(argument for argument in arguments(home, encoder, tmp_path / "model") if argument != "--quiet"))
    assert said.returncode == 0 and said.stdout == "", said.stderr
    assert said.stderr.splitlines()[-1] == f"{tmp_path / 'model'}: 36 steps"
    assert weights(tmp_path / "model") == weights(whole)
    again = cli(*arguments(home, encoder, tmp_path / "model"))
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1] == f"Error: {tmp_path / 'model'}: holds a checkpoint already; give another --output, or delete it"


def killed(commands: Commands, given: list[str], output: Path, checkpoint: int) -> None:
    """Start a training and kill it when ``checkpoint`` is there, or is being written."""
    pid = commands.start(*given)
    until = time.monotonic() + 60
    while not (output / "checkpoints" / f"checkpoint-{checkpoint}").exists():
        assert time.monotonic() < until
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    assert commands.end()[0] == -signal.SIGKILL


def test_killed_and_gone_on_with(home: Path, encoder: Path, whole: Path, commands: Commands, tmp_path: Path) -> None:
    """Killed at its third checkpoint: the same command gives the same bytes. So it does where that checkpoint is half-written, and where the end was."""
    output = tmp_path / "model"
    given = arguments(home, encoder, output)
    killed(commands, given, output, 18)
    assert {path.name for path in output.iterdir()} == {"checkpoints"}  # nothing that looks like a model

    torn, late = tmp_path / "torn", tmp_path / "late"
    shutil.copytree(output, torn)
    (torn / "checkpoints" / "checkpoint-18" / "trainer_state.json").unlink(missing_ok=True)
    commands.run(*given)
    assert weights(output) == weights(whole)
    assert {path.name for path in (torn / "checkpoints").iterdir()} >= {"checkpoint-12", "checkpoint-18", "settings.json"}
    commands.run(*arguments(home, encoder, torn))
    assert weights(torn) == weights(whole)
    record = json.loads((torn / "training.json").read_text())
    assert record["resumed at step"] == 12 and record["negatives drawn"] == json.loads((whole / "training.json").read_text())["negatives drawn"]
    assert "from step 12 on" in (torn / "README.md").read_text()

    # Killed while the files of the finished training move into place.
    killed(commands, arguments(home, encoder, late), late, 36)
    (late / "model.safetensors").write_bytes(b"half")
    commands.run(*arguments(home, encoder, late))
    assert weights(late) == weights(whole) and not (late / "checkpoints").exists()


def test_a_process_that_prepares_batches_changes_nothing(home: Path, encoder: Path, whole: Path, commands: Commands, tmp_path: Path) -> None:
    output = tmp_path / "model"
    commands.run(*arguments(home, encoder, output, "--loaders", 1))
    assert weights(output) == weights(whole)


@pytest.mark.slow
def test_killed_at_random_moments(home: Path, encoder: Path, whole: Path, commands: Commands, tmp_path: Path) -> None:
    """Again and again, until it is through."""
    generator, output = random.Random(5), tmp_path / "model"
    for _ in range(40):
        pid = commands.start(*arguments(home, encoder, output))
        time.sleep(generator.uniform(0.2, 2))
        with suppress(ProcessLookupError):  # it is through
            os.kill(pid, signal.SIGKILL)
        if commands.end()[0] == 0:
            break
        assert not (output / "config.json").exists()
    else:
        commands.run(*arguments(home, encoder, output))
    assert weights(output) == weights(whole)


def test_an_unfinished_training_is_gone_on_with_by_its_own_settings_alone(home: Path, encoder: Path, commands: Commands, tmp_path: Path) -> None:
    """Other settings, or a run with other documents, are refused, and named; what is there stays."""
    output = tmp_path / "model"
    killed(commands, arguments(home, encoder, output), output, 6)
    other = tmp_path / "other.trec"
    other.write_text((home / "bm25.trec").read_text().replace(" 20 bm25", " 21 bm25"))
    for changed, name in ((["--seed", "2"], "settings"), (["--bm25-run", str(other)], "runs"), (["--precision", "bf16"], "settings, precision")):
        commands.start(*arguments(home, encoder, output), *changed)
        code, said = commands.end()
        wanted = f"Error: {output}: an unfinished training with another {name}; give the same settings to go on, another --output, or delete it"
        assert (code, said.splitlines()[-1]) == (2, wanted)
    assert (output / "checkpoints" / "checkpoint-6").exists()


def test_a_name_on_the_hub_is_known_by_what_it_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its revision and SHA-256 stand in record and card; another revision does not go on with what was begun with this one."""
    from huggingface_hub import constants
    from toy.encoders import build_encoder

    from csrerank.cli import run_command
    from csrerank.training import job, made_from

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    own = tmp_path / "hub" / "models--owner--toy"

    def revise(revision: str, kind: str) -> None:
        (own / "refs").mkdir(parents=True, exist_ok=True)
        (own / "refs" / "main").write_text(revision)
        if not (own / "snapshots" / revision).exists():
            build_encoder(own / "snapshots" / revision, kind)
        made_from._on_hub.cache_clear()

    def given(output: str) -> list[object]:
        usual = ["--dataset", "csrerank/demo/en-en", "--negatives", "random", "--max-length", 64, "--query-tokens", 16, "--precision", "fp32", "--quiet"]
        return [*usual, "--base", "owner/toy", "--output", tmp_path / output]

    def cut(*_: Any) -> None:
        raise ConnectionAbortedError

    revise("a" * 40, "mbert")
    with monkeypatch.context() as patched, pytest.raises(ConnectionAbortedError):
        patched.setattr(job, "_write", cut)
        run_command(["train", *map(str, given("out"))])
    revise("b" * 40, "labse")
    assert f"{tmp_path / 'out'}: an unfinished training with another base; " in refused(capsys, *given("out"))
    revise("a" * 40, "mbert")
    (own / "snapshots" / ("a" * 40) / "modules.json").write_text("[]")  # as sentence-transformers has it there
    made_from._on_hub.cache_clear()
    with pytest.raises(SystemExit) as ended:
        run_command(["train", *map(str, given("out"))])
    assert ended.value.code == 0
    record, card = (json.loads((tmp_path / "out" / "training.json").read_text()), (tmp_path / "out" / "README.md").read_text())
    loaded = record["made from"]["base"]
    assert len(loaded) == 64 and record["base revision"] == "a" * 40
    assert f"| base | owner/toy at revision {'a' * 40}, SHA-256 of what was loaded {loaded} |" in card and "base_model: owner/toy\n" in card
    made_from._on_hub.cache_clear()


def test_a_run_that_was_made_must_be_the_same_to_go_on(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs of negatives that are made and kept in the cache count as those given do."""
    from csrerank.training import job
    from csrerank.training.collection import Collection

    made = tmp_path / "made.trec"
    topics = edition("en", "passages").topics
    monkeypatch.setattr(Collection, "run", lambda *_: made)

    def train(score: float) -> None:
        made.write_text("".join(f"{topic} Q0 {document} 1 {score} bm25\n" for topic, document in zip(topics, documents, strict=False)))
        settings = job.Settings(batch=8, topics=16, negatives_per_topic=1, max_length=64, query_tokens=16, precision="fp32")
        job.train("csrerank/demo/en-en", encoder, tmp_path / "out", settings, cache=tmp_path, quiet=True)

    documents = Collection("csrerank/demo/en-en", Lexicons()).all_documents()

    def cut(*_: Any) -> None:
        raise ConnectionAbortedError

    with monkeypatch.context() as patched, pytest.raises(ConnectionAbortedError):
        patched.setattr(job, "_write", cut)
        train(2.0)
    with pytest.raises(InputError, match="an unfinished training with another runs of negatives; give the same settings"):
        train(3.0)
    train(2.0)
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["runs of negatives"] == {"bm25": hashlib.sha256(made.read_bytes()).hexdigest()} and record["made from"]["runs"] == {}


def test_memory_that_does_not_suffice_is_one_line(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    usual = ["--dataset", "csrerank/demo/en-en", "--negatives", "random", "--max-length", 64, "--query-tokens", 16, "--precision", "fp32", "--quiet"]
    for number, error in enumerate((torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"))):

        def exhausted(*_: Any, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("csrerank.training.trainer.train_on", exhausted)
        output = tmp_path / str(number)
        assert refused(capsys, *usual, "--base", encoder, "--output", output) == (
            "memory does not hold a step of --batch 8 topics, each with 5 inputs of up to --max-length 64 tokens; "
            f"the same command goes on where memory is free; else lower one of these, and delete {output} or give another --output"
        )


@pytest.mark.parametrize(("blocks", "what"), [(20, "while serializing"), (None, "inline_container")])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    blocks: int | None, what: str, home: Path, encoder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where weights are written, and where the optimizer's state is: files that may not grow stand for a disk that is full."""
    output = tmp_path / "model"
    monkeypatch.setenv("IR_DATASETS_HOME", str(home))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    size = (whole / "model.safetensors").stat().st_size
    limit = blocks or size // 1024 + 2
    command = [sys.executable, "-m", "csrerank", *arguments(home, encoder, output)]
    done = subprocess.run(["bash", "-c", 'ulimit -f "$1"; shift; "$@"', "-", str(limit), *command], capture_output=True, text=True, timeout=240)
    assert done.returncode == 2, done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"Error: {output}: cannot be written (") and what in said
    assert said.endswith("); free some space on its disk, and the same command goes on")
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and weights(output) == weights(whole), done.stderr


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy BERT, whose positions are a buffer of the model."""
    from toy.encoders import build_encoder

    return build_encoder(tmp_path_factory.mktemp("bert") / "encoder", "mbert")


def test_torchrun(home: Path, bert: Path, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes see in each step together what one sees, in its order, and learn the same; one of them writes and speaks."""
    import torch

    one, two = tmp_path / "one", tmp_path / "two"
    # Dropout draws from each process's own random state.
    more = ("--epochs", 2, "--negatives-per-topic", 19, "--max-length", 120, "--dropout", 0)
    commands.run(*arguments(home, bert, one, *more), recorded=tmp_path)
    monkeypatch.setenv("IR_DATASETS_HOME", str(home))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    given = [argument for argument in arguments(home, bert, two, *more) if argument != "--quiet"]
    done = subprocess.run([*launcher, __file__, str(tmp_path), *given], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and done.stderr.count("12 steps") == 1

    recorded = [[json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()] for name in ("0-of-1", "0-of-2", "1-of-2")]
    single, first, second = ([groups for _, groups in batches] for batches in recorded)
    assert len(single) == 12 and [len(batch) for batch in single] == [4] * 12
    assert [a + b for a, b in zip(first, second, strict=True)] == single
    assert sorted(topic for batch in single[:6] for topic, *_ in batch) == sorted(str(1000 + number) for number in range(TOPICS))
    # What would have processes wait for each other: batches of theirs that fall into different numbers of parts.
    assert any(parts != others for (parts, _), (others, _) in zip(recorded[1], recorded[2], strict=True))

    before, alone, together = state(bert), state(one), state(two)
    assert alone.keys() == together.keys()
    for name, tensor in alone.items():
        if name.endswith("attention.self.key.bias"):
            continue  # softmax cancels it: its gradient is rounding alone, which Adam blows up
        assert torch.allclose(tensor, together[name], atol=1e-4, rtol=0), name
    moved = max((tensor - before[name]).abs().max() for name, tensor in alone.items() if name in before)
    assert moved > 5e-3  # what the weights agree in is what was learnt
    record = json.loads((two / "training.json").read_text())
    assert record["processes"] == 2 and "2 processes" in (two / "README.md").read_text()
    assert record["negatives drawn"] == json.loads((one / "training.json").read_text())["negatives drawn"]


@pytest.mark.slow
def test_torchrun_killed_and_gone_on_with(home: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, killed after a checkpoint, go on with the same command, dropout and all, and give the weights of two that were not killed."""
    monkeypatch.setenv("IR_DATASETS_HOME", str(home))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    whole, output = tmp_path / "whole", tmp_path / "model"

    def command(folder: Path) -> list[str]:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "csrerank"]
        return [*launcher, *arguments(home, bert, folder, "--epochs", 4)]

    def ended(folder: Path) -> None:
        done = subprocess.run(command(folder), capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr

    ended(whole)
    begun = subprocess.Popen(command(output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while not (output / "checkpoints" / "checkpoint-12" / "trainer_state.json").exists():
            assert begun.poll() is None and time.monotonic() < until
            time.sleep(0.002)
    finally:
        for process in [*psutil.Process(begun.pid).children(recursive=True), begun]:  # torchrun gives its processes sessions of their own
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.kill()
        begun.wait()
    assert not (output / "config.json").exists()
    ended(output)
    assert json.loads((output / "training.json").read_text())["resumed at step"] in (6, 12, 18)
    assert weights(output) == weights(whole)


def refused(capsys: pytest.CaptureFixture[str], *given: object) -> str:
    """What ``csrerank train`` says in its one line on standard error; it ends with 2."""
    from csrerank.cli import run_command

    with pytest.raises(SystemExit) as ended:
        run_command(["train", *map(str, given)])
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == "" and said.err.count("\n") == 1, said
    return said.err.removeprefix("Error: ").strip()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--negatives", "bm25,web"], "--negatives bm25,web: 'web' is no source; known are bm25 dense article docpairs random, as bm25=2,dense=1"),
        (["--negatives", "bm25=2,bm25"], "--negatives bm25=2,bm25: 'bm25' is given twice"),
        (["--negatives", "bm25=0"], "--negatives bm25=0: the weight of bm25 must be a number above 0"),
        (["--negatives", "article"], "csrerank/demo/en-en: its documents name no article; take other --negatives than article"),
        (["--negatives", "docpairs"], "csrerank/demo/en-en has no docpairs; take other --negatives"),
        (["--negatives", "dense"], "no bi-encoder there; make the default one with scripts/build_encoder, or give another directory with --encoder"),
        (["--distil", "0.5"], "no bi-encoder there"),
        (["--dataset", "csrerank/en-qa/train/ml-cs/epoch-0"], "csrerank/en-qa/train/ml-cs/epoch-0: names one epoch, and training switches anew in each; leave /epoch-0 out"),
        (["--licence", "Apache 2.0: see LICENSE"], "--licence Apache 2.0: see LICENSE: give the hub's name of one, as apache-2.0, or other"),
        (["--encoder", "e5"], "--encoder e5 is given, but neither --distil nor --negatives dense reads it; ask for one of these, or leave it out"),
        (["--bm25-run", "{run}", "--negatives", "bm25"], "{run}: document 'no-such' is not in csrerank/demo/en-en; give a run over its documents"),
        (["--negatives-per-topic", "150"], "144 documents are too few for 150 negatives beside the relevant ones; lower --negatives-per-topic"),
        (["--negatives", "dense,random", "--dense-run", "{run}"], "{run}: document 'no-such' is not in"),
        (["--bm25-run", "no.trec"], "--bm25-run is given, but --negatives takes none from it; add bm25 there, or leave the run out"),
        (["--dataset", "csrerank/no-such"], "unknown dataset 'csrerank/no-such'"),
        (["--dataset", "csrerank/en-qa/train/ml-cs/epoch-3"], "csrerank/en-qa/train/ml-cs/epoch-3: names one epoch, and training switches anew in each; leave /epoch-3 out"),
        (["--dataset", "beir/arguana/no"], "unknown dataset 'beir/arguana/no'"),
        (["--dataset", "msmarco-passage"], "msmarco-passage has no queries and no qrels to train on; give a dataset with all three"),
        (["--dataset", "csrerank/xquad-r/en-de"], "--dataset csrerank/xquad-r/en-de: test topics must not train; give training topics, as csrerank/en-qa/train/ml-cs"),
        (["--base", "no/such/place"], "no/such/place: no such model; give 'default', a directory, or a hub name like owner/name"),
        (["--batch", "100"], "csrerank/demo/en-en: 48 topics do not fill one batch of 100; lower --batch"),
        (["--validation", "csrerank/xquad-r/en-en"], "--validation csrerank/xquad-r/en-en: test topics must not choose a checkpoint"),
        (["--validation", "msmarco-passage/dev/small"], "--validation msmarco-passage/dev/small: test topics must not choose a checkpoint"),
        (["--validation", "csrerank/demo/en-en"], "--validation csrerank/demo/en-en: its topics are those of --dataset; give others"),
        (["--validation", "csrerank/demo/de-en"], "--validation csrerank/demo/de-en: its topic "),
        (["--validation", "csrerank/en-qa/validation/muse/en-de"], "/muse/en-de: is switched already; give the plain csrerank/en-qa/validation"),
        (["--seed", "-1"], "Invalid value for '--seed': -1 is not in the range 0<=x<=4294967295"),
        (["--seed", "4294967296"], "4294967296 is not in the range"),
        (["--patience", "2"], "--patience counts validations; give --validation too"),
        (["--all-words"], "--all-words holds no words out, as training without --validation does anyway; give --validation too, or leave it out"),
        (["--temperature", "0.02"], "--temperature 0.02 is that of the bi-encoder's cosines in --distil; give --distil too, or leave it out"),
        (["--max-length", "512"], "--max-length 512 is more than the encoder's 128 tokens; give 128 or less"),
        (["--max-length", "20"], "--query-tokens 16 leaves no room for the passage in --max-length 20"),
        (["--layers", "0,7"], "layers 0,7 of an encoder with layers 0 to 1"),
    ],
)  # fmt: skip
def test_refusals(given: list[str], message: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says what to mend, before anything is written."""
    monkeypatch.setenv("CSRERANK_CACHE", str(tmp_path / "cache"))
    usual = [
        "--dataset",
        "csrerank/demo/en-en",
        "--base",
        encoder,
        "--output",
        tmp_path / "out",
        "--negatives",
        "random",
        "--max-length",
        64,
        "--query-tokens",
        16,
    ]
    run = tmp_path / "run.trec"
    run.write_text(f"{next(iter(edition('en', 'passages').topics))} Q0 no-such 1 2.0 bm25\n")
    assert message.replace("{run}", str(run)) in refused(capsys, *usual, *(part.replace("{run}", str(run)) for part in given))
    assert not (tmp_path / "out").exists()


def test_two_trainings_at_once(home: Path, encoder: Path, commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second is refused, and the first one's checkpoints stay."""
    from csrerank.training import record

    output = tmp_path / "model"
    killed(commands, arguments(home, encoder, output), output, 6)
    before = {path.name for path in (output / "checkpoints").iterdir()}
    asked = json.loads((output / "checkpoints" / "settings.json").read_text())
    with record.claim(output, asked):
        commands.start(*arguments(home, encoder, output))
        code, said = commands.end()
        lock = output / "checkpoints" / ".csrerank-lock"
        assert (code, said.splitlines()[-1]) == (2, f"Error: {lock}: another job is writing this journal; wait for it, or give another --output")
    assert {path.name for path in (output / "checkpoints").iterdir()} == before


def test_refused_places(encoder: Path, toy_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that holds something, a base that is no encoder, a batch that two processes cannot share."""
    usual = ["--dataset", "csrerank/demo/en-en", "--negatives", "random", "--max-length", 64, "--query-tokens", 16]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    assert refused(capsys, *usual, "--base", encoder, "--output", mine) == f"{mine}: holds other files; give another --output"
    assert refused(capsys, *usual, "--base", encoder, "--output", mine / "notes.txt") == f"{mine / 'notes.txt'}: holds other files; give another --output"
    assert "cannot be made (Not a directory)" in refused(capsys, *usual, "--base", encoder, "--output", mine / "notes.txt" / "out")
    assert refused(capsys, *usual, "--base", encoder, "--output", toy_model) == f"{toy_model}: holds a checkpoint already; give another --output, or delete it"
    (tmp_path / "theirs" / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    assert refused(capsys, *usual, "--base", encoder, "--output", tmp_path / "theirs").endswith("checkpoints: not csrerank's; give another --output")
    decoder = tmp_path / "decoder"
    decoder.mkdir()
    (decoder / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}')
    assert refused(capsys, *usual, "--base", decoder, "--output", tmp_path / "out").startswith(
        f"{decoder}: a gpt2 checkpoint (GPT2LMHeadModel), where an encoder of bert"
    )
    assert refused(capsys, *usual, "--base", mine, "--output", tmp_path / "out") == f"{mine}: no config.json in this directory; give one saved by transformers"
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert refused(capsys, *usual, "--base", encoder, "--output", tmp_path / "out") == "--batch 8 does not divide among 3 processes; give a multiple"
    assert sorted(path.name for path in mine.iterdir()) == ["notes.txt"] and not (tmp_path / "out").exists()


def test_a_loss_that_is_not_a_number_ends_it(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No checkpoint of such weights is written."""
    usual = ["--dataset", "csrerank/demo/en-en", "--negatives", "random", "--max-length", 64, "--query-tokens", 16, "--precision", "fp32", "--quiet"]
    said = refused(capsys, *usual, "--base", encoder, "--output", tmp_path / "out", "--learning-rate", "1e38")
    assert said.startswith("the loss by step ") and said.endswith(
        " is not a number; lower --learning-rate or take --precision fp32, and give another --output or delete this one"
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["checkpoints"]
    assert not list((tmp_path / "out" / "checkpoints").glob("checkpoint-*"))


def test_a_checkpoint_between_two_logs_holds_numbers(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is looked at before each checkpoint, whatever the rhythm of the logs."""
    losses = iter([0.7] * 27 + [float("nan")] * 99)
    monkeypatch.setattr("csrerank.training.job.objective_named", lambda name: lambda logits: logits.mean() * 0 + next(losses))
    usual = ["--dataset", "csrerank/demo/en-en", "--negatives", "random", "--max-length", 64, "--query-tokens", 16, "--precision", "fp32", "--quiet"]
    said = refused(capsys, *usual, "--base", encoder, "--output", tmp_path / "out", "--epochs", 6, "--evaluate-every", 30, "--negatives-per-topic", 1)
    assert said == "the loss by step 30 is not a number; lower --learning-rate or take --precision fp32, and give another --output or delete this one"
    assert not list((tmp_path / "out" / "checkpoints").glob("checkpoint-*"))


def test_a_seed_is_checked_without_the_command_too(encoder: Path, tmp_path: Path) -> None:
    from csrerank.training.job import Settings, train

    for seed in (-1, 2**32):
        with pytest.raises(InputError, match=f"^--seed {seed}: give 0 to 4294967295$"):
            train("csrerank/demo/en-en", encoder, tmp_path / "out", Settings(negatives=(("random", 1.0),), seed=seed), cache=tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_card_tells_of_translations(encoder: Path, tmp_path: Path) -> None:
    """Which file, its hash, and how much it covers; no claim that all was English."""
    from csrerank.training.collection import Collection
    from csrerank.training.job import Inputs, Settings, train

    collection = Collection("csrerank/demo/en-en", Lexicons())
    path = tmp_path / "to-german.jsonl"
    rows = [(topic, "query") for topic in list(collection.relevant)[:30]] + [(name, "passage") for name in collection.all_documents()[:7]]
    path.write_text("".join(json.dumps({"id": name, "side": side, "text": f"wal {name}"}) + "\n" for name, side in rows))
    settings = Settings(negatives=(("random", 1.0),), negatives_per_topic=1, topics=16, max_length=64, query_tokens=16, precision="fp32")
    train("csrerank/demo/en-en", encoder, tmp_path / "out", settings, Inputs(translations=path), cache=tmp_path, quiet=True)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    digest, documents = hashlib.sha256(path.read_bytes()).hexdigest(), len(collection.all_documents())
    coverage = f"30 of {len(collection.relevant)} topics, 7 of {documents} documents"
    assert f"| translations | to-german.jsonl, SHA-256 {digest}: {coverage} |" in card
    assert f"- Trained on translations of {coverage}; the rest was left as it is." in card and "English as it is" not in card
    assert "- Languages other than en and those of the translations were in no training text" in card
    assert f"on 16 of {len(collection.relevant)} topics; no validation chose its weights" in card
    assert "| policy | none: texts as they are, or translated where there is a translation |" in card and "what it knows of languages" not in card
    assert "license: other" in card and "the texts of csrerank/demo/en-en, the translations, whose licences" in card
    told = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))["translations"]
    assert told == {"file": "to-german.jsonl", "SHA-256": digest, "translated": {"query": 30, "passage": 7}}


class Scripted:
    """A validation that gives what it is told, one figure a call; ``None`` stands for a power cut."""

    fingerprint = "scripted"

    def __init__(self, *means: float | None) -> None:
        self.means = list(means)

    def __call__(self, score: Callable[..., Any]) -> dict[str, float]:
        assert score(["whale"], ["ash"]).shape == (1,)
        mean = self.means.pop(0)
        if mean is None:
            raise ConnectionAbortedError("the power is gone")
        return {"en-en": mean, "mean": mean}


def trained(monkeypatch: pytest.MonkeyPatch, encoder: Path, output: Path, validation: Scripted | None, patience: int | None = 1, quiet: bool = True) -> Any:
    """A training of 18 steps over the demo collection, validated every four, and at the end."""
    from csrerank.training import job

    monkeypatch.setattr(job, "_validation", lambda *_: validation)
    settings = job.Settings(
        negatives=(("random", 1.0),), negatives_per_topic=2, epochs=3, batch=8, learning_rate=1e-3, max_length=64, query_tokens=16, precision="fp32", evaluate_every=4,
        patience=patience if validation else None, hold_out=not validation,
    )  # fmt: skip
    inputs = job.Inputs(validation="csrerank/en-qa/validation" if validation else None)
    return job.train("csrerank/demo/en-en", encoder, output, settings, inputs, cache=output.parent / "cache", quiet=quiet)


def test_early_stopping(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One validation that is no better ends it; the weights are the best step's, and so are the figures."""
    import torch

    result = trained(monkeypatch, encoder, tmp_path / "out", Scripted(0.4, 0.6, 0.6, 0.9))
    assert (result.steps, result.best_step, result.validation) == (12, 8, {"en-en": 0.6, "mean": 0.6})
    assert result.summary() == f"{tmp_path / 'out'}: 12 steps; kept step 8, validation RR@10: en-en 0.6000, mean 0.6000"
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (record["steps"], record["kept step"], record["validation RR@10"]) == (12, 8, {"en-en": 0.6, "mean": 0.6})
    curves = [line.split("\t") for line in (tmp_path / "out" / "curves.tsv").read_text().splitlines()]
    assert curves[0] == ["step", "eval_en-en", "eval_mean", "grad_norm", "learning_rate", "loss"] and [line[:3] for line in curves[1:]] == [
        ["4", "0.4", "0.4"], ["8", "0.6", "0.6"], ["12", "0.6", "0.6"],
    ]  # fmt: skip
    card = (tmp_path / "out" / "README.md").read_text()
    assert "the weights of step 8" in card and "on all topics; step 8 was chosen by validation" in card  # 48 topics, 8 a step: it saw them all in 6
    assert "Languages other than" not in card  # that of texts as they are stands in a line of its own
    assert capsys.readouterr().out == ""
    # Validation changes nothing of what is learnt: the same steps without it, stopped at 8.
    kept = {}
    monkeypatch.setattr("csrerank.training.trainer.train_on", _stopped_at(8, kept))
    with pytest.raises(ConnectionAbortedError):
        trained(monkeypatch, encoder, tmp_path / "plain", None)
    saved = state(tmp_path / "out")
    assert saved.keys() == kept.keys() and all(torch.equal(tensor, saved[name]) for name, tensor in kept.items())


def _stopped_at(step: int, kept: dict[str, Any]) -> Callable[..., None]:
    """A ``train_on`` that copies the weights into ``kept`` at a step, and breaks off."""

    def train_on(running: Any, last: Path | None, patience: int | None = None) -> None:
        from transformers import TrainerCallback

        class Stop(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
                if state.global_step == step:
                    kept.update({name: tensor.clone() for name, tensor in running.model.state_dict().items()})
                    raise ConnectionAbortedError

        running.add_callback(Stop)
        running.train()

    return train_on


def test_patience_survives_a_kill(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validations before the kill count; a job killed after it had stopped early does not go on; the best step is kept, in a folder that was moved, too."""
    from csrerank.training import job

    figures = [0.4, 0.6, 0.5, 0.5, 0.9, 0.9]
    result = trained(monkeypatch, encoder, tmp_path / "whole", Scripted(*figures), patience=2)
    assert (result.steps, result.best_step) == (16, 8)
    with pytest.raises(ConnectionAbortedError):
        trained(monkeypatch, encoder, tmp_path / "cut", Scripted(0.4, 0.6, 0.5, None), patience=2)
    (tmp_path / "cut").rename(tmp_path / "moved")
    result = trained(monkeypatch, encoder, tmp_path / "moved", Scripted(*figures[3:]), patience=2)
    assert (result.steps, result.best_step) == (16, 8) and weights(tmp_path / "moved") == weights(tmp_path / "whole")

    def cut(*_: Any) -> None:
        raise ConnectionAbortedError

    with monkeypatch.context() as patched, pytest.raises(ConnectionAbortedError):
        patched.setattr(job, "_write", cut)
        trained(patched, encoder, tmp_path / "late", Scripted(*figures), patience=2)
    result = trained(monkeypatch, encoder, tmp_path / "late", Scripted(0.9), patience=2)
    assert (result.steps, result.best_step) == (16, 8) and weights(tmp_path / "late") == weights(tmp_path / "whole")


def test_the_last_steps_are_validated_too(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without patience all steps are made; the end counts, though it is no multiple of four. On a terminal a bar on standard error shows the figures."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    result = trained(monkeypatch, encoder, tmp_path / "out", Scripted(0.5, 0.4, 0.3, 0.4, 0.9), patience=None, quiet=False)
    said = capsys.readouterr()
    assert said.out == "" and "18/18" in said.err and "eval_mean=0.9" in said.err and "loss=0." in said.err
    assert (result.steps, result.best_step, result.validation["mean"]) == (18, 18, 0.9)


def record_batches(folder: Path) -> None:
    """Have every batch of this process written to ``folder``: into how many parts it falls; topics, documents, and the texts as they were switched."""
    from csrerank.training import trainer

    collator = trainer.collator
    path = folder / f"{os.environ.get('RANK', '0')}-of-{os.environ.get('WORLD_SIZE', '1')}.jsonl"

    def recording(encoder: Any, budget: int) -> Any:
        collated = collator(encoder, budget)

        def recorded(groups: Any) -> Any:
            made = collated(groups)
            seen = [[group.topic, group.documents, group.query, group.passages] for group in groups]
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([len(made["parts"]), seen]) + "\n")
            return made

        return recorded

    trainer.collator = recording


def serve() -> None:
    """For each line on standard input, [folder for batches or null, arguments], fork a command; tell its process id, and how it ended."""
    import matplotlib.backends.backend_agg  # noqa: F401
    import torch
    import transformers  # noqa: F401
    from transformers import EarlyStoppingCallback, Trainer  # noqa: F401

    import csrerank.training.job  # noqa: F401
    from csrerank.cli import run_command

    torch.set_num_threads(1)  # a pool of threads does not outlive a fork
    said = Path(os.environ["IR_DATASETS_HOME"]) / "said.txt"
    for line in sys.stdin:
        folder, given = json.loads(line)
        pid = os.fork()
        if pid == 0:
            stream = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            code: Any = 70
            try:
                if folder:
                    record_batches(Path(folder))
                run_command(given)
            except SystemExit as ended:
                code = ended.code or 0
            except BaseException as error:
                print(repr(error), file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(pid, flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps([code, said.read_text(encoding="utf-8") if said.exists() else ""]), flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        serve()
    else:
        from csrerank.cli import run_command

        record_batches(Path(sys.argv[1]))
        run_command(sys.argv[2:])
