"""The main job: a run comes in, a better run goes out. ``python -m csrerank.rerank`` is the command ``csrerank rerank``."""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from csrerank.errors import InputError
from csrerank.files import check_writable, is_stream, packed, put_lines, target_name
from csrerank.interpolation import check_interpolation, interpolated
from csrerank.journal import Journal, journal_of, part_of, placed
from csrerank.metadata import describe, dumped, sidecar
from csrerank.models.cascade import TESTED
from csrerank.models.precision import MANY
from csrerank.plan import Plan, pairs_of, planned
from csrerank.pruning import Learnt, check_cascade, learnt_of
from csrerank.trec import DEFAULT_TAG, TopicRun, check_tag, format_run, read_run, write_run
from csrerank.windows import WINDOW, Engine, Pair, Work, here, place_of, windows, work_of

if TYPE_CHECKING:
    from csrerank.collections.texts import Documents, Topics
    from csrerank.models.reranker import Reranker

SCORING = 4  # raised when the same settings come to give other bits, so that no journal mixes them
_CASCADE = 2  # the same for jobs with a cascade: topics that it learnt from keep the whole model's scores


class Report(NamedTuple):
    """What a job did: topics and pairs, pairs taken from the journal, documents below ``k`` that kept their order, documents and topics skipped as missing,
    texts cut, how often memory ran out and a window was batched anew at half the budget, the precision, what is known of a
    cascade, and the model's share in a sum with the first stage's scores."""

    topics: int
    pairs: int
    resumed: int
    below: int
    skipped: int
    skipped_topics: int
    queries_cut: int
    passages_cut: int
    budget_halvings: int
    precision: str
    cascade: dict[str, Any] | None
    interpolated: float | None

    def summary(self, output: str) -> str:
        """One line for a person."""
        parts = [f"{output}: {self.topics} topics, {self.pairs} pairs re-ranked in {self.precision}"]
        parts += (
            [f"ranked by {self.interpolated:g} of the model's scores and {1 - self.interpolated:g} of the first stage's"]
            if self.interpolated is not None
            else []
        )
        parts += [f"{self.resumed} of them taken from the journal"] if self.resumed else []
        parts += (
            [f"cascade: on {TESTED} topics {self.cascade['kept']:.0%} of the candidates scored, {self.cascade['lost']:.1%} of the top {self.cascade['k']} lost"]
            if self.cascade
            else []
        )
        parts += [f"{self.below} documents below --k kept their order"] if self.below else []
        parts += [f"{self.skipped} documents without a text dropped"] if self.skipped else []
        parts += [f"{self.skipped_topics} topics without a text dropped"] if self.skipped_topics else []
        parts += [f"memory ran out: the batch budget was halved {self.budget_halvings} times (lower --batch-tokens)"] if self.budget_halvings else []
        parts += [f"{self.queries_cut} queries cut (--query-tokens)"] if self.queries_cut else []
        parts += [f"{self.passages_cut} passages cut (--max-length; --window scores them whole)"] if self.passages_cut else []
        return "; ".join(parts)


def rerank_run(
    run: str | Path, output: str | Path, topics: "Topics", documents: "Documents", model: "Reranker", *, k: int = 100, tag: str = DEFAULT_TAG, missing: str = "error",
    data: dict[str, Any] | None = None, first_stage: dict[str, Any] | None = None, model_name: str = "", quiet: bool = False, window: int = WINDOW, engine: Callable[[], Engine] | None = None,
    cascade: tuple[int, float] | None = None, interpolate: float | None = None, fastest: bool = False,
) -> Report:  # fmt: skip
    """Re-rank the top ``k`` of each topic of ``run`` (a TREC run; ``-`` is standard input) and write the result to ``output`` with its metadata sidecar
    (``-`` or a pipe: neither sidecar nor journal).

    Re-ranked documents come first, by score, ties in first-stage order; those below ``k`` follow in theirs. A document or topic that has no text is an
    ``InputError`` before anything is scored, or with ``missing="skip"`` dropped and counted. While it runs, ``output``.journal keeps finished windows of
    ``window`` pairs or fewer (whole topics); the same call goes on from it and gives the same bytes. The journal of a call with other settings is refused. ``engine``
    makes what scores the windows, by default this process. ``cascade`` is the k of ``models.cascade`` and its confidence. ``interpolate`` is the model's share
    in a sum with the first stage's scores (``interpolation``), by which documents are ranked then; the journal keeps the model's scores alone. ``fastest``: from ``MANY``
    pairs on, ``Reranker.take_fastest``, which needs scores that have not to be of one kind (no cascade, no sum).
    """
    started = datetime.now(UTC)
    check_request(output, k, tag)
    if cascade is not None:
        check_cascade(model.settings)
    if interpolate is not None:
        check_interpolation(interpolate, model.settings.precision, cascade is not None)
    kept = not is_stream(output)
    with _seekable(run) as source:
        plan = planned(source, run, topics, documents, k, missing)
        if fastest and plan.pairs >= MANY:
            model.take_fastest(plan.pairs / len(plan.topics))
        settings = _fingerprint(source, plan, topics, documents, model, k, missing, window, cascade)
        journal = Journal(journal_of(output) if kept else None, settings)
        finished, halvings = False, model.budget_halvings
        model.pruner = None  # what learns scores with the whole model, and a job without a cascade prunes nothing
        try:
            learnt = learnt_of(source, plan, topics, documents, model, k, cascade, journal, quiet) if cascade is not None else None
            model.pruner = learnt.pruner if learnt is not None else None
            halvings = model.budget_halvings - halvings  # while it learnt
            resumed, more = _score(source, plan, topics, documents, engine() if engine else here(model), k, journal, window, quiet, learnt)
            halvings += more
            lines = _reranked(read_run(source), plan, journal, k, interpolate)
            if kept:
                with placed(output) as file, packed(file, output) as out:
                    put_lines(format_run(lines, tag, target_name(output)), out)
            else:
                write_run(output, lines, tag)
            report = Report(
                len(plan.topics),
                plan.pairs,
                resumed,
                plan.below,
                plan.skipped,
                plan.skipped_topics,
                model.encoder.queries_cut([topics.texts[topic] for topic in plan.topics]),
                journal.passages_cut,
                halvings,
                settings["precision"],
                model.pruner.described if model.pruner is not None else None,
                interpolate,
            )
            if kept:
                first = {"run": Path(run).name, "sha256": settings["run"], **(first_stage or {})}
                hashes = {"topics": topics.fingerprint, "documents": documents.fingerprint, "scored texts sha256": plan.texts}
                with placed(sidecar(output)) as file:
                    file.write(dumped(describe(_method(report, settings, model_name, k), {**(data or {}), **hashes, "first stage": first}, started, tag)))
            finished = True
        finally:
            journal.close(finished)
            model.pruner = None
    return report


def check_request(output: str | Path, k: int, tag: str) -> None:
    """Raise ``InputError`` for what would only fail at the end of the job."""
    check_tag(tag)
    if k < 1:
        raise InputError(f"--k {k}: give 1 or more")
    check_writable(output)
    if not is_stream(output):
        check_writable(sidecar(output))
        part = part_of(sidecar(output))
        if len(os.fsencode(part.name)) > (most := os.pathconf(part.parent, "PC_NAME_MAX")):
            over = len(os.fsencode(part.name)) - most
            raise InputError(
                f"{target_name(output)}: with what is added to it while it is written, this name is too long by {over} bytes; give a shorter --output"
            )


def _method(report: Report, settings: dict[str, Any], model_name: str, k: int) -> dict[str, Any]:
    scoring = {name: settings[name] for name in ("max length", "query tokens", "batch tokens", "precision", "arithmetic", "calibration", "windows")}
    return {
        "retrieval": [
            {"name": "first stage"},
            {
                "name": "csrerank",
                "method": "cross-encoder re-ranking",
                "model": model_name,
                "model sha256": settings["model"],
                "reranks": k,
                "seed": None,
                "cascade": report.cascade,
                "interpolation": None
                if report.interpolated is None
                else {"weight": report.interpolated, "scores": "standardised within a topic's re-ranked candidates"},
                **scoring,
            },
        ],
        "counts": {
            name: count for name, count in report._asdict().items() if name not in ("precision", "cascade", "interpolated")
        },  # which stand among the settings
    }


@contextmanager
def _seekable(run: str | Path) -> Iterator[str | Path]:
    """A run that can be read more than once: standard input, or a pipe, is copied to a temporary file first."""
    if not is_stream(run):
        yield run
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "standard-input"
        with nullcontext(sys.stdin.buffer) if str(run) == "-" else open(run, "rb") as stream, copy.open("wb") as file:
            shutil.copyfileobj(stream, file)
        try:
            yield copy
        except InputError as error:
            raise InputError(str(error).replace(str(copy), "standard input")) from None


def _fingerprint(
    source: str | Path, plan: Plan, topics: "Topics", documents: "Documents", model: "Reranker", k: int, missing: str, window: int,
    cascade: tuple[int, float] | None,
) -> dict[str, Any]:  # fmt: skip
    """Everything that makes the scores. The tag and the output's name do not."""
    with open(source, "rb") as file:
        run = hashlib.file_digest(file, "sha256").hexdigest()
    settings = model.settings
    return {
        "run": run, "topics": topics.fingerprint, "documents": documents.fingerprint, "model": model.fingerprint, "k": k, "missing": missing, "window": window, "max length": settings.max_length,
        "query tokens": settings.query_tokens, "batch tokens": settings.batch_tokens, "precision": settings.precision, "arithmetic": model.arithmetic, "calibration": model.calibration.digest if model.calibration else None, "cascade": list(cascade) if cascade else None, **({"scoring with a cascade": _CASCADE} if cascade else {}), "windows": list(settings.windows) if settings.windows else None,
        **place_of(model),
        "scoring": SCORING,
        "texts": plan.texts,  # last, because it differs along with others, which say more to a person
    }  # fmt: skip


def _score(
    source: str | Path, plan: Plan, topics: "Topics", documents: "Documents", engine: Engine, k: int, journal: Journal, window: int, quiet: bool,
    learnt: Learnt | None,
) -> tuple[int, int]:  # fmt: skip
    """Score every window that the journal lacks, but for the topics that a cascade learnt from; gives the number of pairs that the journal had, and how often memory
    ran out.
    """
    from tqdm import tqdm

    resumed, halvings = sum(map(len, journal.windows.values())), 0
    known = set(journal.windows)
    begun: dict[int, list[Pair]] = {}
    scores, there = (learnt.scores, learnt.resumed) if learnt is not None else ({}, frozenset())

    def work() -> Iterator[Work]:
        nonlocal resumed
        for number, pairs in enumerate(windows(pairs_of(read_run(source), plan, k), window)):
            if number not in known:
                begun[number] = pairs
                resumed += sum(pair.place in there for pair in pairs)
                yield work_of(number, [pair for pair in pairs if pair.place not in scores], topics, documents)
            elif len(journal.windows[number]) != len(pairs):
                raise InputError(
                    f"{journal.path}: window {number} has {len(journal.windows[number])} scores where the run has {len(pairs)} pairs; delete the journal to start anew"
                )

    with tqdm(total=plan.pairs, initial=resumed, unit="pair", unit_scale=False, desc="re-ranking", disable=quiet or not sys.stderr.isatty()) as bar:
        for scored in engine(work(), bar.update):
            pairs = begun.pop(scored.number)
            journal.add(scored.number, _whole(pairs, scored.scores, scores), scored.passages_cut)
            bar.update(len(pairs) - len(scored.scores))
            halvings += scored.budget_halvings
    return resumed, halvings


def _whole(pairs: Sequence[Pair], scores: np.ndarray, learnt: Mapping[int, np.ndarray]) -> np.ndarray:
    """A window's scores: those given, and in their places those of the topics that were learnt from."""
    if not learnt:
        return scores
    found = np.empty(len(pairs), np.float32)
    old = np.array([pair.place in learnt for pair in pairs])
    found[~old] = scores
    found[old] = np.concatenate([np.zeros(0, np.float32), *(learnt[place] for place in dict.fromkeys(pair.place for pair in pairs) if place in learnt)])
    return found


def _reranked(rankings: Iterable[TopicRun], plan: Plan, journal: Journal, k: int, interpolate: float | None) -> Iterator[TopicRun]:
    """The output's topics: scores are dealt out in the order in which pairs were taken."""
    kept = set(plan.topics)
    scores = np.concatenate([journal.windows[number] for number in range(len(journal.windows))])
    at = 0
    for ranking in rankings:
        if ranking.topic not in kept:
            continue
        places = [place for place, doc in enumerate(ranking.docs[:k]) if doc not in plan.missing]
        head, found = [ranking.docs[place] for place in places], scores[at : at + len(places)]
        mine = (found if interpolate is None else interpolated([ranking.scores[place] for place in places], found, interpolate)).tolist()
        at += len(head)
        order = sorted(range(len(head)), key=lambda place: -mine[place])  # noqa: B023 - used within the turn
        floor = min(mine, default=0.0)
        tail = [doc for doc in ranking.docs[k:] if doc not in plan.missing]
        yield TopicRun(
            ranking.topic, [head[place] for place in order] + tail, [mine[place] for place in order] + [floor - 1 - step for step in range(len(tail))]
        )


def main(args: list[str] | None = None) -> None:
    """``python -m csrerank.rerank``."""
    from csrerank.cli import run_command

    run_command(["rerank", *(sys.argv[1:] if args is None else args)])


if __name__ == "__main__":
    main()
