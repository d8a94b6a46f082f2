"""The built wheel, in an environment of its own, re-ranks the demo collection: weights, YAML and texts are inside."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_re_ranks_the_demo_collection(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".venv*", ".git", "build", "*.egg-info", "__pycache__", "runs", "demo-runs", ".*_cache", ".hypothesis")
    )
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", source], check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert wheel.stat().st_size < 60e6

    venv.create(tmp_path / "fresh", with_pip=True)
    python = tmp_path / "fresh" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True, capture_output=True)
    # The dependencies are this environment's, seen through a path file (which does not follow this environment's own editable install of csrerank).
    site = Path(
        subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True, text=True).stdout.strip()
    )
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {**os.environ, "IR_DATASETS_HOME": str(tmp_path / "irds"), "CSRERANK_CACHE": str(tmp_path / "cache")}

    def run(*arguments: str) -> str:
        done = subprocess.run([tmp_path / "fresh" / "bin" / "csrerank", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run([python, "-c", "import csrerank; print(csrerank.__file__)"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert str(tmp_path / "fresh") in where
    run("retrieve", "--dataset", "csrerank/demo/en-en", "--k", "10", "--output", "bm25.trec")
    run("rerank", "--run", "bm25.trec", "--output", "better.trec")
    table = run("evaluate", "bm25.trec", "better.trec", "--measures", "RR@10").splitlines()
    before, after = (float(line.split()[-1]) for line in table[1:])
    assert after > before
