"""Fixtures: a cache and an ir_datasets home of the session's own, a toy checkpoint, and the command line as a process."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # each processor has a worker, and threads would wait for each other; torch reads this when it is imported
# ir_datasets reads its home when it is imported, which test modules do: so this comes before any fixture.
_SESSION = Path(tempfile.mkdtemp(prefix="csrerank-tests-"))
REAL_DOWNLOADS = Path(__file__).parents[2] / "shared" / "data" / "downloads"
os.environ["IR_DATASETS_HOME"] = str(_SESSION / "ir_datasets")
os.environ["CSRERANK_CACHE"] = str(_SESSION / "cache")
(_SESSION / "ir_datasets").mkdir()
FETCHED = Path(__file__).parents[1] / "build" / "downloads"  # what tests/fetch_freedict.py put there
DOWNLOADS = _SESSION / "ir_datasets" / "downloads"
DOWNLOADS.mkdir()
for _folder in (REAL_DOWNLOADS, FETCHED):
    for _file in _folder.iterdir() if _folder.is_dir() else ():
        (DOWNLOADS / _file.name).symlink_to(_file)

needs_real_data = pytest.mark.skipif(not REAL_DOWNLOADS.is_dir(), reason="the real data sets are not at hand")

needs_freedict = pytest.mark.skipif(
    not (FETCHED / "bfde3f41b934d44af6299be4f172b2f5").exists(), reason="FreeDict is not at hand; tests/fetch_freedict.py fetches it"
)

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_sessionfinish() -> None:
    """Leave nothing behind."""
    import shutil

    shutil.rmtree(_SESSION, ignore_errors=True)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch computes with one thread: two wait for each other where the machine is busy, and their number moves the last bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def muse_downloads() -> Path:
    """The download folder, with MUSE's dictionaries unpacked into it under their hashes. Skips where they are not at hand."""
    import gzip
    import hashlib

    packed = REAL_DOWNLOADS.parent / "lexicons" / "muse"
    if not packed.is_dir():
        pytest.skip("MUSE's dictionaries are not at hand")
    for file in packed.glob("*.gz"):
        content = gzip.decompress(file.read_bytes())
        (DOWNLOADS / hashlib.md5(content).hexdigest()).write_bytes(content)
    return DOWNLOADS


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy checkpoint with one logit."""
    from toy import build_checkpoint

    return build_checkpoint(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def toy_encoder(tmp_path_factory: pytest.TempPathFactory, toy_model: Path) -> Path:
    """The toy checkpoint without its head, as a bi-encoder."""
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path_factory.mktemp("toy-encoder")
    AutoModel.from_pretrained(toy_model, add_pooling_layer=False).save_pretrained(folder)
    AutoTokenizer.from_pretrained(toy_model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Run ``csrerank ARGS`` as a process of its own; ``input`` is its standard input (text)."""

    def run(*args: object, input: str | None = None, cwd: Path | None = None, timeout: int = 120) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([sys.executable, "-m", "csrerank", *map(str, args)], input=input, capture_output=True, text=True, cwd=cwd, timeout=timeout)

    return run
