"""Training: keyed negatives, and the pointwise objective on a toy encoder."""

from pathlib import Path

import pytest

from csrerank.training.pairs import Pair, draw, pairs
from csrerank.trec import TopicRun

TOPICS = {"1": "one?", "2": "two?", "3": "three?"}
QRELS = {"1": {"a": 1}, "2": {"b": 1, "c": 1}, "3": {}}
TEXTS = {name: f"text {name}" for name in "abcdefgh"}
RUN = [TopicRun("1", list("abcdefgh"), [8.0, 7, 6, 5, 4, 3, 2, 1]), TopicRun("2", list("bcd"), [3.0, 2, 1]), TopicRun("3", list("ab"), [2.0, 1])]


def test_one_positive_and_negatives_from_the_top_of_the_run() -> None:
    made = list(pairs(TOPICS, QRELS, RUN, TEXTS, negatives=3, depth=5))
    first, second = [pair for pair in made if pair.query == "one?"], [pair for pair in made if pair.query == "two?"]
    assert [pair.label for pair in first] == [1.0, 0.0, 0.0, 0.0] and first[0].text == "text a"
    assert {pair.text for pair in first[1:]} <= {"text b", "text c", "text d", "text e"} and len({pair.text for pair in first}) == 4
    assert [pair.label for pair in second] == [1.0, 0.0] and second[0].text in ("text b", "text c") and second[1].text == "text d"
    assert not [pair for pair in made if pair.query == "three?"]


def test_draws_are_keyed_by_topic_epoch_and_seed_and_not_by_order() -> None:
    def of(run: list[TopicRun], **key: int) -> set[Pair]:
        return set(pairs(TOPICS, QRELS, run, TEXTS, negatives=2, depth=8, **key))

    assert of(RUN) == of(RUN[::-1])
    assert len({frozenset(of(RUN, epoch=epoch)) for epoch in range(8)}) > 1 and len({frozenset(of(RUN, seed=seed)) for seed in range(8)}) > 1
    counts = [sum("c" in draw(list("abcdef"), 2, "negative", key) for key in range(2000))]
    assert abs(counts[0] - 2000 / 3) < 5 * (2000 * 2 / 9) ** 0.5  # two of six: each a third of the time


def test_pointwise_training_learns_and_freezes_the_table(tmp_path: Path, toy_encoder: Path) -> None:
    import torch
    from transformers import AutoModel

    from csrerank.models.reranker import Reranker, Settings
    from csrerank.training.pointwise import train

    made = [Pair("the whale?", text, label) for text, label in (("sleeping wal", 1.0), ("12345", 0.0), ("кит", 0.0))] * 32
    train(toy_encoder, made, tmp_path / "out", learning_rate=5e-3, batch=8, epochs=3, max_length=64, query_tokens=16, bf16=False, quiet=True)
    reranker = Reranker.load(tmp_path / "out", Settings(max_length=64, query_tokens=16, precision="fp32"))
    scores = reranker.score("the whale?", ["sleeping wal", "12345", "кит"])
    assert scores[0] > 0 > max(scores[1:])
    before = AutoModel.from_pretrained(toy_encoder, add_pooling_layer=False).embeddings.word_embeddings.weight
    assert torch.equal(before, reranker.model.base_model.embeddings.word_embeddings.weight)
    assert reranker.model.config.sentence_transformers == {"activation_fn": "torch.nn.modules.linear.Identity"}


@pytest.mark.slow
def test_a_trained_checkpoint_can_be_resumed(tmp_path: Path, toy_encoder: Path) -> None:
    from csrerank.training.pointwise import train

    made = [Pair("the whale?", f"{number}", float(number % 2)) for number in range(64)]
    train(toy_encoder, made, tmp_path / "whole", batch=8, epochs=2, max_length=64, query_tokens=16, bf16=False, quiet=True, save_steps=8)
    # The same call after the last checkpoint before the end: the weights are those of the whole run.
    import shutil

    for path in sorted((tmp_path / "whole" / "checkpoints").glob("checkpoint-*"))[-1:]:
        shutil.rmtree(path)
    shutil.copytree(tmp_path / "whole" / "checkpoints", tmp_path / "part" / "checkpoints")
    train(toy_encoder, made, tmp_path / "part", batch=8, epochs=2, max_length=64, query_tokens=16, bf16=False, quiet=True, save_steps=8, resume=True)
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (tmp_path / "part" / "model.safetensors").read_bytes()
