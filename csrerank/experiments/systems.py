"""The systems of Litschko et al. (2023): what each is trained on, and whether its test texts are translated."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from csrerank.collections.switched import BL_CS
from csrerank.errors import InputError
from csrerank.experiments.tracks import Track


class System(NamedTuple):
    """A row of the tables. ``training`` is what stands behind the training collection's id; ``{pair}`` there means a model of its own for each pair."""

    name: str
    training: str
    translate_test: bool = False

    def model(self, track: Track) -> str | None:
        """The training of the model that ranks a track; None where the system has none for it (BL-CS is defined for the paper's pairs)."""
        if "{pair}" not in self.training:
            return self.training
        return self.training.replace("{pair}", track.name) if track.name in BL_CS else None

    def dataset(self, track: Track) -> str | None:
        """The id whose texts it ranks; None where a track in English alone leaves nothing to translate, or where there is no dictionary."""
        if not self.translate_test:
            return track.dataset
        import ir_datasets

        translated = f"{track.dataset}/translate-test"
        return translated if translated in ir_datasets.registry else None


SYSTEMS = {
    system.name: system
    for system in (
        System("zero-shot", "zero-shot"),
        System("bl-cs", "bl-cs/{pair}"),
        System("ml-cs", "ml-cs"),
        System("wiki-cs", "wiki-cs"),
        System("zero-shot+tt", "zero-shot", translate_test=True),
        System("ml-cs+tt", "ml-cs", translate_test=True),
    )
}
BASELINE = "zero-shot"


def systems(names: Sequence[str], policies: Path) -> list[System]:
    """The systems of these names; ``ml-cs@.25`` is ML-CS with another p, whose policy file is written into ``policies``. Raises ``InputError``."""
    return [_system(name, policies) for name in names]


def _system(name: str, policies: Path) -> System:
    if name in SYSTEMS:
        return SYSTEMS[name]
    if name in (f"bl-cs/{pair}" for pair in BL_CS):
        return System(name, name)  # one pair's model, on every track
    base, at, share = name.partition("@")
    if base != "ml-cs" or not at:
        raise InputError(
            f"--systems {name}: known are {', '.join(SYSTEMS)}; ml-cs@P for another p, as ml-cs@.25; and bl-cs/PAIR for one pair's model on every track"
        )
    try:
        probability = float(share)
    except ValueError:
        probability = -1.0
    if not 0 < probability <= 1:
        raise InputError(f"--systems {name}: p must be a number above 0 and at most 1")
    return System(name, f"policy:{_policy_file(probability, policies)}")


def _policy_file(probability: float, policies: Path) -> Path:
    from csrerank.codeswitch import Policy
    from csrerank.files import atomic
    from csrerank.metadata import dumped

    content = Policy.load("ml-cs").plain()
    content["name"] = f"ml-cs p={probability:g}"
    for side in ("query", "passage"):
        for rule in content[side]["rules"]:
            rule["probability"] = probability
    path = policies / f"ml-cs-{probability:g}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as stream:
        stream.write(dumped(content))
    return path.resolve()
