"""The command ``csrerank train``."""

from pathlib import Path
from typing import Any

import click

from csrerank.training.negatives import SOURCES
from csrerank.training.objectives import OBJECTIVES


@click.command("train")
@click.option("--dataset", required=True, help="Training id, as csrerank/en-qa/train/ml-cs; or any ir_datasets id with topics, documents and judgements.")
@click.option("--base", required=True, help="Encoder to start from: a directory, or a hub name.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Directory to write: a plain Hugging Face checkpoint.")
@click.option("--objective", type=click.Choice(list(OBJECTIVES)), default="pointwise", show_default=True)
@click.option("--negatives", default="bm25", show_default=True, help=f"Sources and weights, as bm25=2,dense=1; known are {', '.join(SOURCES)}.")
@click.option("--negatives-per-topic", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--bm25-run", type=click.Path(path_type=Path), help="Run to take BM25 negatives from.  [default: made and kept in the cache]")
@click.option("--dense-run", type=click.Path(path_type=Path), help="Run to take dense negatives from.  [default: made by --encoder]")
@click.option("--encoder", type=click.Path(path_type=Path), help="Bi-encoder for dense negatives and --distil.  [default: what scripts/build_encoder made]")
@click.option(
    "--translations", type=click.Path(path_type=Path), help="JSONL of id, side (query or passage) and text, which stand in the place of the plain texts."
)
@click.option("--epochs", type=click.IntRange(min=1), default=1, show_default=True, help="Passes over the topics; texts are switched and negatives drawn anew.")
@click.option("--topics", type=click.IntRange(min=1), help="Train on so many topics, fixed by a hash.  [default: all]")
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Topics a step, over all processes.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=5e-5, show_default=True)
@click.option("--max-length", type=click.IntRange(min=8), default=192, show_default=True, help="Tokens of query and passage together.")
@click.option("--query-tokens", type=click.IntRange(min=1), default=64, show_default=True)
@click.option(
    "--pooling", type=click.Choice(["mean", "first"]), default="mean", show_default=True, help="What the head reads: the mean of all tokens, or the first."
)
@click.option("--layers", help="Encoder layers to keep, as 0,1,2.  [default: all]")
@click.option("--train-embeddings", is_flag=True, help="Train the embedding table too; it is frozen otherwise.")
@click.option("--freeze-layers", type=click.IntRange(min=0), default=0, show_default=True, help="Lower layers that stay as they are, with all embeddings.")
@click.option("--distil", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share of the loss that follows the bi-encoder's cosines.")
@click.option("--temperature", type=click.FloatRange(0, min_open=True), default=0.05, show_default=True, help="Of the bi-encoder's cosines in --distil.")
@click.option("--dropout", type=click.FloatRange(0, 1, max_open=True), default=0.1, show_default=True, help="Of hidden states; attention has none.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True, help="auto: bf16 where the processor has it.")
@click.option("--validation", help="Dataset whose topics choose the best step, as csrerank/en-qa/validation.  [default: none; the last step counts]")
@click.option("--evaluate-every", type=click.IntRange(min=1), default=250, show_default=True, help="Steps between checkpoints, and validations.")
@click.option("--patience", type=click.IntRange(min=1), help="Stop after so many validations without a better mean.")
@click.option("--all-words", is_flag=True, help="With --validation: hold no words out of training.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=1,
    show_default=True,
    help="Of the head, the draws and the order. What is switched is keyed by the dataset's /seed-N.",
)
@click.option("--licence", default="other", show_default=True, help="Of the weights, for the model card: the hub's name of one, as apache-2.0.")
@click.option("--loaders", type=click.IntRange(0, 1), default=0, show_default=True, help="1: batches are prepared in a process beside the training, for a GPU.")
@click.option("--quiet", is_flag=True, help="No progress and no remarks on standard error.")
def train_command(dataset: str, base: str, output: Path, quiet: bool, **given: Any) -> None:
    """Train a re-ranker.

    \b
    csrerank train --dataset csrerank/en-qa/train/ml-cs --base encoder --output my-model
    torchrun --nproc-per-node 2 -m csrerank train --dataset csrerank/en-qa/train/ml-cs --base encoder --output my-model

    Killed at any moment, the same command goes on from its last checkpoint and gives the same weights.
    """
    from csrerank.cache import cache_folder
    from csrerank.models.encoder import parse_layers
    from csrerank.training.job import Inputs, Settings, is_first_process, train
    from csrerank.training.negatives import parse_shares

    settings = Settings(
        given["objective"], parse_shares(given["negatives"]), given["negatives_per_topic"], given["epochs"], given["topics"], given["batch"], given["learning_rate"],
        max_length=given["max_length"], query_tokens=given["query_tokens"], pooling=given["pooling"], layers=parse_layers(given["layers"]),
        freeze_embeddings=not given["train_embeddings"], freeze_layers=given["freeze_layers"], distil=given["distil"], temperature=given["temperature"], dropout=given["dropout"], precision=given["precision"],
        evaluate_every=given["evaluate_every"], patience=given["patience"], hold_out=not given["all_words"], seed=given["seed"],
    )  # fmt: skip
    inputs = Inputs(given["bm25_run"], given["dense_run"], given["encoder"], given["validation"], given["translations"])
    result = train(dataset, base, output, settings, inputs, cache=cache_folder(), licence=given["licence"], loaders=given["loaders"], quiet=quiet)
    if not quiet and is_first_process():
        click.echo(result.summary(), err=True)
