"""``reproduce``: train, re-rank, score and test every cell of a matrix, and print the paper's tables."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from csrerank.cache import cache_folder
from csrerank.errors import InputError
from csrerank.experiments import tables
from csrerank.experiments.candidates import LISTED, candidates_path, depth, first_stage
from csrerank.experiments.cards import check_card, write_results
from csrerank.experiments.layout import MEASURE, Cell, Layout, cells, read_scores, scores_of, short_hash
from csrerank.experiments.matrix import Ranker, training_of
from csrerank.experiments.report import report
from csrerank.experiments.scale import SCALES
from csrerank.experiments.systems import CHECKPOINT
from csrerank.experiments.systems import systems as systems_named
from csrerank.experiments.tracks import SMALL, Track
from csrerank.experiments.tracks import tracks as tracks_named
from csrerank.files import is_stream
from csrerank.models.backbones import layers_of
from csrerank.training.faults import TrainingError
from csrerank.training.job import Inputs, Settings, identity, train

TRAINING = {"xquad-r": "csrerank/en-qa/train", "mmarco": "csrerank/msmarco/train"}
VALIDATION = {"xquad-r": "csrerank/en-qa/validation", "mmarco": "csrerank/en-qa/paragraphs/validation"}
STAGES = ("dense", "oracle")  # the headline, and the paper's English candidate list
# Every system of a collection is trained alike: chosen on validation articles (docs/results.md), never on test topics.
_SENTENCES = Settings(
    objective="listwise", distil=0.7, temperature=0.02, negatives=(("bm25", 0.2), ("dense", 0.4), ("article", 0.2), ("random", 0.2)), batch=8,
    learning_rate=3e-4, dropout=0.0, freeze_layers=6, max_length=128, evaluate_every=625,
)  # fmt: skip
# The paper's objective and kind of negatives; passages are longer than sentences. Not tried: it takes MS MARCO and a GPU.
_PASSAGES = Settings(objective="pointwise", negatives=(("docpairs", 0.75), ("random", 0.25)), batch=8, learning_rate=1e-4, max_length=256, evaluate_every=2500)
SETTINGS = {"xquad-r": _SENTENCES, "mmarco": _PASSAGES}
QUESTIONS, TOPICS = {"xquad-r": 13_149, "mmarco": 502_939}, {"xquad-r": 1_190, "mmarco": 6_980}  # to train on, and judged: for --dry-run
SECONDS_A_STEP, PAIRS_A_SECOND = 3.0, 50.0  # two cores without bf16, 12 layers: rough, for --dry-run
LARGE = 60_000_000  # bytes of runs, which are meant to be kept under version control


class Matrix(NamedTuple):
    """What to make: names of systems, seeds, tracks and first stages, the encoder to start from, the scale, the device to rank on, the translations of the
    training texts that *Fine-tuning* needs, and the bi-encoder of dense candidates."""

    collection: str
    systems: tuple[str, ...]
    seeds: tuple[int, ...]
    tracks: tuple[str, ...] | None
    stages: tuple[str, ...]
    scale: str
    base: Path
    device: str | None = None
    translations: Path | None = None
    encoder: Path | None = None


class Made(NamedTuple):
    """What came of it: cells computed and cells that were there, and the tables as Markdown."""

    computed: int
    kept: int
    tables: str


def plan(matrix: Matrix, policies: Path) -> tuple[list[Cell], list[Track]]:
    """The cells of a matrix, and its tracks; the policies that its systems need are written into ``policies``.

    Raises ``InputError`` for what does not exist, before anything is trained: also for a device, an encoder, a checkpoint and a file of translations.
    """
    planned = _planned(matrix, policies)
    if bool(matrix.translations) != ("fine-tuning" in matrix.systems):
        raise InputError("--systems fine-tuning and --translations FILE belong together; give both or neither")
    _check(matrix, [cell.system.checkpoint for cell in planned[0]])
    return planned


def _planned(matrix: Matrix, policies: Path) -> tuple[list[Cell], list[Track]]:
    if matrix.scale not in SCALES:
        raise InputError(f"--scale {matrix.scale}: known are {', '.join(SCALES)}")
    unknown = [stage for stage in matrix.stages if stage not in STAGES]
    if unknown or (matrix.collection in LISTED and matrix.stages != ("oracle",)):
        raise InputError(f"--first-stage {','.join(matrix.stages)}: known are {', '.join(STAGES)}; mMARCO has its own candidates alone, the oracle")
    wanted = list(matrix.tracks) if matrix.tracks is not None else SMALL.get(matrix.collection) if matrix.scale != "full" else None
    chosen = tracks_named(matrix.collection, wanted)
    return list(cells(systems_named(matrix.systems, policies), matrix.seeds, chosen, matrix.stages)), chosen


def _check(matrix: Matrix, checkpoints: Sequence[str | None]) -> None:
    from csrerank.models.checkpoint import DEFAULT_MODEL, find_model
    from csrerank.request import check_device
    from csrerank.training.translations import read_translations

    check_device(matrix.device)
    if None not in checkpoints and matrix.base != cache_folder() / "encoder":
        raise InputError(f"--base {matrix.base}: --systems names checkpoints alone, and nothing is trained from it; leave it out")
    known_hub = str(matrix.base).count("/") == 1 and not str(matrix.base).startswith((".", "/")) and not matrix.base.exists()
    if None in checkpoints and not known_hub and str(matrix.base) != DEFAULT_MODEL and not (matrix.base / "config.json").exists():
        raise InputError(f"--base {matrix.base}: no encoder there; make the default one with scripts/build_encoder, or give a directory or a hub name")
    there = matrix.encoder is not None and (matrix.encoder / "config.json").exists()
    if "dense" in matrix.stages and not there:
        raise InputError(f"{matrix.encoder}: no bi-encoder there for dense candidates; make it with scripts/build_encoder, or give --first-stage oracle")
    if None in checkpoints and _is_taught(matrix.collection) and not there:
        raise InputError(f"{matrix.encoder}: no bi-encoder there for trainings to learn from; make it with scripts/build_encoder")
    for checkpoint in {checkpoint for checkpoint in checkpoints if checkpoint and checkpoint != DEFAULT_MODEL}:
        if not Path(find_model(checkpoint)).is_dir():
            raise InputError(f"--systems {CHECKPOINT}{checkpoint}: no such directory; give one with a checkpoint, or {CHECKPOINT}{DEFAULT_MODEL}")
        training_of(Path(checkpoint))
    if matrix.translations:
        if is_stream(matrix.translations):
            raise InputError(f"--translations {matrix.translations}: give a file; it is read more than once")
        read_translations(matrix.translations)


def _check_cards(matrix: Matrix, checkpoints: Sequence[str | None]) -> None:
    from csrerank.models.checkpoint import DEFAULT_MODEL

    if matrix.collection in LISTED:
        raise InputError(f"--cards: a card sets a model beside its first stage, and {matrix.collection}'s list has no order; leave --cards out")
    for checkpoint in {checkpoint for checkpoint in checkpoints if checkpoint}:
        if checkpoint == DEFAULT_MODEL:
            raise InputError(f"--cards: {CHECKPOINT}{DEFAULT_MODEL} is the model that ships, whose card is fixed; leave --cards out, or name a directory")
        check_card(Path(checkpoint))


def reproduce(matrix: Matrix, runs: Path, work: Path, *, cache: Path, cards: bool = False, quiet: bool = False, say: Callable[[str], None] = print) -> Made:
    """Make every cell that is missing or whose inputs changed, and the tables of all. Killed at any moment, the same call goes on where it was.

    :param cards: write each model's results into its model card.
    """
    from csrerank.models.checkpoint import find_model

    planned, chosen = plan(matrix, work / "policies")
    if cards:
        _check_cards(matrix, [cell.system.checkpoint for cell in planned])
    layout, scale = Layout(runs, work, matrix.collection, matrix.scale), SCALES[matrix.scale]
    models = _by_model(planned)
    for training, translated, seed in models:
        if translated:
            _directory(matrix, training, translated, seed, layout)  # an id that the dataset lacks is told before anything is trained
    fixed = {training: Path(find_model(training.removeprefix(CHECKPOINT))) for training, _, _ in models if training.startswith(CHECKPOINT)}
    candidates = {(track.name, stage): first_stage(track, stage, layout, scale, matrix.encoder, quiet) for track in chosen for stage in matrix.stages}
    computed = 0
    for (training, translated, seed), own in models.items():
        directory = fixed[training] if training in fixed else _trained(matrix, training, translated, seed, layout, cache, quiet, say)
        ranker = Ranker(directory, candidates, layout, scale, quiet, matrix.device)
        for cell in own:
            if ranker.missing(cell):
                ranker.make(cell)
                computed += 1
                say(f"{cell.name}: {MEASURE} {tables.mean(read_scores(scores_of(layout.run(cell)))):.4f}")
        if cards:
            write_results(directory, own, layout)
    size = _size(runs)
    if size > LARGE:
        say(
            f"{runs} has {size / 1e6:.0f} MB, more than the {LARGE / 1e6:.0f} MB that should be kept; give another --output, or delete scales that are not needed"
        )
    return Made(computed, len(planned) - computed, report(matrix.systems, matrix.seeds, matrix.stages, planned, chosen, layout))


def _size(folder: Path) -> int:
    """Bytes of the files in a folder. Another job may work in it, so that a file is gone when its turn comes."""
    size = 0
    for inside, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):
                size += os.stat(os.path.join(inside, name)).st_size
    return size


def tabled(matrix: Matrix, runs: Path, work: Path) -> str:
    """The tables of the cells that are there, whatever they were made from; nothing is trained, ranked or written.

    Raises ``InputError`` where the matrix names an encoder, a device or translations, which tables have no use for.
    """
    ours = cache_folder() / "encoder"
    named = {
        f"--base {matrix.base}": matrix.base != ours, f"--encoder {matrix.encoder}": matrix.encoder not in (None, ours),
        f"--translations {matrix.translations}": matrix.translations, f"--device {matrix.device}": matrix.device,
    }  # fmt: skip
    if unused := [option for option, given in named.items() if given]:
        raise InputError(f"{', '.join(unused)}: --tables prints what is there, whatever it was made from, and reads none of these; leave them out")
    with TemporaryDirectory() as policies:
        planned, chosen = _planned(matrix, Path(policies))
    layout = Layout(runs, work, matrix.collection, matrix.scale)
    return report(matrix.systems, matrix.seeds, matrix.stages, planned, chosen, layout)


def _by_model(planned: Sequence[Cell]) -> dict[tuple[str, bool, int], list[Cell]]:
    """(training, whether its texts are translated, seed) -> the cells of that model."""
    found: dict[tuple[str, bool, int], list[Cell]] = {}
    for cell in planned:
        training = cell.system.model(cell.track)
        assert training is not None
        found.setdefault((training, cell.system.translated, cell.seed), []).append(cell)
    return found


def settings_of(matrix: Matrix, seed: int) -> Settings:
    """How the models of a matrix are trained: alike but for the data."""
    settings = SETTINGS[matrix.collection]
    # Half of the base's layers: six are half of those of the encoder that this was chosen with.
    frozen = layers_of(matrix.base) // 2 if settings.freeze_layers else 0
    return settings._replace(seed=seed, topics=SCALES[matrix.scale].questions, batch=_batch(matrix), freeze_layers=frozen)


def _batch(matrix: Matrix) -> int:
    batch = SETTINGS[matrix.collection].batch
    return min(batch, SCALES[matrix.scale].questions or batch)


def training_id(matrix: Matrix, training: str, seed: int) -> str:
    """The training collection's id; each seed switches anew."""
    return f"{TRAINING[matrix.collection]}/{training}/seed-{seed}"


def inputs_of(matrix: Matrix, translated: bool) -> Inputs:
    """What else a training reads."""
    return Inputs(
        encoder=matrix.encoder if _is_taught(matrix.collection) else None,
        validation=VALIDATION[matrix.collection],
        translations=matrix.translations if translated else None,
    )


def _is_taught(collection: str) -> bool:
    """Whether trainings read a bi-encoder."""
    settings = SETTINGS[collection]
    return bool(settings.distil) or "dense" in dict(settings.negatives)


def model_key(made_from: Mapping[str, Any]) -> str:
    """A short name for what a model is trained from. A policy file counts by its content, wherever it lies, and versions do not: the record has them."""
    dataset = re.sub(r"policy:(.*)(?=/seed-)", lambda match: f"policy:{Path(match[1]).name}", made_from["dataset"])
    return short_hash(json.dumps({**{name: value for name, value in made_from.items() if name != "versions"}, "dataset": dataset}, sort_keys=True))


def _directory(matrix: Matrix, training: str, translated: bool, seed: int, layout: Layout) -> Path:
    made_from = identity(training_id(matrix, training, seed), matrix.base, settings_of(matrix, seed), inputs_of(matrix, translated))
    return layout.model(training, translated, seed, model_key(made_from))


def _trained(matrix: Matrix, training: str, translated: bool, seed: int, layout: Layout, cache: Path, quiet: bool, say: Callable[[str], None]) -> Path:
    """A model's directory: the one that was trained from the same, or one made now. None is ever deleted."""
    directory = _directory(matrix, training, translated, seed, layout)
    if not (directory / "config.json").exists():
        dataset, settings, inputs = training_id(matrix, training, seed), settings_of(matrix, seed), inputs_of(matrix, translated)
        if directory.exists():
            say(f"{directory}: going on with an unfinished training; delete it to begin anew")
        try:
            say(train(dataset, matrix.base, directory, settings, inputs, cache=cache, quiet=quiet).summary())
        except TrainingError as error:
            raise InputError(f"training {dataset}: {error.for_fixed_settings}") from error
    return directory


def listed(matrix: Matrix, runs: Path, work: Path) -> str:
    """The cells of a matrix with estimated times; what it calls there is what ``reproduce`` would keep. It writes nothing, but for the default model, which is
    unpacked into the cache where cells of ``model:default`` lie: whether they hold goes by its bytes.
    """
    with TemporaryDirectory() as policies:
        planned, _ = plan(matrix, Path(policies))
        layout, scale = Layout(runs, work, matrix.collection, matrix.scale), SCALES[matrix.scale]
        lines, whole = [], 0.0
        questions, topics = QUESTIONS[matrix.collection], TOPICS[matrix.collection]
        steps = min(scale.questions or questions, questions) // _batch(matrix)
        pairs = min(scale.topics or topics, topics) * depth(layout, scale)
        for (training, translated, seed), own in _by_model(planned).items():
            directory = _there(matrix, training, translated, seed, own, layout)
            if not training.startswith(CHECKPOINT):
                whole += 0 if directory else steps * SECONDS_A_STEP
                what = "there" if directory else f"{steps} steps, about {steps * SECONDS_A_STEP / 60:.0f} minutes"
                name = f"policy {Path(training).stem}" if training.startswith("policy:") else training
                lines.append(f"train  {name}{' translated' if translated else ''} seed {seed}: {what}")
            for cell in own:
                kept = directory is not None and _kept(cell, directory, matrix, layout)
                whole += 0 if kept else pairs / PAIRS_A_SECOND
                lines.append(f"rerank {cell.name}: {'there' if kept else f'{pairs} pairs, about {pairs / PAIRS_A_SECOND / 60:.0f} minutes'}")
    return "\n".join(
        [
            *lines,
            f"{len(planned)} cells, about {whole / 60:.0f} minutes, by rough constants for two cores without bf16; first-stage runs not counted",
        ]
    )


def _there(matrix: Matrix, training: str, translated: bool, seed: int, own: Sequence[Cell], layout: Layout) -> Path | None:
    """The directory of a model that does not have to be trained."""
    from csrerank.models.checkpoint import find_model

    if training.startswith(CHECKPOINT):
        # The default model is unpacked at first use, which a dry run leaves to the cells.
        return Path(find_model(training.removeprefix(CHECKPOINT))) if any(layout.run(cell).exists() for cell in own) else None
    pattern = layout.model(training, translated, seed, "*")
    if not any(pattern.parent.glob(pattern.name)):  # so that nothing is read, or downloaded, for an identity that nothing can have
        return None
    directory = _directory(matrix, training, translated, seed, layout)
    return directory if (directory / "config.json").exists() else None


def _kept(cell: Cell, directory: Path, matrix: Matrix, layout: Layout) -> bool:
    """Whether ``reproduce`` would keep a cell; not so where its candidates have to be made first."""
    scale = SCALES[matrix.scale]
    if not layout.run(cell).exists():
        return False
    path = candidates_path(cell.track, cell.stage, layout, scale, matrix.encoder)
    return path.exists() and not Ranker(directory, {(cell.track.name, cell.stage): path}, layout, scale, device=matrix.device).missing(cell)


def names(text: str, option: str) -> tuple[str, ...]:
    """Names with commas between them, each once. Raises ``InputError`` for none."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise InputError(f"{option} is empty; give names with commas between them")
    return found


def seeds(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    found = names(text, "--seeds")
    if not all(part.isdecimal() for part in found):
        raise InputError(f"--seeds {text}: give whole numbers with commas between them")
    numbers = tuple(dict.fromkeys(map(int, found)))
    if max(numbers) >= 2**32:
        raise InputError(f"--seeds {text}: give 0 to {2**32 - 1}")
    return numbers
