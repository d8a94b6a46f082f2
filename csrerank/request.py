"""What a user asks for: names of runs, collections, files, indexes and models, resolved to what :func:`csrerank.rerank.rerank_run` takes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from csrerank.errors import InputError
from csrerank.files import is_stream
from csrerank.interpolation import check_interpolation
from csrerank.journal import journal_of
from csrerank.metadata import sidecar
from csrerank.pruning import check_cascade
from csrerank.rerank import Report, check_request, rerank_run
from csrerank.trec import read_run, write_run

if TYPE_CHECKING:
    from csrerank.collections.texts import Documents, Topics
    from csrerank.integrations.accelerate_rerank import Team
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings
    from csrerank.windows import Engine


@dataclass(frozen=True)
class Sources:
    """Where a job's texts come from: an ir_datasets id, TSV or JSONL files of topics and documents, a Lucene index; files and index go before the id."""

    dataset: str | None = None
    topics: str | None = None
    documents: str | None = None
    index: str | None = None
    analyzer: str | None = None
    context: bool = False


def rerank(
    run: str | None,
    output: str | None,
    sources: Sources,
    model: str,
    settings: "Settings",
    *,
    device: str | None = None,
    engine: str = "process",
    workers: int | None = None,
    address: str | None = None,
    threads: int | None = None,
    team: "Team | None" = None,
    say: Callable[[str], None],
    **options: Any,
) -> tuple[str, Report]:
    """Resolve names to texts and a model, then :func:`rerank_run`; without a ``run``, search ``sources.index`` with its topics first. Gives the output's name
    and the report.

    A dataset that is not named is taken from the run's metadata sidecar, which ``say`` is told. ``team`` are the processes of a launch, of which this is the first.
    """
    from csrerank.integrations.ray_rerank import check_options, threads_of
    from csrerank.metadata import dataset_of

    check_options(engine, workers, address, threads)
    if (engine == "accelerate") != (team is not None):
        raise InputError("--engine accelerate needs the processes of a launch (integrations.accelerate_rerank.Team), and these need it")
    if options.get("cascade") is not None:
        check_cascade(settings)
    if options.get("interpolate") is not None:
        check_interpolation(options["interpolate"], settings.precision, options.get("cascade") is not None)
    if run is None and not (sources.topics and sources.index):
        raise InputError("no run: give --run RUN, or --topics FILE and --index FOLDER to search first")
    if run is None and output is None:
        raise InputError("--output is needed where there is no --run to name it after; give a file, or - for standard output")
    if run is not None and not is_stream(run):
        next(iter(read_run(run)))  # a run that cannot be read is said before anything else
    target = output or _free_output(str(run))
    _refuse_overwriting(target, {"run": run, "topics": sources.topics, "documents": sources.documents})
    check_request(target, int(options["k"]), options["tag"])
    dataset, named = sources.dataset, True
    if run is not None and dataset is None and not (sources.topics and (sources.documents or sources.index)):
        dataset, named = dataset_of(run) if run != "-" else None, False
        if dataset is None:
            raise InputError(
                f"{'standard input' if run == '-' else run}: no texts to score: give --dataset ID (or --queries and --docs files); the run has no sidecar that names one"
            )
    topics, documents = _texts(replace(sources, dataset=dataset))
    if not named:
        say(f"dataset {dataset} (from the run's metadata)")
    device = team.device if team is not None else device
    check_device(device)
    threads = threads or (threads_of(workers) if engine == "ray" else None)
    with _first_stage(run, sources, topics, int(options["k"])) as source, _torch_threads(threads):
        from csrerank.models.reranker import Reranker

        reranker = Reranker.load(model, settings, device, light=True)
        plain = options.get("cascade") is None and options.get("interpolate") is None  # else all scores have to be of one kind
        fastest = settings.precision == "auto" and plain
        scoring = _on_ray(model, reranker, workers, address) if engine == "ray" else _by(team, model, reranker) if team is not None else None
        # Only a collection that gave both is named as one, since later commands take topics, documents and judgements from it.
        whole = dataset and not (sources.topics or sources.documents or sources.index)
        parts = {"topics file": sources.topics, "documents file": sources.documents, "index": sources.index, "dataset": dataset}
        named_parts = {name: value for name, value in parts.items() if value}
        data = {"test collection": {"name": dataset, "ir_datasets": dataset} if whole else named_parts}
        first = {"run": "searched here", "method": "BM25", "index": sources.index, "analyzer": sources.analyzer} if run is None else None
        return target, rerank_run(
            source, target, topics, documents, reranker, data=data, first_stage=first, model_name=model, engine=scoring, fastest=fastest, **options
        )


def _on_ray(name: str, model: "Reranker", workers: int | None, address: str | None) -> "Callable[[], Engine]":
    """What makes Ray's engine; the threads that its workers take are those that the journal goes by."""
    import torch

    from csrerank.integrations.ray_rerank import Spec, on_ray

    return lambda: on_ray(Spec.of(name, model, torch.get_num_threads()), workers, address)


def _by(team: "Team", name: str, model: "Reranker") -> "Callable[[], Engine]":
    """What makes a team's engine."""
    import torch

    return lambda: team.engine(name, model, torch.get_num_threads())


@contextmanager
def _torch_threads(count: int | None) -> Iterator[None]:
    """Have torch compute with so many threads, and afterwards with as many as before."""
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)


def _refuse_overwriting(output: str, inputs: dict[str, str | None]) -> None:
    for what, path in inputs.items():
        if path and os.path.isfile(path) and os.path.isfile(output) and os.path.samefile(path, output):
            raise InputError(f"{output}: the output would overwrite the {what} that it is made from; give another --output")


def check_device(device: str | None) -> None:
    """Raise ``InputError`` unless torch can compute on ``device`` (None: on what it takes by itself)."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"--device {device}: torch has no such device here ({(str(error).splitlines() or [type(error).__name__])[0].rstrip('.')}); leave it out, or give cpu"
        ) from None


def _texts(sources: Sources) -> tuple["Topics", "Documents"]:
    from csrerank.cache import cache_folder
    from csrerank.collections import texts

    documents: Documents
    if sources.documents and sources.index:
        raise InputError("--docs and --index both give documents; leave one out")
    if sources.analyzer and not sources.index:
        raise InputError("--analyzer is for --index; leave it out")
    if sources.context and (sources.documents or sources.index):
        raise InputError("--context is for collections whose documents carry one; leave it out with --docs and --index")
    if sources.documents:
        documents = texts.FileDocuments(sources.documents, cache_folder())
    elif sources.index:
        documents = texts.LuceneDocuments(sources.index, sources.analyzer)
    elif sources.dataset:
        documents = texts.DatasetDocuments(sources.dataset, sources.context)
    else:
        raise InputError("no documents: give --dataset ID, --docs FILE or --index FOLDER")
    if sources.topics:
        return texts.file_topics(sources.topics), documents
    if sources.dataset:
        return texts.dataset_topics(sources.dataset), documents
    raise InputError("no topics: give --dataset ID or --queries FILE")


@contextmanager
def _first_stage(run: str | None, sources: Sources, topics: "Topics", k: int) -> Iterator[str | Path]:
    """The run, or the BM25 run of the index with the topics where there is none."""
    if run is not None:
        yield run
        return
    from csrerank.retrieval.bm25 import BM25

    with TemporaryDirectory() as folder:
        found = BM25(str(sources.index), sources.analyzer).search(topics.texts.items(), k)
        if not write_run(Path(folder) / "bm25.trec", (ranking for ranking in found if ranking.docs), "bm25"):
            raise InputError(f"{sources.index}: no topic of {sources.topics} matches anything; check that both are in one language, and --analyzer")
        yield Path(folder) / "bm25.trec"


def _free_output(run: str) -> str:
    """:func:`default_output`, unless something lies there that csrerank did not make."""
    output = default_output(run)
    # A kill between run and sidecar leaves the journal in the sidecar's place.
    if output != "-" and Path(output).exists() and not sidecar(output).exists() and not journal_of(output).exists():
        raise InputError(f"{output}: exists and is not csrerank's; give --output (this name to overwrite it)")
    return output


def default_output(run: str | Path) -> str:
    """Where the result goes when nothing is said: ``bm25.trec`` gives ``bm25.reranked.trec`` beside it; standard input gives standard output."""
    if str(run) == "-":
        return "-"
    path = Path(run)
    suffixes = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    return str(path.with_name(path.name.removesuffix(suffixes) + ".reranked" + suffixes))
