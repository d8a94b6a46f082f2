"""The processor's memory while scoring: blocks that are kept, pages that are given back, and how one knows that it ran out."""

import ctypes
import sys
from functools import cache

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt


@cache
def keep_memory() -> None:
    """Have glibc keep the blocks that are freed after each product, up to a quarter of a GiB: given back, their pages are cleared anew at each use, which shows beside the
    8-bit products. Elsewhere nothing is done."""
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if tune is not None:
        tune(_MMAP_THRESHOLD, 32 << 20)  # the most that glibc takes
        tune(_TRIM_THRESHOLD, 256 << 20)


def give_back_memory() -> None:
    """Have glibc give back the pages of free blocks wherever they lie. Those kept for products leave holes between the blocks that oneDNN keeps for each shape, and without this
    a long job takes more and more. Elsewhere nothing is done.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, torch's on a device, or torch's on a CPU, which is known by its words."""
    import torch

    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
