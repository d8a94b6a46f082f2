"""``train``: a dataset and a base go in, a Hugging Face directory comes out; killed at any moment, the same call goes on from the last checkpoint and gives the
same weights.
"""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from csrerank.codeswitch import Lexicons
from csrerank.codeswitch.held_out import TrainingLexicons
from csrerank.errors import InputError
from csrerank.files import is_stream
from csrerank.models.batching import PairEncoder
from csrerank.training import faults, negatives, record, trainer
from csrerank.training.collection import Collection, encoder_directory, read_candidates
from csrerank.training.groups import Groups, Teacher, chosen, order
from csrerank.training.made_from import asked_for, base_revision, file_hashes, found_here
from csrerank.training.negatives import Candidates, Drawer, Shares
from csrerank.training.objectives import objective_named
from csrerank.training.translations import read_translations

DOCPAIRS = 50  # of a topic's training pairs, how many are kept to draw from


class Settings(NamedTuple):
    """How a checkpoint is trained. ``batch`` counts topics a step; ``negatives_per_topic`` documents beside the relevant one; ``topics`` how many at most,
    fixed by a hash; lengths in tokens; ``evaluate_every`` in steps, ``patience`` in evaluations without a better mean; ``distil`` is the share of the loss
    that follows the bi-encoder's cosines at ``temperature``; ``dropout`` is of hidden states, attention has none; ``freeze_layers`` lower layers stay as they are, with all embeddings."""

    objective: str = "pointwise"
    negatives: Shares = (("bm25", 1.0),)
    negatives_per_topic: int = 4
    epochs: int = 1
    topics: int | None = None
    batch: int = 8
    learning_rate: float = 5e-5
    warmup: float = 0.06
    weight_decay: float = 0.01
    max_length: int = 192
    query_tokens: int = 64
    pooling: str = "mean"
    layers: tuple[int, ...] | None = None
    freeze_embeddings: bool = True
    freeze_layers: int = 0
    distil: float = 0.0
    temperature: float = 0.05
    dropout: float = 0.1
    precision: str = "auto"
    evaluate_every: int = 250
    patience: int | None = None
    hold_out: bool = True
    seed: int = 1


class Inputs(NamedTuple):
    """What a training reads beside its dataset: run files in place of those that are made, a bi-encoder, a validation dataset (None for none), and
    a file of translations (``translations.read_translations``)."""

    bm25_run: Path | None = None
    dense_run: Path | None = None
    encoder: Path | None = None
    validation: str | None = None
    translations: Path | None = None


class Trained(NamedTuple):
    """What came of it: the directory, steps, the step whose weights were kept, and that step's validation by track."""

    output: Path
    steps: int
    best_step: int
    validation: Mapping[str, float]

    def summary(self) -> str:
        """One line for a person."""
        tracks = ", ".join(f"{name} {value:.4f}" for name, value in self.validation.items())
        return f"{self.output}: {self.steps} steps" + (f"; kept step {self.best_step}, validation RR@10: {tracks}" if tracks else "")


def train(
    dataset_id: str, base: str | Path, output: str | Path, settings: Settings, inputs: Inputs = Inputs(), *, cache: Path, licence: str = "other", loaders: int = 0, quiet: bool = False,  # noqa: B008 - immutable
) -> Trained:  # fmt: skip
    """Train a cross-encoder from ``base`` (an encoder's directory or hub name) on ``dataset_id`` and write it to ``output``.

    :param licence: that under which the weights are given, for the model card: the hub's name of one.
    :param loaders: processes beside this one that prepare batches; what is learnt is the same.

    Under ``torchrun`` the processes share each batch, in the order in which one process would see it. Raises ``InputError`` for bad settings, and where ``output``
    holds something else than an unfinished training by the same settings.
    """
    started = datetime.now(UTC)
    output = Path(output).absolute()  # checkpoints name each other
    _check(dataset_id, settings, inputs, licence)
    arguments = trainer.arguments(output, settings, bool(inputs.validation), quiet, loaders)
    with arguments.main_process_first(local=False, desc="first-stage runs and lexicons"):
        collection = _collection(dataset_id, settings, inputs, quiet)
        lexicons = [collection.lexicons.find(*name) for name in collection.policy.lexicons()]
        if licence != "other" and not record.is_commercial(source.licence for lexicon in lexicons for source in lexicon.sources):
            raise InputError(f"--licence {licence}: {dataset_id} switches by lexicons for non-commercial use; leave --licence out, or take other lexicons")
        topics = chosen(collection.relevant, settings.topics)
        wanted = order(topics, settings.epochs, settings.seed)
        if len(wanted) < settings.batch:
            raise InputError(f"{dataset_id}: {len(wanted)} topics do not fill one batch of {settings.batch}; lower --batch")
        asked = asked_for(dataset_id, base, collection, settings, inputs)
        here = found_here(settings, inputs, arguments, cache)
        if arguments.process_index == 0:
            record.check_free(output, asked | here)
        model, encoder = _model(base, settings)
        documents = collection.all_documents()
        collection.check_judged(topics, documents)
        validation = _validation(inputs, collection, cache, quiet)
        runs = _runs(collection, settings, inputs, cache, quiet)
        candidates = _candidates(collection, documents, settings, inputs, runs)
        drawer = Drawer(settings.negatives, candidates, documents, collection.relevant, settings.seed)
        drawer.check(topics, settings.negatives_per_topic)
        teacher = Teacher.of(collection, encoder_directory(inputs.encoder, cache), cache, quiet) if settings.distil else None
        here |= {"validation texts": validation.fingerprint if validation else None, "runs of negatives": file_hashes(runs)}
        lock = record.claim(output, asked | here) if arguments.process_index == 0 else nullcontext()
    with lock, faults.told(output, settings):
        groups = Groups(collection, drawer, wanted, settings.negatives_per_topic, settings.seed, teacher)
        running, resumed = _run(groups, model, encoder, settings, arguments, validation)
        result = _result(running.state, output)
        if arguments.process_index == 0:
            if inputs.translations:
                here["translations"] = {"file": inputs.translations.name, "SHA-256": asked["runs"]["translations"], "translated": collection.translated}
            happened = {
                **here, "topics": {"trained on": len(topics), "with a relevant document": len(collection.relevant)}, "layers": model.config.csrerank["layers"], "base revision": base_revision(base),
                "negatives drawn": groups.sources(result.steps * settings.batch), "resumed at step": resumed, "started": started,
            }  # fmt: skip
            _write(model, encoder.tokenizer, base, running.state.log_history, record.Training(collection, settings, asked, result, happened, licence))
    return result


def _check(dataset_id: str, settings: Settings, inputs: Inputs, licence: str) -> None:
    from csrerank.training.validation import refuse_test_topics

    objective_named(settings.objective)
    if not 0 <= settings.seed < 2**32:
        raise InputError(f"--seed {settings.seed}: give 0 to {2**32 - 1}")
    if not 0 <= settings.distil <= 1:
        raise InputError(f"--distil {settings.distil}: a share of the loss, from 0 to 1")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", licence):
        raise InputError(f"--licence {licence}: give the hub's name of one, as apache-2.0, or other")
    if settings.batch % trainer.processes():
        raise InputError(f"--batch {settings.batch} does not divide among {trainer.processes()} processes; give a multiple")
    for name, path in (("bm25", inputs.bm25_run), ("dense", inputs.dense_run)):
        if path and name not in dict(settings.negatives):
            raise InputError(f"--{name}-run is given, but --negatives takes none from it; add {name} there, or leave the run out")
        if path and not path.is_file():
            raise InputError(f"{path}: no such file; check the path given with --{name}-run")
    if inputs.translations and is_stream(inputs.translations):
        raise InputError(f"--translations {inputs.translations}: give a file; it is read more than once")
    if inputs.encoder and not settings.distil and ("dense" not in dict(settings.negatives) or inputs.dense_run):
        raise InputError(f"--encoder {inputs.encoder} is given, but neither --distil nor --negatives dense reads it; ask for one of these, or leave it out")
    refuse_test_topics(dataset_id, inputs.validation)
    if settings.patience and not inputs.validation:
        raise InputError("--patience counts validations; give --validation too")
    if not settings.hold_out and not inputs.validation:
        raise InputError("--all-words holds no words out, as training without --validation does anyway; give --validation too, or leave it out")
    if settings.temperature != Settings().temperature and not settings.distil:
        raise InputError(f"--temperature {settings.temperature:g} is that of the bi-encoder's cosines in --distil; give --distil too, or leave it out")


def is_first_process() -> bool:
    """Whether this is the process that writes and speaks, of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def _runs(collection: Collection, settings: Settings, inputs: Inputs, cache: Path, quiet: bool) -> dict[str, Path]:
    """The runs that negatives come from: those given, and for other sources those that are made and kept in ``cache``."""
    given = {"bm25": inputs.bm25_run, "dense": inputs.dense_run}
    return {
        name: given[name] or collection.run(name, 2 * negatives.DEPTH, cache, inputs.encoder, quiet) for name, _ in settings.negatives if name in negatives.RUNS
    }


def _candidates(collection: Collection, documents: Sequence[str], settings: Settings, inputs: Inputs, runs: Mapping[str, Path]) -> dict[str, Candidates]:
    """The sources that negatives come from. Raises ``InputError`` where one names a document that the collection lacks."""
    sources: dict[str, Candidates] = {}
    for name, _ in settings.negatives:
        if name in runs:
            path = runs[name]
            found = read_candidates(path, collection.topics, 2 * negatives.DEPTH)
            if path in (inputs.bm25_run, inputs.dense_run) and (odd := _unknown(found, documents)):
                raise InputError(f"{path}: document {odd!r} is not in {collection.base}; give a run over its documents")
            kept = {topic: [document for document in documents if document not in collection.relevant.get(topic, ())] for topic, documents in found.items()}
            sources[name] = negatives.of_run({topic: documents[: negatives.DEPTH] for topic, documents in kept.items()})
        elif name == "article":
            article_of = collection.articles()
            members: dict[str, list[str]] = {}
            for document, article in article_of.items():
                members.setdefault(article, []).append(document)
            sources[name] = negatives.of_article(members, article_of)
        elif name == "docpairs":
            worse = collection.docpairs(DOCPAIRS)
            if odd := _unknown(worse, documents):
                raise InputError(f"{collection.base}: document {odd!r} of its training pairs is not in the collection; mend it, or take other --negatives")
            sources[name] = negatives.of_run(worse)
    return sources


def _unknown(found: Mapping[str, Sequence[str]], documents: Sequence[str]) -> str | None:
    """A document of ``found``, the first in order of names, that is not among ``documents``."""
    return min({document for ranking in found.values() for document in ranking}.difference(documents), default=None)


def _validation(inputs: Inputs, collection: Collection, cache: Path, quiet: bool) -> Any:
    from csrerank.training.validation import switched_policy, validation_of

    return validation_of(inputs.validation, collection.relevant, cache, switched_policy(), Lexicons(quiet=quiet), quiet) if inputs.validation else None


def identity(dataset_id: str, base: str | Path, settings: Settings, inputs: Inputs) -> dict[str, Any]:
    """What makes the weights of such a training (of validation its id and policy, not its texts); ``training.json`` has it under *made from*."""
    return asked_for(dataset_id, base, _collection(dataset_id, settings, inputs, True), settings, inputs)


def _collection(dataset_id: str, settings: Settings, inputs: Inputs, quiet: bool) -> Collection:
    lexicons = TrainingLexicons(quiet=quiet) if settings.hold_out and inputs.validation else Lexicons(quiet=quiet)
    return Collection(dataset_id, lexicons, read_translations(inputs.translations) if inputs.translations else None)


def _model(base: str | Path, settings: Settings) -> tuple[Any, PairEncoder]:
    import torch

    from csrerank.models.backbones import load_backbone

    model, tokenizer = load_backbone(base, settings.pooling, settings.layers, settings.seed, settings.dropout)  # type: ignore[arg-type]
    if settings.max_length > tokenizer.model_max_length:
        limit = tokenizer.model_max_length
        raise faults.TrainingError(
            f"--max-length {settings.max_length} is more than the encoder's {limit} tokens",
            f"give {limit} or less",
            f"give another --base, or {faults.OTHERWISE}",
        )
    if settings.freeze_embeddings:
        model.base_model.get_input_embeddings().weight.requires_grad_(False)
    kept = model.config.csrerank["layers"]
    if settings.freeze_layers and not (settings.freeze_embeddings and settings.freeze_layers < len(kept)):
        raise InputError(f"--freeze-layers {settings.freeze_layers}: give fewer than the encoder's {len(kept)} layers, and leave --train-embeddings out")
    if settings.freeze_layers:
        model.base_model.embeddings.requires_grad_(False)
        # DeBERTa's encoder has parts beside its layers that the lower ones read: embeddings of relative positions with their norm, a convolution.
        for part in [*model.base_model.encoder.layer[: settings.freeze_layers], *_beside_layers(model.base_model.encoder)]:
            part.requires_grad_(False)
    if not torch.cuda.is_available():
        model.set_attn_implementation("eager")  # on a CPU the fused kernel's backward pass takes twice as long
    return model, PairEncoder(tokenizer, settings.max_length, settings.query_tokens)


def _beside_layers(encoder: Any) -> list[Any]:
    return [part for name, part in encoder.named_children() if name != "layer"]


def _run(groups: Groups, model: Any, encoder: PairEncoder, settings: Settings, arguments: Any, validation: Any) -> tuple[Any, int]:
    """The Trainer after training, and the step that it went on from."""
    from csrerank.models.precision import resolve_precision
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings as Scoring

    def validate(model: Any) -> dict[str, float]:
        scoring = Scoring(settings.max_length, settings.query_tokens, precision=resolve_precision(settings.precision, arguments.device))
        return validation(Reranker(model, encoder.tokenizer, scoring, device=str(arguments.device)).score_pairs)

    running = trainer.ranking_trainer(
        trainer.Loss(objective_named(settings.objective), settings.distil, settings.temperature), validate if validation else None, settings.patience,
        model=model, args=arguments, train_dataset=groups, eval_dataset=[0] if validation else None,
        data_collator=trainer.collator(encoder, 8192 if arguments.device.type == "cuda" else 1024), processing_class=encoder.tokenizer,
    )  # fmt: skip
    with arguments.main_process_first(local=False):
        last = trainer.last_checkpoint(Path(arguments.output_dir), arguments.world_size)
    trainer.train_on(running, last, settings.patience)
    return running, int(last.name.rpartition("-")[2]) if last else 0


def _result(state: Any, output: Path) -> Trained:
    best = state.best_global_step or state.global_step
    evaluated: dict[str, float] = next((entry for entry in state.log_history if entry["step"] == best and "eval_mean" in entry), {})
    return Trained(output, state.global_step, best, {name.removeprefix("eval_"): value for name, value in evaluated.items() if name.startswith("eval_")})


def _write(model: Any, tokenizer: Any, base: str | Path, history: list[dict[str, float]], training: record.Training) -> None:
    from csrerank.models.checkpoint import save_tokenizer
    from csrerank.training.curves import write_curves

    # Else CrossEncoder applies a sigmoid, and saturated scores tie.
    model.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    output = training.result.output
    work = output / trainer.CHECKPOINTS / "finished"
    shutil.rmtree(work, ignore_errors=True)
    model.save_pretrained(work)
    save_tokenizer(tokenizer, work)
    write_curves(history, work)
    record.write_record(work, base, training)
    record.publish(work, output)
