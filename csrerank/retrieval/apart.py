"""A first-stage run made in a process of its own, for callers that compute with torch: with a Java machine in the same process its bf16 kernels crash."""

import subprocess
import sys
from pathlib import Path

from csrerank.errors import InputError


def first_stage_run(dataset_id: str, method: str, k: int, path: Path, *, encoder: Path | None = None, quiet: bool = False) -> Path:
    """The run ``path``, made by ``csrerank retrieve`` where it is not there yet. Raises ``InputError`` with that command's complaint."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "csrerank", "retrieve", "--dataset", dataset_id, "--first-stage", method, "--k", str(k), "--output", str(path)]
    command += ["--encoder", str(encoder)] if encoder and method == "dense" else []
    done = subprocess.run([*command, *(["--quiet"] if quiet else [])], stderr=subprocess.PIPE if quiet else None, text=True)
    if done.returncode:
        said = (done.stderr or "").strip().removeprefix("Error: ") or "see above"
        raise InputError(f"the {method} run of {dataset_id} could not be made ({said}); mend that, or make one with csrerank retrieve")
    return path
