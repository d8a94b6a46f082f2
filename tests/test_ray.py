"""``csrerank switch --engine ray``, with a real Ray started on this machine: the bytes of one process, and a killed worker costs nothing but time."""

import ctypes
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from conftest import Cli
from test_switch_command import Toy, contents, write_input
from test_switch_engines import arguments, notes, started

from csrerank.errors import InputError
from csrerank.integrations.ray import TRIES, imported
from csrerank.integrations.ray import started as ray_started
from csrerank.switching.engines import engine_named
from csrerank.switching.shards import NOTES
from csrerank.switching.writing import write_collection

if find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)
ray = imported()


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    toy = Toy(tmp_path_factory.mktemp("toy"))
    write_input(toy.input, 6000, 40)
    return toy


@pytest.fixture(scope="module")
def whole(toy: Toy) -> dict[str, bytes]:
    """What one process writes."""
    toy.write("whole", shard_size=100)
    return contents(toy.folder / "whole")


def busy(pid: int) -> list[psutil.Process]:
    """The Ray workers below a process that run a task now."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            title = " ".join(child.cmdline())
        except psutil.Error:
            continue
        if title.startswith("ray::") and "Map" in title:
            found.append(child)
    return found


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(toy: Toy, whole: dict[str, bytes], tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = started(toy, output, "--engine", "ray", "--workers", 2)
    killed: list[int] = []
    deadline = time.monotonic() + 200
    # At work, with shards written and others to come.
    while not killed and process.poll() is None and time.monotonic() < deadline:
        if notes(output) >= 2 and notes(output) < 50 and (workers := busy(process.pid)):
            workers[0].kill()
            killed.append(workers[0].pid)
        time.sleep(0.002)
    assert killed, "no worker was met at work"
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said.decode()
    assert contents(output) == whole


@pytest.mark.slow
def test_datasets_in_memory_and_resuming(toy: Toy, tmp_path: Path, cli: Cli) -> None:
    command = ["switch", "--dataset", "csrerank/demo/en-en", "--policy", toy.policy, "--shard-size", 30, "--output"]
    assert cli(*command, tmp_path / "one").returncode == 0
    assert cli(*command, tmp_path / "ray").returncode == 0
    (tmp_path / "ray" / "docs" / "part-00001.parquet").unlink()
    (tmp_path / "ray" / "queries" / "part-00000.parquet").unlink()
    done = cli(*command, tmp_path / "ray", "--engine", "ray", "--workers", 2)
    assert done.returncode == 0 and "5 of 7 shards were there already" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert contents(tmp_path / "ray") == contents(tmp_path / "one")


@pytest.mark.slow
def test_bad_input_is_one_line(toy: Toy, tmp_path: Path, cli: Cli) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_input(tmp_path / "input", 50)
    pq.write_table(pa.table({"year": [1, 2], "doc_id": ["d50", None], "text": ["a", "b"]}), tmp_path / "input" / "z.parquet")
    done = cli("switch", "--input", tmp_path / "input", "--policy", toy.policy, "--output", tmp_path / "out", "--engine", "ray", "--workers", 1)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "z.parquet: row 2: no doc_id; fill it in, or take the row out" in done.stderr


@pytest.mark.slow
def test_an_interrupted_job_is_no_death(toy: Toy, whole: dict[str, bytes], tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "out" / NOTES).mkdir(parents=True)
    for place in range(60):  # as five interrupted jobs left them
        (tmp_path / "out" / NOTES / f"docs-part-{place:05}.json.01000000.tries").write_bytes(b"." * TRIES)
    done = cli(*arguments(toy, tmp_path / "out", "--engine", "ray", "--workers", 2))
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == whole


def test_an_address_where_no_ray_is(toy: Toy, tmp_path: Path, cli: Cli) -> None:
    done = cli(*arguments(toy, tmp_path / "out", "--engine", "ray", "--address", "127.0.0.1:1"))
    assert done.returncode == 2 and "--address 127.0.0.1:1: no Ray answers there" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_ray(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    toy.folder = tmp_path
    with pytest.raises(InputError, match=r"--engine ray needs Ray; pip install csrerank\[ray\]"):
        write_collection(toy.job("out"), engine_named("ray", 2, None), quiet=True)
    assert not (tmp_path / "out").exists()


def handler(number: int) -> bytes:
    """Where a signal goes in this process: the first words of its ``struct sigaction``."""
    action = ctypes.create_string_buffer(256)
    assert ctypes.CDLL(None).sigaction(number, None, action) == 0
    return action.raw[:16]


def test_java_keeps_its_signals(tmp_path: Path) -> None:
    """Java lives on SIGSEGV; with Ray's handler, or with none after Ray's shutdown, a later search ended the process (exit code 139, no word)."""
    from csrerank.retrieval.bm25 import build_index

    build_index([("1", "Die Wale schlafen im Meer.")], tmp_path / "de", "de")
    numbers = [signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT]
    before = [handler(number) for number in numbers]
    with ray_started(ray, 1, None):
        assert [handler(number) for number in numbers] == before
    assert [handler(number) for number in numbers] == before
