"""What a training leaves: the folder it claims and fills, ``training.json`` with what made the weights, and a model card filled from what happened."""

import json
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from csrerank.codeswitch.held_out import SHARE, TrainingLexicons
from csrerank.files import atomic, check_writable
from csrerank.journal import locked
from csrerank.metadata import platform_of, versions
from csrerank.models.card import write_card
from csrerank.training.faults import TrainingError
from csrerank.training.trainer import CHECKPOINTS

if TYPE_CHECKING:
    from csrerank.training.collection import Collection
    from csrerank.training.job import Settings, Trained

_SETTINGS, _LOCK = "settings.json", ".csrerank-lock"


# What trainings that were begun by an earlier version do not state.
_NEW = ("runs of negatives",)


class Training(NamedTuple):
    """A training that ended: ``made_from`` is what its weights depend on, ``happened`` what else is worth knowing, with ``started``, when this process began;
    ``licence`` is the one that the card names."""

    collection: "Collection"
    settings: "Settings"
    made_from: Mapping[str, Any]
    result: "Trained"
    happened: Mapping[str, Any]
    licence: str


def check_free(output: Path, asked: Mapping[str, Any]) -> None:
    """Raise ``InputError`` unless ``output`` is new, empty, or left unfinished by a training that was asked for the same."""
    checkpoints = output / CHECKPOINTS
    known = checkpoints / _SETTINGS
    if known.exists():
        try:
            before = json.loads(known.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        differs = [name for name in asked if not isinstance(before, dict) or before.get(name, asked[name] if name in _NEW else None) != asked[name]]
        if differs:
            raise TrainingError(
                f"{output}: an unfinished training with another {', '.join(differs)}",
                "give the same settings to go on, another --output, or delete it",
                "go on with what it was begun with (versions, device, threads), or delete this folder to begin anew",
            )
    elif (output / "config.json").exists():
        raise TrainingError(f"{output}: holds a checkpoint already", "give another --output, or delete it", "delete it to train anew")
    elif output.exists() and (not output.is_dir() or any(path.name != CHECKPOINTS for path in output.iterdir())):
        raise TrainingError(f"{output}: holds other files", "give another --output", "move them away")
    elif checkpoints.exists() and any(not path.name.startswith(".csrerank-") for path in checkpoints.iterdir()):
        raise TrainingError(f"{checkpoints}: not csrerank's", "give another --output", "move it away")


def claim(output: Path, asked: Mapping[str, Any]) -> BinaryIO:
    """Take ``output`` for this training, until the file that it gives is closed. Raises ``InputError`` where ``check_free`` does, where it cannot be written, and
    where another training holds it.
    """
    check_free(output, asked)
    known = output / CHECKPOINTS / _SETTINGS
    try:
        known.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{output}: cannot be made ({error.strerror})", "give another --output", "give another --work") from error
    check_writable(known)
    lock = locked(known.with_name(_LOCK))
    try:
        check_free(output, asked)  # another may have come and gone meanwhile
        with atomic(known) as stream:
            stream.write(json.dumps(asked, indent=1).encode())
    except BaseException:
        lock.close()
        raise
    return lock


def publish(work: Path, output: Path) -> None:
    """Move the files of ``work`` to ``output`` and end the training there. ``config.json`` comes last: a directory that has it is whole."""
    for path in sorted(work.iterdir(), key=lambda path: path.name == "config.json"):
        path.replace(output / path.name)
    (output / CHECKPOINTS / _SETTINGS).unlink()  # until here the same command goes on
    shutil.rmtree(output / CHECKPOINTS)


def is_commercial(licences: Iterable[str]) -> bool:
    """Whether none of these licences is for non-commercial use alone."""
    return not any("NC" in licence.replace("-", " ").split() for licence in licences)


def write_record(folder: Path, base: str | Path, training: Training) -> None:
    """Write ``training.json`` and ``README.md`` into ``folder``."""
    collection, result, happened = training.collection, training.result, dict(training.happened)
    started, finished = happened.pop("started"), datetime.now(UTC)
    lexicons = [collection.lexicons.find(*name) for name in collection.policy.lexicons()]
    content = {
        "made from": dict(training.made_from),
        **happened,
        "policy": collection.policy.plain(),
        "licences of the lexicons": sorted({source.licence for lexicon in lexicons for source in lexicon.sources}),
        "sources of the lexicons": sorted({source.name for lexicon in lexicons for source in lexicon.sources}),
        "steps": result.steps,
        "kept step": result.best_step,
        "validation RR@10": dict(result.validation),
        "platform": platform_of(),
        "software": versions(),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((finished - started).total_seconds(), 1),
    }
    with atomic(folder / "training.json") as stream:
        stream.write(json.dumps(content, indent=1, ensure_ascii=False).encode())
    commercial = is_commercial(content["licences of the lexicons"])
    write_card(
        folder,
        base=str(base) if content["base revision"] else None,
        training=_told(content, training) | {"base": _base(base, content)},
        limits=_limits(training, commercial),
        licence=training.licence,
        languages=collection.languages,
        datasets=["/".join(collection.base.split("/")[:2])],
    )


def _base(base: str | Path, content: Mapping[str, Any]) -> str:
    if content["base revision"]:
        return f"{base} at revision {content['base revision']}, SHA-256 of what was loaded {content['made from']['base']}"
    return f"{Path(base).name}, SHA-256 {content['made from']['base']}"


def _told(content: Mapping[str, Any], training: Training) -> dict[str, str]:
    collection, settings, hashes = training.collection, training.settings, content["made from"]["SHA-256"]
    validation = ", ".join(f"{name} {value:.4f}" for name, value in content["validation RR@10"].items())
    drawn = sum(content["negatives drawn"].values())
    shares = ", ".join(f"{name} {count / drawn:.2f}" for name, count in content["negatives drawn"].items())
    hardware = content["platform"].get("gpu") or content["platform"]["cpu"]
    told = {
        "data": f"{collection.id} ({content['topics']['trained on']} of its {len(collection.relevant)} topics with a relevant document); SHA-256: {', '.join(f'{name} {value}' for name, value in hashes.items())}",
        "policy": _policy(collection),
        "lexicons": ", ".join(content["sources of the lexicons"]) or "none",
        "licences of the lexicons": ", ".join(content["licences of the lexicons"]) or "none",
        "negatives": f"{settings.negatives_per_topic} a topic, drawn anew each epoch: {shares}",
        "objective": settings.objective
        + (f", and {settings.distil:g} of the loss by the bi-encoder's cosines at temperature {settings.temperature:g}" if settings.distil else ""),
        "pooling": settings.pooling,
        "layers": f"{', '.join(map(str, content['layers']))} of the base's",
        "dropout": f"{settings.dropout:g} of hidden states, none of attention",
        "steps": f"{content['steps']} of {settings.batch} topics, of {settings.epochs} epochs; the weights of step {content['kept step']}",
        "learning rate": f"{settings.learning_rate:g}, linear warm-up over {settings.warmup:g} and linear decay; AdamW; seed {settings.seed}",
        "frozen": f"all embeddings and the lower {settings.freeze_layers} layers"
        if settings.freeze_layers
        else "embedding table"
        if settings.freeze_embeddings
        else "nothing",
        "validation RR@10": f"{validation} ({content['made from']['validation']['dataset']}; cs: every word switched)" if validation else "none",
        "hardware": f"{hardware}, {content['processes']} process{'es' if content['processes'] > 1 else ''}, {content['precision']}, {content['seconds']:.0f} s"
        + (f" from step {content['resumed at step']} on" if content["resumed at step"] else ""),
        "software": ", ".join(f"{name} {version}" for name, version in content["software"].items()),
    }
    if content["bi-encoder"]:
        told["bi-encoder"] = f"SHA-256 {content['bi-encoder']}"
    if "translations" in content:
        given = content["translations"]
        told["translations"] = f"{given['file']}, SHA-256 {given['SHA-256']}: {_translated(collection)}"
    if isinstance(collection.lexicons, TrainingLexicons):
        told["held-out words"] = f"{SHARE:.0%} of the lemmas: never switched in training (their translations may stand for other words)"
    sources = [f"the texts of {collection.base}", *(f"the lexicons ({licences})" for licences in [told["licences of the lexicons"]] if licences != "none")]
    sources += ["the translations"] if "translations" in content else []
    told["licence"] = f"{training.licence}; it was made from the base and {', '.join(sources)}, whose licences have their say"
    return told


def _policy(collection: "Collection") -> str:
    if not collection.policy.lexicons():
        given = f"{collection.policy.name}: texts as they are" if collection.is_switched else "none: texts as they are"
        return f"{given}, or translated where there is a translation" if collection.translated else given
    return f"{collection.policy.name}; seed {collection.seed}; {collection.policy.about}".removesuffix("; ")


def _translated(collection: "Collection") -> str:
    """How much of it was."""
    counts = collection.translated
    return f"{counts['query']} of {len(collection.relevant)} topics, {counts['passage']} of {collection.documents_count()} documents"


def _limits(training: Training, commercial: bool) -> list[str]:
    settings, policy = training.settings, training.collection.policy
    limits = [f"Trained on inputs of at most {settings.max_length} tokens; longer passages are cut (csrerank's --window scores them by parts)."]
    if training.collection.translated:
        limits.append(f"Trained on translations of {_translated(training.collection)}; the rest was {'switched' if policy.lexicons() else 'left as it is'}.")
    elif not policy.lexicons():
        limits.append("Trained on texts as they are: what it knows of languages other than theirs comes from its encoder.")
    if policy.lexicons():
        languages = sorted({lang for _, _, lang in policy.lexicons()})
        limits.append(
            f"Switched into {', '.join(languages)}, word by word: word order and inflection stay English, so text in these languages is seen in pieces only."
        )
    if policy.lexicons() or training.collection.translated:
        known = ", ".join(sorted(training.collection.languages)) + (" and those of the translations" if training.collection.translated else "")
        limits.append(f"Languages other than {known} were in no training text: there it has what its encoder knows.")
    limits.append(_single(training))
    if not commercial:
        limits.append("NOT FOR COMMERCIAL USE: some lexicons are under a non-commercial licence.")
    return limits


def _single(training: Training) -> str:
    """What one training cannot tell, and how much its kept weights saw."""
    seen, known = training.result.best_step * training.settings.batch, len(training.collection.relevant)
    topics = min(seen, training.happened["topics"]["trained on"])
    share = "all topics" if topics == known else f"{topics} of {known} topics"
    chosen = (
        f"step {training.result.best_step} was chosen by validation" if training.result.validation else "no validation chose its weights: the last step counts"
    )
    return f"One training with one seed, on {share}; {chosen}. What another seed would give is not known."
