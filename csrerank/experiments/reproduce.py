"""``reproduce``: train, re-rank, score and test every cell of a matrix, and print the paper's tables."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from csrerank.errors import InputError
from csrerank.experiments import tables
from csrerank.experiments.matrix import MEASURE, Cell, Layout, Ranker, cells, first_stage, qrels_of, read_scores, trained
from csrerank.experiments.scale import SCALES
from csrerank.experiments.systems import systems as systems_named
from csrerank.experiments.tracks import SMALL, Track
from csrerank.experiments.tracks import tracks as tracks_named
from csrerank.training.job import Inputs, Settings, identity, train

TRAINING = {"xquad-r": "csrerank/en-qa/train", "mmarco": "csrerank/msmarco/train"}
VALIDATION = {"xquad-r": "csrerank/en-qa/validation", "mmarco": "csrerank/en-qa/validation"}
STAGES = ("dense", "oracle")  # the headline, and the paper's English candidate list
# Every system is trained alike: chosen on validation articles (docs/results.md), never on test topics.
SETTINGS = Settings(negatives=(("bm25", 0.5), ("article", 0.25), ("random", 0.25)), batch=8, learning_rate=1e-4, max_length=128, evaluate_every=250)
SECONDS_A_STEP, PAIRS_A_SECOND = 1.6, 90.0  # two cores, 12 layers, for --dry-run until something was measured


class Matrix(NamedTuple):
    """What to make: names of systems, seeds, tracks and first stages, the encoder to start from, the scale, and
    the translations of the training texts that *Fine-tuning* needs."""

    collection: str
    systems: tuple[str, ...]
    seeds: tuple[int, ...]
    tracks: tuple[str, ...] | None
    stages: tuple[str, ...]
    scale: str
    base: Path
    device: str | None = None
    translations: Path | None = None


class Made(NamedTuple):
    """What came of it: cells computed and cells that were there, and the tables as Markdown."""

    computed: int
    kept: int
    tables: str


def plan(matrix: Matrix, work: Path) -> tuple[list[Cell], list[Track]]:
    """The cells of a matrix, and its tracks. Raises ``InputError`` for what does not exist."""
    if matrix.scale not in SCALES:
        raise InputError(f"--scale {matrix.scale}: known are {', '.join(SCALES)}")
    unknown = [stage for stage in matrix.stages if stage not in STAGES]
    if unknown or (matrix.collection == "mmarco" and matrix.stages != ("oracle",)):
        raise InputError(f"--first-stage {','.join(matrix.stages)}: known are {', '.join(STAGES)}; mMARCO has its own candidates alone, the oracle")
    if bool(matrix.translations) != ("fine-tuning" in matrix.systems):
        raise InputError("--systems fine-tuning and --translations FILE belong together; give both or neither")
    wanted = list(matrix.tracks) if matrix.tracks is not None else SMALL.get(matrix.collection) if matrix.scale != "full" else None
    chosen = tracks_named(matrix.collection, wanted)
    return list(cells(systems_named(matrix.systems, work / "policies"), matrix.seeds, chosen, matrix.stages)), chosen


def reproduce(matrix: Matrix, runs: Path, work: Path, *, cache: Path, quiet: bool = False, say: Callable[[str], None] = print) -> Made:
    """Make every cell that is missing or whose inputs changed, and the tables of all. Killed at any moment, the same call goes on where it was."""
    planned, chosen = plan(matrix, work)
    layout, scale = Layout(runs, work, matrix.scale), SCALES[matrix.scale]
    for track in chosen:
        for stage in matrix.stages:
            first_stage(track, stage, layout, scale, quiet)
    computed = 0
    for (training, translated, seed), own in _by_model(planned).items():
        directory = _model(matrix, training, translated, seed, layout, cache, quiet, say)
        ranker = Ranker(directory, layout, scale, quiet, matrix.device)
        for cell in own:
            if ranker.missing(cell):
                ranker.make(cell)
                computed += 1
                say(f"{cell.name}: {MEASURE} {tables.mean(read_scores(layout.scores(cell))):.4f}")
    return Made(computed, len(planned) - computed, report(matrix, planned, chosen, layout))


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
    scale = SCALES[matrix.scale]
    return SETTINGS._replace(seed=seed, topics=scale.questions, batch=min(SETTINGS.batch, scale.questions or SETTINGS.batch))


def training_id(matrix: Matrix, training: str, seed: int) -> str:
    """The training collection's id; each seed switches anew."""
    return f"{TRAINING[matrix.collection]}/{training}/seed-{seed}"


def _model(matrix: Matrix, training: str, translated: bool, seed: int, layout: Layout, cache: Path, quiet: bool, say: Callable[[str], None]) -> Path:
    dataset, settings, inputs = (
        training_id(matrix, training, seed),
        settings_of(matrix, seed),
        Inputs(validation=VALIDATION[matrix.collection], translations=matrix.translations if translated else None),
    )

    def make(directory: Path) -> None:
        say(train(dataset, matrix.base, directory, settings, inputs, cache=cache, quiet=quiet).summary())

    return trained(layout.model(training, translated, seed), identity(dataset, matrix.base, settings, inputs), make)


def report(matrix: Matrix, planned: Sequence[Cell], chosen: Sequence[Track], layout: Layout) -> str:
    """The tables of what lies in ``layout``, as Markdown; what was not run says so."""
    lines: list[str] = []
    for stage in matrix.stages:
        found: dict[tuple[str, str], list[tables.Scores]] = {}
        for cell in (cell for cell in planned if cell.stage == stage):
            if layout.scores(cell).exists():
                found.setdefault((cell.system.name, cell.track.name), []).append(read_scores(layout.scores(cell)))
        for track in chosen:
            found[tables.FIRST_STAGE, track.name] = [_first_stage_scores(track, stage, layout)]
        rows = [tables.FIRST_STAGE, *matrix.systems]
        clusters = {track.name: _clusters(track, layout.chosen(track, stage)) for track in chosen}
        scale = SCALES[matrix.scale]
        what = "our encoder's dense run" if stage == "dense" else "the English run carried over (an oracle, as in the paper)"
        lines += [
            f"### Candidates: {what}",
            "",
            f"{MEASURE} x 100, {scale.topics or 'all'} topics, {scale.k} candidates, seeds {', '.join(map(str, matrix.seeds))}.",
            "",
        ]
        lines += tables.main_table(found, rows, chosen)
        made = tables.differences(found, rows, chosen, clusters)
        if made:
            lines += ["**Against Zero-shot** (points; resampled by article where topics share articles)", "", *tables.difference_table(made)]
        same = tables.equivalences(found, rows, chosen, clusters)
        if same:
            lines += [f"**Does it leave MoIR as it is?** (equivalent within {100 * tables.MARGIN:g} points)", "", *tables.equivalence_table(same)]
        across = {track.name: overlap_kinds(track, layout.chosen(track, stage)) for track in chosen if track.group.startswith("CLIR")}
        if made and across:
            lines += ["**Gain by token overlap** of topic and relevant document, CLIR tracks together", "", *tables.overlap_table(found, rows, across)]
    return "\n".join(lines)


def _first_stage_scores(track: Track, stage: str, layout: Layout) -> tables.Scores:
    from csrerank.evaluation.measures import evaluate, parse_measure
    from csrerank.trec import read_run

    run = layout.chosen(track, stage)
    return dict(evaluate(read_run(run), qrels_of(track.dataset, run), [parse_measure(MEASURE)])[MEASURE])


def _clusters(track: Track, run: Path) -> dict[str, str] | None:
    from csrerank.evaluation.clusters import clusters_of

    return clusters_of(track.dataset, qrels_of(track.dataset, run))


def overlap_kinds(track: Track, run: Path) -> dict[str, str]:
    """Topic -> how many words it shares with its relevant documents together, as both are written in the track."""
    from csrerank.collections.texts import DatasetDocuments, dataset_topics
    from csrerank.languages import LANGUAGES
    from csrerank.words import words

    judged, topics = qrels_of(track.dataset, run), dataset_topics(track.dataset).texts
    documents = DatasetDocuments(track.dataset)
    query_lang, document_lang = track.name.split("-")
    found = {}
    for topic, grades in judged.items():
        relevant = documents.texts([document for document, grade in grades.items() if grade > 0])
        shared = {word.casefold() for text in relevant.values() for word in words(text, document_lang if document_lang in LANGUAGES else "en")}
        found[topic] = tables.overlap_kind({word.casefold() for word in words(topics[topic], query_lang if query_lang in LANGUAGES else "en")}, shared)
    return found


def listed(matrix: Matrix, runs: Path, work: Path) -> str:
    """The cells of a matrix with estimated times, by what trainings and cells took on this machine where some were made."""
    planned, _ = plan(matrix, work)
    layout, scale = Layout(runs, work, matrix.scale), SCALES[matrix.scale]
    lines, whole = [], 0.0
    for (training, translated, seed), own in _by_model(planned).items():
        steps = (scale.questions or 13_000) // SETTINGS.batch
        seconds = 0.0 if (layout.model(training, translated, seed) / "config.json").exists() else steps * SECONDS_A_STEP
        whole += seconds
        lines.append(
            f"train  {training}{' translated' if translated else ''} seed {seed}: {'there' if not seconds else f'{steps} steps, about {seconds / 60:.0f} minutes'}"
        )
        for cell in own:
            pairs = (scale.topics or 1190) * scale.k
            seconds = 0.0 if layout.run(cell).exists() else pairs / PAIRS_A_SECOND
            whole += seconds
            lines.append(f"rerank {cell.name}: {'there' if not seconds else f'{pairs} pairs, about {seconds / 60:.0f} minutes'}")
    return "\n".join([*lines, f"{len(planned)} cells, about {whole / 60:.0f} minutes on two cores; a GPU is some 20 times faster"])


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
    return tuple(map(int, found))
