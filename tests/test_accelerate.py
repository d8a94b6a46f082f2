"""``csrerank rerank --engine accelerate``: two processes of a launch write the bytes of one.

``accelerate launch`` starts several processes for GPUs alone; here torch's launcher, which it calls, starts this file in two, as a program that takes the command as JSON.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toy import demo_run

DEMO = "csrerank/demo/en-de"
KILLED = "TEST_ACCELERATE_KILLED"  # has the second process of a launch killed in its second round of windows
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty-eight topics with a hundred documents each, in three windows: two rounds of two processes, the second for one of them."""
    return demo_run(tmp_path_factory.mktemp("run") / "first.trec", 48, 100)


def command(run: Path, model: Path, output: str) -> list[str]:
    """``csrerank rerank``, on a CPU with one thread."""
    texts = ["--run", run, "--dataset", DEMO, "--model", model, "--max-length", 48, "--query-tokens", 16, "--k", 100]
    return [str(word) for word in ["rerank", *texts, "--threads", 1, "--device", "cpu", "--output", output]]


def launched(run: Path, model: Path, folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    return launch([*command(run, model, "two.trec"), *more], folder)


def launch(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """A csrerank command in two processes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = json.dumps([*command, "--engine", "accelerate"])
    return subprocess.run([*LAUNCH, words], cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


def test_accelerates_own_parser_passes_the_command_on() -> None:
    """Torch's would take --run for its own --run-path."""
    import torch.distributed.run as distributed
    from accelerate.commands.launch import _filter_args, launch_command_parser

    command = ["rerank", "--run", "bm25.trec", "--engine", "accelerate"]
    given = launch_command_parser().parse_args(["--multi_gpu", "--num_processes", "2", "-m", "csrerank", *command])
    passed = _filter_args(
        given, distributed.get_args_parser(), ["--training_script", given.training_script, "--training_script_args", given.training_script_args]
    )
    assert (passed.training_script, passed.training_script_args, passed.module) == ("csrerank", command, True)


def test_the_bytes_of_one_process(run: Path, toy_model: Path, tmp_path: Path, cli: Any) -> None:
    alone = cli(*command(run, toy_model, "one.trec"), cwd=tmp_path)
    together = launched(run, toy_model, tmp_path)
    assert (alone.returncode, together.returncode) == (0, 0), together.stderr
    assert (tmp_path / "two.trec").read_bytes() == (tmp_path / "one.trec").read_bytes()
    said = [line for line in together.stderr.splitlines() if "two.trec" in line]
    assert said == [alone.stderr.strip().replace("one.trec", "two.trec")]  # by one of them
    assert sorted(os.listdir(tmp_path)) == ["one.trec", "one.trec.ir-metadata.yml", "two.trec", "two.trec.ir-metadata.yml"]


class Stop(BaseException):
    """Ends a job as a kill would, as far as its files go."""


@pytest.mark.usefixtures("one_thread")
def test_it_goes_on_where_one_process_was_stopped(run: Path, toy_model: Path, tmp_path: Path, cli: Any) -> None:
    from csrerank.collections.texts import DatasetDocuments, dataset_topics
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings
    from csrerank.rerank import rerank_run
    from csrerank.windows import Scored, Work, here

    model = Reranker.load(toy_model, Settings(48, 16), "cpu")

    def stopped(work: Iterator[Work], advance: Callable[[int], object]) -> Iterator[Scored]:
        yield next(here(model)(work, advance))
        raise Stop

    with pytest.raises(Stop):
        rerank_run(run, tmp_path / "two.trec", dataset_topics(DEMO), DatasetDocuments(DEMO), model, k=100, quiet=True, engine=lambda: stopped)
    together = launched(run, toy_model, tmp_path)
    assert together.returncode == 0 and "2000 of them taken from the journal" in together.stderr, together.stderr
    done = (tmp_path / "two.trec").read_bytes()
    assert cli(*command(run, toy_model, "one.trec"), cwd=tmp_path).returncode == 0
    assert done == (tmp_path / "one.trec").read_bytes()


@pytest.mark.slow
def test_a_killed_process_ends_the_launch_and_the_command_goes_on(
    run: Path, toy_model: Path, tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patches:
        patches.setenv(KILLED, "1")
        killed = launched(run, toy_model, tmp_path)
    assert killed.returncode != 0 and sorted(os.listdir(tmp_path)) == ["two.trec.journal"], killed.stderr
    again = launched(run, toy_model, tmp_path)
    assert again.returncode == 0 and " of them taken from the journal" in again.stderr, again.stderr
    assert cli(*command(run, toy_model, "one.trec"), cwd=tmp_path).returncode == 0
    assert (tmp_path / "two.trec").read_bytes() == (tmp_path / "one.trec").read_bytes()


def test_bad_input_ends_all_of_them(run: Path, toy_model: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.trec"
    wrong.write_text("whales-q1 Q0 unheard-of 1 1.0 bm25\n")
    done = launched(wrong, toy_model, tmp_path)
    assert done.returncode != 0 and done.stderr.count("is not in the collection; check that run and collection belong together") == 1
    assert os.listdir(tmp_path) == ["wrong.trec"]


@pytest.mark.slow
def test_bad_options_are_told_once(run: Path, toy_model: Path, tmp_path: Path) -> None:
    done = launched(run, toy_model, tmp_path, "--stride", "5")
    assert done.returncode != 0 and done.stderr.count("--stride belongs to --window; give that too") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "one process was started; start the command by: accelerate launch --multi_gpu --num_processes N -m csrerank rerank ..."),
        (("--device", "cuda:1"), "--device cuda:1: with --engine accelerate each process takes a GPU of its own; leave it out, or give cpu"),
    ],
)
def test_refused(more: tuple[str, ...], said: str, run: Path, toy_model: Path, tmp_path: Path, cli: Any) -> None:
    done = cli("rerank", "--run", run, "--dataset", DEMO, "--model", toy_model, "--output", "out.trec", "--engine", "accelerate", *more, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []


def kill_in_the_second_round() -> None:
    """As the system does where memory is short."""
    from csrerank.integrations.accelerate_rerank import Team

    gathered, rounds = Team._gathered, []

    def dying(team: Team, mine: Any) -> list[Any]:
        rounds.append(mine)
        if len(rounds) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return gathered(team, mine)

    Team._gathered = dying  # type: ignore[method-assign]


if __name__ == "__main__":
    from csrerank.cli import run_command

    if KILLED in os.environ and os.environ["RANK"] == "1":
        kill_in_the_second_round()
    run_command(json.loads(sys.argv[1]))
