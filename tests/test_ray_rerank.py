"""``csrerank rerank --engine ray``, with a real Ray started on this machine: the bytes of one process, and a killed worker costs nothing but time."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from toy import demo_run

from csrerank.errors import InputError
from csrerank.integrations import ray_rerank
from csrerank.integrations.ray import imported
from csrerank.windows import Scored, Work

if find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)
ray = imported()

pytestmark = pytest.mark.usefixtures("one_thread")  # as the workers have it
DEMO = "csrerank/demo/en-de"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty topics with ninety documents each, in several windows."""
    return demo_run(tmp_path_factory.mktemp("run") / "first.trec", 30, 90)


def command(run: Path, output: str, model: Path, *more: object) -> list[object]:
    return ["rerank", "--run", run, "--dataset", DEMO, "--model", model, "--max-length", 128, "--query-tokens", 40, "--output", output, *more]


def test_the_bytes_of_one_process(run: Path, toy_model: Path, tmp_path: Path, cli: Any) -> None:
    alone = cli(*command(run, "alone.trec", toy_model, "--threads", 1), cwd=tmp_path)
    shared = cli(*command(run, "ray.trec", toy_model, "--engine", "ray", "--workers", 2), cwd=tmp_path)
    assert (alone.returncode, shared.returncode) == (0, 0), shared.stderr
    assert (tmp_path / "ray.trec").read_bytes() == (tmp_path / "alone.trec").read_bytes()
    assert shared.stderr == alone.stderr.replace("alone", "ray")
    assert sorted(os.listdir(tmp_path)) == ["alone.trec", "alone.trec.ir-metadata.yml", "ray.trec", "ray.trec.ir-metadata.yml"]


class Slow(ray_rerank.Worker):
    """Takes its time, so that it can be met at work."""

    def score(self, work: Work) -> Scored | str:
        time.sleep(0.3)
        return super().score(work)


def at_work() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if child.cmdline()[0].startswith("ray::") and ".score" in child.cmdline()[0]:
                found.append(child)
        except (psutil.Error, IndexError):
            continue
    return found


def spec(toy_model: Path, **changed: Any) -> Any:
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

    model = Reranker.load(toy_model, Settings(64, 20, precision="fp32"), "cpu")
    return model, ray_rerank.Spec.of(str(toy_model), model, 1)._replace(**changed)


def test_workers_find_a_directory_by_its_whole_path(toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = spec(toy_model)
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "default"):
        Path(name).symlink_to(toy_model)
    assert ray_rerank.Spec.of("mine", model, 1).name == str(tmp_path / "mine")
    assert [ray_rerank.Spec.of(name, model, 1).name for name in ("owner/name", "default")] == ["owner/name", "default"]


def work(count: int) -> Iterator[Work]:
    for number in range(count):
        yield Work(number, [0, 0], ["why do whales sleep"] * 2, [f"whale {number}", f"mountain {number}"])


def test_a_killed_worker_costs_nothing_but_time(toy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_rerank, "Worker", Slow)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    model, asked = spec(toy_model)
    found, told = [], []
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            if len(found) >= 3 and (workers := at_work()):
                workers[0].kill()
                killed.append(workers[0].pid)
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    for scored in ray_rerank.on_ray(asked, 2)(work(16), told.append):
        found.append(scored)
    killer.join()
    assert killed, "no worker was met at work"
    assert sorted(scored.number for scored in found) == list(range(16)) and told == [2] * 16
    for scored in found:
        window = next(one for one in work(16) if one.number == scored.number)
        assert np.array_equal(scored.scores, model.score_pairs(window.queries, window.passages))


def test_a_worker_killed_in_the_middle_leaves_no_trace_in_the_run(run: Path, toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from csrerank.collections.texts import DatasetDocuments, dataset_topics
    from csrerank.rerank import rerank_run
    from csrerank.windows import Engine

    monkeypatch.setattr(ray_rerank, "Worker", Slow)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    model, asked = spec(toy_model)
    killed: list[int] = []

    def killing() -> Engine:
        shared = ray_rerank.on_ray(asked, 2)

        def scored(work: Iterator[Work], advance: Any) -> Iterator[Scored]:
            for found in shared(work, advance):
                yield found
                if not killed and (workers := at_work()):
                    workers[0].kill()
                    killed.append(workers[0].pid)

        return scored

    for name, engine in (("alone", None), ("shared", killing)):
        rerank_run(run, tmp_path / f"{name}.trec", dataset_topics(DEMO), DatasetDocuments(DEMO), model, window=270, quiet=True, engine=engine)
    assert killed, "no worker was met at work"
    assert (tmp_path / "shared.trec").read_bytes() == (tmp_path / "alone.trec").read_bytes()


@pytest.mark.slow
def test_a_cluster_of_two_machines_and_a_killed_command(toy_model: Path, tmp_path: Path, cli: Any) -> None:
    """Two of Ray's nodes with a processor each, found by --address. The command is killed when its journal has scores; the same one goes on to the bytes of one process."""
    from ray.cluster_utils import Cluster

    run = demo_run(tmp_path / "first.trec", 48, 144)
    assert cli(*command(run, "alone.trec", toy_model, "--threads", 1), cwd=tmp_path).returncode == 0
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        shared = [str(word) for word in command(run, "ray.trec", toy_model, "--engine", "ray", "--workers", 2, "--threads", 1, "--address", cluster.address)]
        journal = tmp_path / "ray.trec.journal"
        job = subprocess.Popen([sys.executable, "-m", "csrerank", *shared], cwd=tmp_path)
        try:
            until = time.monotonic() + 120
            while not (journal.exists() and journal.stat().st_size > 8192):  # a window of scores
                assert job.poll() is None and time.monotonic() < until
                time.sleep(0.005)
        finally:
            job.kill()
            job.wait()
        assert journal.exists() and not (tmp_path / "ray.trec").exists()
        again = cli(*shared, cwd=tmp_path)
    finally:
        cluster.shutdown()
    assert again.returncode == 0 and " of them taken from the journal" in again.stderr, again.stderr
    assert (tmp_path / "ray.trec").read_bytes() == (tmp_path / "alone.trec").read_bytes()


class Deadly(ray_rerank.Worker):
    """Ends its process at window 1."""

    def score(self, work: Work) -> Scored | str:
        if work.number == 1:
            os._exit(1)
        return super().score(work)


@pytest.mark.slow
def test_workers_that_die_again_and_again(toy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_rerank, "Worker", Deadly)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with pytest.raises(InputError, match="3 Ray workers died, one after the other, at one window of pairs"):
        list(ray_rerank.on_ray(spec(toy_model)[1], 1)(work(3), lambda count: None))


@pytest.mark.slow
def test_a_worker_that_cannot_load_the_model(toy_model: Path, tmp_path: Path) -> None:
    for changed, said in (
        ({"fingerprint": "another"}, "another checkpoint has this name"),
        ({"place": {"device": "cpu", "threads": 7}}, "where the command has"),
        ({"name": str(tmp_path / "none")}, "no such model"),
    ):
        with pytest.raises(InputError, match=said):
            list(ray_rerank.on_ray(spec(toy_model, **changed)[1], 1)(work(2), lambda count: None))


def test_what_cannot_be_honoured_is_said(run: Path, toy_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from csrerank.cli import run_command

    for more, said in (
        (["--workers", 2], "--workers belongs to --engine ray; give that too"),
        (["--address", "x:1"], "--address belongs to --engine ray; give that too"),
        (["--engine", "ray", "--address", "127.0.0.1:1"], "--address needs --threads"),
        (["--engine", "ray", "--address", "127.0.0.1:1", "--threads", 1], "--address 127.0.0.1:1: no Ray answers there"),
    ):
        with pytest.raises(SystemExit) as ended:
            run_command([str(word) for word in command(run, str(tmp_path / "out.trec"), toy_model, *more)])
        error = capfd.readouterr().err
        assert ended.value.code == 2 and said in error and error.count("\n") == 1, error
        assert not list(tmp_path.iterdir())
