"""A re-ranking job that is killed: it goes on where it was and writes the same bytes, and nothing half-written is ever seen.

As a program (``python tests/test_kill.py``) this file is a server for the tests: it imports torch once and forks a job for each folder that it reads from
standard input.
"""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import numpy as np
import pytest

from csrerank.models.reranker import Prepared

TOPICS, DEPTH, WINDOW = 25, 64, 64
KILLS = 10


class Texts:
    """Made-up documents by id."""

    fingerprint = "made-up texts"

    def texts(self, ids: Sequence[str]) -> Mapping[str, str]:
        return {doc: text_of(doc, 6, 60) for doc in ids}


@cache
def text_of(name: str, fewest: int, most: int) -> str:
    generator = random.Random(name)
    words = ["".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(2, 7))) for _ in range(generator.randint(fewest, most) // 4)]
    return " ".join(words)


def write_input(folder: Path) -> None:
    """A run in which every topic has documents of its own."""
    lines = (f"t{topic} Q0 d{topic}-{rank} {rank} {DEPTH - rank} bm25\n" for topic in range(TOPICS) for rank in range(1, DEPTH + 1))
    (folder / "run.trec").write_text("".join(lines))


def job(folder: Path, model: Any, **options: Any) -> dict[str, Any]:
    """Re-rank ``folder``/run.trec to out.trec."""
    from csrerank.collections.texts import Topics
    from csrerank.rerank import rerank_run

    topics = Topics({f"t{topic}": text_of(f"t{topic}", 8, 16) for topic in range(TOPICS)}, "made-up topics")
    return rerank_run(folder / "run.trec", folder / "out.trec", topics, Texts(), model, **{"window": WINDOW, "quiet": True, **options})._asdict()


def serve(checkpoint: str, warm: str) -> None:
    """Run a job in the folder ``warm``. Then for each folder on standard input fork a job; tell its process id, then its report where it gives one, then how it ended."""
    import torch

    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

    torch.set_num_threads(1)  # else two threads wait for each other where the machine is busy; and a pool of threads does not outlive a fork
    model = Reranker.load(checkpoint, Settings(max_length=64, query_tokens=16))
    job(Path(warm), model)  # what is imported at first use
    tell("ready", os.getpid())
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                tell("report", job(Path(line.strip()), model))
                os._exit(0)
            except BaseException as error:
                tell("error", repr(error))
                os._exit(1)
        tell("started", pid)
        tell("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def tell(what: str, value: Any) -> None:
    os.write(1, (json.dumps([what, value]) + "\n").encode())


class Server:
    """The server process, one job at a time."""

    def __init__(self, checkpoint: Path, warm: Path) -> None:
        write_input(warm)
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}  # which does not outlive a fork either
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(checkpoint), str(warm)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.said: Queue[list[Any]] = Queue()
        Thread(target=self._listen, daemon=True).start()
        assert self.said.get(timeout=300) == ["ready", self.process.pid]
        self.pid = 0

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.put(json.loads(line))

    def start(self, folder: Path) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        what, self.pid = self.said.get(timeout=300)
        assert what == "started"

    def wait(self, until: float = float("inf"), watch: Callable[[], object] = lambda: None) -> tuple[int | None, dict[str, Any] | None]:
        """How the job ended (None: not by the time ``until``) and what it reported; calls ``watch`` all the while."""
        report = None
        while time.monotonic() < until:
            watch()
            try:
                what, value = self.said.get(timeout=0.001)
            except Empty:
                continue
            if what == "ended":
                return value, report
            assert what == "report", value
            report = value
        return None, report

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    process = Server(toy_model, tmp_path_factory.mktemp("warm"))
    yield process
    process.close()


class Uninterrupted:
    """What the job gives when nobody kills it, and how long it takes."""

    def __init__(self, server: Server, folder: Path) -> None:
        write_input(folder)
        began = time.monotonic()
        server.start(folder)
        status, report = server.wait()
        assert status == 0 and report is not None
        self.seconds = time.monotonic() - began
        self.output, self.sidecar, self.report, self.names = (folder / "out.trec").read_bytes(), sidecar_of(folder), report, names(folder)


@pytest.fixture(scope="module")
def uninterrupted(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    return Uninterrupted(server, tmp_path_factory.mktemp("whole"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sidecar_of(folder: Path) -> dict[str, Any]:
    """The sidecar, without what differs from one execution to the next."""
    import yaml

    content = yaml.safe_load((folder / "out.trec.ir-metadata.yml").read_text())
    del content["times"], content["implementation"], content["method"]["counts"]["resumed"]
    return content


def whole_records(journal: Path) -> int:
    """The pairs whose scores a journal holds."""
    content = journal.read_bytes() if journal.exists() else b""
    at, pairs = content.find(b"\n") + 1, 0
    while at and at + 16 <= len(content):
        count = struct.unpack_from("<I", content, at + 4)[0]
        at += 16 + 4 * count
        pairs += count if at <= len(content) else 0
    return pairs


def test_the_job_is_long_enough_to_be_killed_in(uninterrupted: Uninterrupted) -> None:
    assert uninterrupted.report["pairs"] == TOPICS * DEPTH == 25 * WINDOW
    assert uninterrupted.names == ["out.trec", "out.trec.ir-metadata.yml", "run.trec"]
    assert uninterrupted.output.count(b"\n") == TOPICS * DEPTH and uninterrupted.report["passages_cut"] > 0


@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_a_random_moment(number: int, server: Server, uninterrupted: Uninterrupted, tmp_path: Path) -> None:
    write_input(tmp_path)
    target = tmp_path / "out.trec"
    seen = set()

    def watch() -> None:
        if target.exists():
            seen.add(target.read_bytes())

    moment = uninterrupted.seconds * (number + random.Random(number).random()) / KILLS
    status: int | None = 0
    while status == 0:  # it was faster this time and had ended: earlier, then
        for path in tmp_path.glob("out.trec*"):
            path.unlink()
        server.start(tmp_path)
        status, _ = server.wait(time.monotonic() + moment, watch)
        if status is None:
            os.kill(server.pid, signal.SIGKILL)
            status, _ = server.wait(watch=watch)
        moment *= 0.9
    assert status == -signal.SIGKILL
    kept = whole_records(tmp_path / "out.trec.journal")
    server.start(tmp_path)
    status, report = server.wait(watch=watch)
    assert status == 0 and report is not None
    assert target.read_bytes() == uninterrupted.output
    assert seen <= {uninterrupted.output}, "a part of the run was visible"
    assert report == uninterrupted.report | {"resumed": kept}
    assert sidecar_of(tmp_path) == uninterrupted.sidecar
    assert names(tmp_path) == uninterrupted.names


def test_killed_again_and_again(server: Server, uninterrupted: Uninterrupted, tmp_path: Path) -> None:
    write_input(tmp_path)
    kept = []
    for windows in (3, 9, 17):
        server.start(tmp_path)
        while whole_records(tmp_path / "out.trec.journal") < windows * WINDOW:
            assert server.wait(time.monotonic() + 0.001)[0] is None
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait()[0] == -signal.SIGKILL
        kept.append(whole_records(tmp_path / "out.trec.journal"))
    assert kept == sorted(kept)
    server.start(tmp_path)
    status, report = server.wait()
    assert status == 0 and report is not None and report["resumed"] == kept[-1]
    assert (tmp_path / "out.trec").read_bytes() == uninterrupted.output and names(tmp_path) == uninterrupted.names


# The moments that chance would not hit: a stand-in for the model makes the job short, and the job kills itself.


class StandIn:
    """Scores by a checksum of the texts. ``before`` is called with the number of each call that scores."""

    fingerprint = "a stand-in"
    calibration = pruner = None
    arithmetic = "fp32"

    def __init__(self, before: Callable[[int], object] = lambda call: None) -> None:
        import torch

        from csrerank.models.settings import Settings

        self.settings, self.device, self.encoder, self.before, self.calls = Settings(), torch.device("cpu"), self, before, 0
        self.budget_halvings = 0

    def queries_cut(self, queries: Sequence[str]) -> int:
        return 0

    def prepared(self, queries: Sequence[str], passages: Sequence[str], *_: object) -> Prepared:
        return Prepared(list(zip(queries, passages, strict=True)), np.zeros(0), [], np.zeros(0), 1)  # type: ignore[arg-type]

    def scores_of(self, prepared: Prepared, *_: object) -> np.ndarray:
        self.before(self.calls)
        self.calls += 1
        return np.array([random.Random("".join(pair)).random() for pair in prepared.inputs], np.float32)


class Power(BaseException):
    """Out it goes."""


def die_at(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrange for this process to kill itself ``before`` or ``after`` the n-th call of a method of Path: ``after replace 1``."""
    when, method, turn = moment.split()
    original = getattr(Path, method)
    calls = 0

    def deadly(path: Path, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == int(turn) and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(path, *arguments, **options)
        if calls == int(turn):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    monkeypatch.setattr(Path, method, deadly)


@pytest.mark.parametrize("moment", ["before replace 1", "after replace 1", "before replace 2", "after replace 2", "before unlink 1", "after unlink 1"])
def test_killed_between_run_sidecar_and_journal(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    write_input(whole)
    job(whole, StandIn())
    place = tmp_path / "killed"
    place.mkdir()
    write_input(place)
    (place / "out.trec").write_text("an older run")
    model = StandIn()
    pid = os.fork()
    if pid == 0:
        try:
            with monkeypatch.context() as patches:
                die_at(moment, patches)
                job(place, model)
        finally:
            os._exit(1)  # an error must not leave a second pytest running
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert (place / "out.trec").read_bytes() == (b"an older run" if moment == "before replace 1" else (whole / "out.trec").read_bytes())
    report = job(place, StandIn())
    assert report["resumed"] == (0 if moment == "after unlink 1" else TOPICS * DEPTH)
    assert (place / "out.trec").read_bytes() == (whole / "out.trec").read_bytes()
    assert sidecar_of(place) == sidecar_of(whole)
    assert names(place) == ["out.trec", "out.trec.ir-metadata.yml", "run.trec"]


def test_a_journal_cut_at_any_byte_gives_the_same_run(tmp_path: Path) -> None:
    write_input(tmp_path)
    journal = tmp_path / "out.trec.journal"

    def fail(call: int) -> None:
        if call == 2:
            raise Power

    with pytest.raises(Power):
        job(tmp_path, StandIn(fail), window=540, k=60)
    content = journal.read_bytes()
    assert names(tmp_path) == ["out.trec.journal", "run.trec"] and whole_records(journal) == 1080
    job(tmp_path, StandIn(), window=540, k=60)
    expected = (tmp_path / "out.trec").read_bytes()
    head, record = content.index(b"\n") + 1, 16 + 2160
    assert len(content) == head + 2 * record
    for length in (0, 1, head - 1, head, head + 1, head + 15, head + 16, head + record - 1, head + record, head + record + 17, len(content) - 1, len(content)):
        journal.write_bytes(content[:length])
        report = job(tmp_path, StandIn(), window=540, k=60)
        assert (tmp_path / "out.trec").read_bytes() == expected and not journal.exists()
        assert (report["resumed"], report["passages_cut"]) == (540 * max(0, (length - head) // record), 3)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    write_input(tmp_path)
    journal = tmp_path / "out.trec.journal"

    def fail(call: int) -> None:
        if call == 1:
            raise Power

    with pytest.raises(Power):
        job(tmp_path, StandIn(fail), window=600)
    content = journal.read_bytes()
    head = content.index(b"\n") + 1
    expected = None
    for at in (head, head + 8, head + 12, head + 16, len(content) - 1):  # window number, passages cut, checksum, scores
        spoilt = bytearray(content)
        spoilt[at] ^= 1
        journal.write_bytes(spoilt)
        report = job(tmp_path, StandIn(), window=600)
        assert report["resumed"] == 0 and report["passages_cut"] == 3
        output = (tmp_path / "out.trec").read_bytes()
        expected = expected or output
        assert output == expected


if __name__ == "__main__":
    serve(*sys.argv[1:])
