"""The systems of Litschko et al. (2023): what each is trained on, and whether its test texts are translated."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from csrerank.collections.switched import BL_CS
from csrerank.errors import InputError
from csrerank.experiments.tracks import Track

CHECKPOINT = "model:"


def are_trained(names: Iterable[str]) -> bool:
    """Whether any of the systems with these names is trained here."""
    return not all(name.startswith(CHECKPOINT) for name in names)


class System(NamedTuple):
    """A row of the tables. ``training`` is what stands behind the training collection's id; ``{pair}`` there means a model of its own for each pair;
    ``translated``: texts come from a file of translations. ``model:DIR`` there is a checkpoint that is not trained here."""

    name: str
    training: str
    translate_test: bool = False
    translated: bool = False

    @property
    def slug(self) -> str:
        """Its name as a part of a path and as a run's tag."""
        if self.checkpoint:
            return f"model-{re.sub(r'[^A-Za-z0-9_.-]+', '-', Path(self.checkpoint).name)}-{hashlib.sha256(self.checkpoint.encode()).hexdigest()[:6]}"
        return self.name.replace("/", "-")

    @property
    def checkpoint(self) -> str | None:
        """The directory of a model that is not trained here, or ``default``; None for one that is."""
        return self.training.removeprefix(CHECKPOINT) if self.training.startswith(CHECKPOINT) else None

    def model(self, track: Track) -> str | None:
        """The training of the model that ranks a track; None where the system has none for it (BL-CS is defined for the paper's pairs)."""
        if "{pair}" not in self.training:
            return self.training
        return self.training.replace("{pair}", track.name) if track.name in BL_CS else None

    def dataset(self, track: Track) -> str | None:
        """The id whose texts it ranks; None where there is no dictionary. English alone leaves nothing to translate."""
        if not self.translate_test or track.name == "en-en":
            return track.dataset
        import ir_datasets

        translated = f"{track.dataset}/translate-test"
        return translated if translated in ir_datasets.registry else None


SYSTEMS = {
    system.name: system
    for system in (
        System("zero-shot", "zero-shot"),
        System("fine-tuning", "zero-shot", translated=True),
        System("bl-cs", "bl-cs/{pair}"),
        System("ml-cs", "ml-cs"),
        System("wiki-cs", "wiki-cs"),
        System("zero-shot+tt", "zero-shot", translate_test=True),
        System("ml-cs+tt", "ml-cs", translate_test=True),
    )
}
BASELINE = "zero-shot"
PAIRS = tuple(f"bl-cs/{pair}" for pair in BL_CS)


def systems(names: Sequence[str], policies: Path) -> list[System]:
    """The systems of these names; ``ml-cs@.25`` is ML-CS with another p, whose policy file is written into ``policies``. Raises ``InputError``."""
    return [_system(name, policies) for name in names]


def _system(name: str, policies: Path) -> System:
    if name in SYSTEMS:
        return SYSTEMS[name]
    if name in PAIRS:
        return System(name, name)  # one pair's model, on every track
    if name.startswith(CHECKPOINT):
        if name == CHECKPOINT:
            raise InputError(f"--systems {name}: no directory named; write model:DIR, or model:default")
        return System(name, name)
    base, at, share = name.partition("@")
    if not at or (base != "ml-cs" and base not in PAIRS):
        raise InputError(
            f"--systems {name}: known are {', '.join(SYSTEMS)}; bl-cs/PAIR for one pair's model on every track; and ml-cs@P and bl-cs/PAIR@P for another p, as ml-cs@.25; model:DIR for a checkpoint"
        )
    try:
        probability = float(share)
    except ValueError:
        probability = -1.0
    if not 0 < probability <= 1:
        raise InputError(f"--systems {name}: p must be a number above 0 and at most 1")
    if probability == 0.5:
        raise InputError(f"--systems {name}: p = .5 is {base} itself; give that")
    return System(name, f"policy:{_policy_file(base, probability, policies)}")


def _policy_file(base: str, probability: float, policies: Path) -> Path:
    """The policy of a system with another p, as a file."""
    from csrerank.collections.switched import policy_named
    from csrerank.files import atomic
    from csrerank.metadata import dumped

    content = policy_named(base).plain()
    content["name"] = f"{base} p={probability:g}"
    for side in ("query", "passage"):
        for rule in content[side]["rules"]:
            rule["probability"] = probability
    path = policies / f"{base.replace('/', '-')}-{probability:g}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as stream:
        stream.write(dumped(content))
    return path.resolve()
