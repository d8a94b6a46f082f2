"""What ends a training that was begun well: memory or a disk that does not suffice, a loss that is no number, a folder of another training; each in one line."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from csrerank.errors import InputError

if TYPE_CHECKING:
    from csrerank.training.job import Settings

# The mend where a caller, as ``reproduce``, fixes the settings.
OTHERWISE = "train it by csrerank train with other settings, and rank the checkpoint as model:DIR"
# How torch and safetensors complain of a disk; they name neither file nor cause in a class of its own.
_UNWRITTEN = ("inline_container", "PytorchStreamWriter", "while serializing")


class TrainingError(InputError):
    """A complaint whose mend depends on who asked: ``for_fixed_settings`` is the one for callers that have no options for the settings."""

    def __init__(self, what: str, mend: str, fixed: str) -> None:
        super().__init__(f"{what}; {mend}")
        self.for_fixed_settings = f"{what}; {fixed}"


@contextmanager
def told(output: Path, settings: "Settings") -> Iterator[None]:
    """Turn what torch and safetensors raise where memory or the disk under ``output`` ends into ``InputError``."""
    from safetensors import SafetensorError

    from csrerank.models.memory import is_out_of_memory

    try:
        yield
    except (MemoryError, RuntimeError, OSError, SafetensorError) as error:
        if is_out_of_memory(error) or getattr(error, "errno", None) == errno.ENOMEM:
            raise TrainingError(
                f"memory does not hold a step of --batch {settings.batch} topics, each with {1 + settings.negatives_per_topic} inputs of up to --max-length {settings.max_length} tokens",
                f"the same command goes on where memory is free; else lower one of these, and delete {output} or give another --output",
                f"the same command goes on where memory is free; else {OTHERWISE}",
            ) from error
        if any(part in str(error) for part in _UNWRITTEN):
            raise InputError(
                f"{output}: cannot be written ({str(error).splitlines()[0]}); free some space on its disk, and the same command goes on"
            ) from error
        raise
