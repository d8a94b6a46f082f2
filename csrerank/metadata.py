"""Run metadata: an ir_metadata sidecar ``RUN.ir-metadata.yml`` beside each run, never in the run file (its in-file header breaks other readers)."""

import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from csrerank.errors import InputError
from csrerank.files import atomic

LIBRARIES = ("csrerank", "torch", "transformers", "tokenizers", "ir_datasets", "pyserini", "trectools", "faiss-cpu", "numpy")


def sidecar(run: str | Path) -> Path:
    """Where the metadata of ``run`` lies."""
    return Path(f"{run}.ir-metadata.yml")


def versions() -> dict[str, str]:
    """Installed versions of what makes a score."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe(method: Mapping[str, Any], data: Mapping[str, Any], started: datetime, tag: str, goal: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The six parts of ir_metadata 0.1 for a run made now: what the platform and the command were, and ``method`` and ``data`` as the caller says."""
    finished = datetime.now(UTC)
    return {
        "schema version": 0.1,
        "tag": tag,
        "actor": {"role": "experimenter"},
        "platform": {
            "hardware": {"cpu": {"model": _cpu_model(), "number of cores": os.cpu_count()}, "ram": _memory()},
            "operating system": {"kernel": platform.release(), "distribution": platform.system()},
            "software": {"python": platform.python_version(), "libraries": versions()},
        },
        "implementation": {
            "executable": {
                "cmd": shlex.join(
                    [*(["python", "-m", "csrerank.rerank"] if Path(sys.argv[0]).stem == "rerank" else ["csrerank"]), *map(_relative, sys.argv[1:])]
                )
            }
        },
        "method": {"automatic": True, **method},
        "data": dict(data),
        "research goal": dict(goal or {}),
        "times": {
            "started": started.isoformat(timespec="seconds"),
            "finished": finished.isoformat(timespec="seconds"),
            "seconds": round((finished - started).total_seconds(), 1),
        },
    }


def write_sidecar(run: str | Path, content: Mapping[str, Any]) -> Path:
    """Write the sidecar of ``run`` whole, by rename."""
    path = sidecar(run)
    with atomic(path) as file:
        file.write(dumped(content))
    return path


def dumped(content: Mapping[str, Any]) -> bytes:
    """The YAML of a sidecar."""
    import yaml

    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=200).encode()


def read_sidecar(run: str | Path) -> dict[str, Any] | None:
    """The metadata of ``run``, or None where it has none. Raises ``InputError`` where the file is no YAML mapping."""
    import yaml

    path = sidecar(run)
    if not path.exists():
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or a date such as 2024-13-45
        raise InputError(f"{path}: not YAML ({str(error).splitlines()[0]}); mend or delete it") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a mapping; mend or delete it")
    return content


def dataset_of(run: str | Path) -> str | None:
    """The ir_datasets id that the sidecar of ``run`` names, or None."""
    content = read_sidecar(run) or {}
    data = content.get("data")
    collection = data.get("test collection") if isinstance(data, dict) else None
    name = collection.get("ir_datasets") if isinstance(collection, dict) else None
    return name if isinstance(name, str) else None


def platform_of() -> dict[str, Any]:
    """Processor, accelerator and memory of this machine."""
    import torch

    found = {"cpu": _cpu_model(), "cores": os.cpu_count(), "ram": _memory()}
    return found | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def _relative(word: str) -> str:
    """A word of the command line; whole paths into the folder that it was given in lose that folder, because metadata goes where a run is published."""
    try:
        here = re.escape(str(Path.cwd()))
    except FileNotFoundError:  # the folder was deleted meanwhile
        return word
    return re.sub(rf"(?<![^=,:]){here}/", "", word)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
