"""How pairs are scored: lengths, precision, and the windows of long passages."""

from typing import NamedTuple

from csrerank.errors import InputError


class Windows(NamedTuple):
    """MaxP (Dai and Callan 2019): a passage longer than ``size`` tokens is scored window by window, a new one every ``stride`` tokens, and the best window
    counts.
    """

    size: int
    stride: int

    @classmethod
    def checked(cls, size: int, stride: int | None = None) -> "Windows":
        """Windows of ``size`` tokens, by default overlapping by half; ``InputError`` where they would leave gaps or not advance."""
        stride = stride if stride is not None else max(1, size // 2)
        if not 1 <= stride <= size:
            raise InputError(f"--window {size} with --stride {stride}: the stride must lie between 1 and the window")
        return cls(size, stride)

    def spans(self, length: int) -> list[tuple[int, int]]:
        """The windows over ``length`` tokens; one, if they fit."""
        if length <= self.size:
            return [(0, length)]
        starts = range(0, length - self.size + self.stride, self.stride)
        return [(start, min(start + self.size, length)) for start in starts]


class Settings(NamedTuple):
    """How pairs are scored: ``max_length`` and ``query_tokens`` in tokens, ``batch_tokens`` in padded tokens a batch (None: what suits the device), ``windows`` for
    MaxP or None."""

    max_length: int = 512
    query_tokens: int = 64
    batch_tokens: int | None = None
    precision: str = "auto"
    windows: Windows | None = None
