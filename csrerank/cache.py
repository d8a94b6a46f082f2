"""Where csrerank keeps what can be made again: unpacked models, indexes, compiled lexicons."""

import os
from pathlib import Path

from csrerank.errors import InputError


def cache_folder() -> Path:
    """Where csrerank's caches lie: ``$CSRERANK_CACHE``, else ``$XDG_CACHE_HOME/csrerank``, else ``~/.cache/csrerank``.

    Creates nothing. A relative ``XDG_CACHE_HOME`` is ignored, as the XDG base directory specification asks. Raises ``InputError`` where
    no home directory can be found.
    """
    if chosen := os.environ.get("CSRERANK_CACHE"):
        return Path(chosen).expanduser().absolute()
    if (shared := Path(os.environ.get("XDG_CACHE_HOME", ""))).is_absolute():
        return shared / "csrerank"
    try:
        return Path.home() / ".cache" / "csrerank"
    except RuntimeError as error:
        raise InputError("no home directory to keep a cache in; set CSRERANK_CACHE to a folder") from error
