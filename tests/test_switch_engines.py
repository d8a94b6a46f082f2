"""Whoever writes a code-switched collection, and however often he is killed, the files are the same byte for byte."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
from conftest import Cli
from test_switch_command import Toy, contents, write_input

from csrerank.errors import InputError
from csrerank.switching import engines, shards
from csrerank.switching.engines import engine_named, here
from csrerank.switching.job import Job, Shard, requested
from csrerank.switching.shards import NOTES, write_shard
from csrerank.switching.writing import planned, write_collection

DOCS = 4000


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    toy = Toy(tmp_path_factory.mktemp("toy"))
    write_input(toy.input, DOCS, 40)
    return toy


@pytest.fixture(scope="module")
def whole(toy: Toy) -> dict[str, bytes]:
    """What one process writes that nobody kills."""
    toy.write("whole", shard_size=100)
    return contents(toy.folder / "whole")


def arguments(toy: Toy, output: Path, *more: object) -> list[object]:
    return ["switch", "--input", toy.input, "--policy", toy.policy, "--shard-size", 100, "--output", output, *more]


def started(toy: Toy, output: Path, *more: object) -> "subprocess.Popen[bytes]":
    """The command as a process of its own group, which can be interrupted even where the tests run in the background of a shell and cannot."""
    command = [sys.executable, "-m", "csrerank", *map(str, arguments(toy, output, *more))]
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=heed)  # type: ignore[arg-type]


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


def notes(output: Path) -> int:
    return sum(1 for _ in (output / NOTES).glob("*-[0-9]*.json"))


@pytest.mark.parametrize(("workers", "seed"), [(1, "0"), (1, "1"), (2, "0"), (3, "1")])
def test_any_number_of_processes_and_any_hash_seed(
    workers: int, seed: str, toy: Toy, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", seed)
    done = cli(*arguments(toy, tmp_path / "out", "--workers", workers))
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == whole and len(whole) == 41 + 4


def test_datasets_in_memory_are_sent_to_the_processes(toy: Toy, tmp_path: Path, cli: Cli) -> None:
    for name, more in (("one", []), ("two", ["--workers", 2])):
        done = cli("switch", "--dataset", "csrerank/demo/en-en", "--policy", toy.policy, "--shard-size", 30, "--output", tmp_path / name, *more)
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--workers", 2]], ids=["one process", "two processes"])
def test_killed_and_killed_again(more: list[object], toy: Toy, whole: dict[str, bytes], tmp_path: Path, cli: Cli) -> None:
    output, seen = tmp_path / "out", 0
    for _ in range(3):
        process = started(toy, output, *more)
        workers: list[psutil.Process] = []
        while notes(output) <= seen + 1 and process.poll() is None:
            workers = psutil.Process(process.pid).children(recursive=True) or workers
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert len(workers) >= (2 if more else 0)
        while any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers):  # none stays behind
            time.sleep(0.05)
        assert not (output / "manifest.json").exists()
        for path in output.glob("*/part-*"):
            assert path.read_bytes() == whole[str(path.relative_to(output))], "a part of a shard was visible"
        assert notes(output) > seen
        seen = notes(output)
    done = cli(*arguments(toy, output))
    assert done.returncode == 0 and f"{seen} of 41 shards were there already" in done.stderr
    assert contents(output) == whole


def test_begun_by_one_engine_ended_by_another(toy: Toy, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Power(BaseException):
        """Out it goes."""

    def interrupted(job: Job, some: list[Shard], held: engines.Held) -> engines.Noted:
        for number, written in enumerate(here(job, some, held)):
            yield written
            if number == 7:
                raise Power

    toy.folder = tmp_path
    job = toy.job("out", shard_size=100)
    with pytest.raises(Power):
        write_collection(job, interrupted, quiet=True)  # type: ignore[arg-type]
    assert notes(tmp_path / "out") == 8
    (tmp_path / "out" / "docs" / ".csrerank-0.tmp").write_text("left by a kill")
    (tmp_path / "out" / "docs" / "part-00002.parquet").write_text("spoilt")
    assert write_collection(job, engine_named("process", 2, None), quiet=True).kept == 7
    assert contents(tmp_path / "out") == whole


def test_a_killed_worker_costs_nothing_but_time(toy: Toy, whole: dict[str, bytes], tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = started(toy, output, "--workers", 2)
    until(lambda: notes(output) >= 2 or process.poll() is not None)
    workers = [child for child in psutil.Process(process.pid).children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    assert process.wait(120) == 0, process.stderr and process.stderr.read()
    assert contents(output) == whole


def test_what_a_killed_worker_left_is_swept_away(toy: Toy, tmp_path: Path) -> None:
    def leaving(job: Job, some: list[Shard], held: engines.Held) -> engines.Noted:
        yield from here(job, some, held)
        (job.output / "docs" / ".csrerank-0.tmp").write_text("left by a kill")

    toy.folder = tmp_path
    write_collection(toy.job("out", shard_size=2000), leaving, quiet=True)  # type: ignore[arg-type]
    assert sorted(path.name for path in (tmp_path / "out" / "docs").iterdir()) == ["part-00000.parquet", "part-00001.parquet"]


def dies(job: Job, shard: Shard, rows: object = None) -> dict[str, object]:
    """Stands for a shard that no memory is enough for."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def test_workers_that_always_die(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "write_shard", dies)
    toy.folder = tmp_path
    with pytest.raises(InputError, match=r"worker processes died 3 times in a row .* take fewer --workers or a smaller --shard-size"):
        write_collection(toy.job("out", shard_size=2000), engine_named("process", 2, None), quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [[], ["--workers", 2]], ids=["one process", "two processes"])
def test_interrupted(more: list[object], toy: Toy, whole: dict[str, bytes], tmp_path: Path, cli: Cli) -> None:
    output = tmp_path / "out"
    process = started(toy, output, *more)
    until(lambda: notes(output) >= 2 or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said.startswith(b"\ninterrupted; ") and said.count(b"\n") == 2, said.decode()
    assert cli(*arguments(toy, output)).returncode == 0 and contents(output) == whole


def test_interrupted_while_a_string_is_executed(tmp_path: Path) -> None:
    """As named tuples are made: CPython would die by the signal although the interrupt was caught."""
    (tmp_path / "interrupted.py").write_text("from csrerank import cli\n\ncli.cli.main = lambda *_, **__: exec('raise KeyboardInterrupt')\ncli.main()\n")
    done = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 130 and done.stderr.startswith(b"interrupted; "), done


def test_two_jobs_at_once(toy: Toy, tmp_path: Path, cli: Cli) -> None:
    output = tmp_path / "out"
    process = started(toy, output)
    until(lambda: notes(output) >= 1 or process.poll() is not None)
    process.send_signal(signal.SIGSTOP)  # else it may have finished before the other has started
    done = cli(*arguments(toy, output))
    process.kill()
    process.wait()
    assert done.returncode == 2 and f"{output}: another job is writing here; wait for it, or give another --output" in done.stderr


def test_bad_input_in_a_worker_is_one_line(toy: Toy, tmp_path: Path, cli: Cli) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_input(tmp_path / "input", 50)
    pq.write_table(pa.table({"year": [1, 2], "doc_id": ["d50", None], "text": ["a", "b"]}), tmp_path / "input" / "z.parquet")
    done = cli("switch", "--input", tmp_path / "input", "--policy", toy.policy, "--shard-size", 10, "--output", tmp_path / "out", "--workers", 2)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"{tmp_path / 'input' / 'z.parquet'}: row 2: no doc_id; fill it in, or take the row out" in done.stderr


def test_another_version_on_another_machine_is_refused(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.folder = tmp_path
    job = toy.job("out")
    job.versions["pyarrow"] = "0.1"  # type: ignore[index]
    shards.forget()
    with pytest.raises(InputError, match=r"pyarrow [0-9.]+ is installed here, and the job began with 0\.1; install the same on all machines"):
        write_shard(job, Shard("docs", 0, 0, 10))


def test_a_process_that_outlives_a_job_reads_anew_for_the_next(toy: Toy, tmp_path: Path) -> None:
    shared = write_input(tmp_path / "input", 10)
    job = planned(requested(None, str(shared), str(toy.policy), None, None), tmp_path / "out", "tsv", records=False)
    for folder in (NOTES, "docs"):
        (tmp_path / "out" / folder).mkdir(parents=True)
    write_shard(job, Shard("docs", 0, 0, 10), token="first")
    write_input(shared, 20, order=list(range(19, -1, -1)))
    write_shard(job, Shard("docs", 0, 10, 20), token="second")
    assert [line.split("\t")[0] for line in (tmp_path / "out/docs/part-00000.tsv").read_text().splitlines()] == [f"d{number}" for number in range(9, -1, -1)]


def test_ray_is_missed_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--engine ray needs Ray; pip install csrerank\[ray\]"):
        engine_named("ray", 2, None)


def test_another_lexicon_on_another_machine_is_refused(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.folder = tmp_path
    job = toy.job("out")
    job.lexicons[next(iter(job.lexicons))] = "0" * 32  # type: ignore[index]
    shards.forget()
    with pytest.raises(InputError, match=r"lexicons en-de differs from the one that the job began with"):
        write_shard(job, Shard("docs", 0, 0, 10))
