"""Loss and validation curves of a training: ``curves.tsv`` and ``curves.png`` beside the checkpoint."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from csrerank.files import atomic

_LEFT_OUT = ("epoch", "step", "total_flos")


def write_curves(history: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write what Trainer logged (``state.log_history``) as a table, one line a step, and as a picture."""
    steps: dict[int, dict[str, float]] = {}
    for entry in history:
        known = {
            name: float(value) for name, value in entry.items() if name not in _LEFT_OUT and not name.startswith("train_") and isinstance(value, int | float)
        }
        steps.setdefault(int(entry["step"]), {}).update(known)
    steps = {step: values for step, values in sorted(steps.items()) if values}
    names = sorted({name for values in steps.values() for name in values})
    with atomic(folder / "curves.tsv") as stream:
        stream.write(("\t".join(["step", *names]) + "\n").encode())
        for step, values in steps.items():
            stream.write(("\t".join([str(step), *(f"{values[name]:.6g}" if name in values else "" for name in names)]) + "\n").encode())
    _draw(steps, folder / "curves.png")


def _draw(steps: Mapping[int, Mapping[str, float]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.add_subplot()
    left.plot(
        [step for step, values in steps.items() if "loss" in values],
        [values["loss"] for values in steps.values() if "loss" in values],
        color="0.6",
        label="loss",
    )
    left.set_xlabel("step")
    left.set_ylabel("loss")
    tracks = sorted({name for values in steps.values() for name in values if name.startswith("eval_")})
    if tracks:
        right = left.twinx()
        right.set_ylabel("validation RR@10")
        for name in tracks:
            points = [(step, values[name]) for step, values in steps.items() if name in values]
            right.plot([step for step, _ in points], [value for _, value in points], marker="o", label=name.removeprefix("eval_"))
    figure.legend(loc="outside upper center", ncols=len(tracks) + 1)
    with atomic(path) as stream:
        figure.savefig(stream, format="png", dpi=110)
