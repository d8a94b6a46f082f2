"""The paper's objective: binary cross-entropy on the one logit of single pairs, on transformers' Trainer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from csrerank.training.pairs import Pair


def train(
    encoder: str | Path, training_pairs: Sequence[Pair], output: str | Path, *, learning_rate: float = 5e-5, batch: int = 32, epochs: int = 1, max_length: int = 192,
    query_tokens: int = 64, seed: int = 1, bf16: bool = True, save_steps: int = 500, resume: bool = False, quiet: bool = False,
) -> Path:  # fmt: skip
    """Train a cross-encoder from ``encoder`` (a Hugging Face directory) on ``training_pairs`` and write it as one to ``output``.

    The embedding table stays frozen: it is most of the weights, pieces of other languages get no gradient from English text, and it can then be shipped at
    its original 4 bits. AdamW, linear warm-up over 6% of the steps, then linear decay to 0. Checkpoints go to ``output``/checkpoints every ``save_steps``
    steps; ``resume`` goes on from the last one.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    from csrerank.models.batching import PairEncoder

    output = Path(output)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    torch.manual_seed(seed)  # the classification head's initial weights come from torch's generator
    model: Any = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=1, problem_type=None)
    # Dropout on attention weights rules out the fused kernel (seven times slower on a CPU).
    model.config.attention_probs_dropout_prob = 0.0
    for module in model.modules():
        if hasattr(module, "attention_head_size"):
            module.dropout.p = 0.0
    model.base_model.embeddings.word_embeddings.weight.requires_grad_(False)
    pair_encoder = PairEncoder(tokenizer, max_length, query_tokens)
    inputs, _ = pair_encoder.encode([pair.query for pair in training_pairs], [pair.text for pair in training_pairs])
    examples = [{"input_ids": encoded.ids, "labels": pair.label} for pair, encoded in zip(training_pairs, inputs, strict=True)]

    class PointwiseTrainer(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits.squeeze(-1).float(), labels.float())
            return (loss, outputs) if return_outputs else loss

    arguments = TrainingArguments(
        output_dir=str(output / "checkpoints"), learning_rate=learning_rate, per_device_train_batch_size=batch, num_train_epochs=epochs, warmup_steps=0.06,
        lr_scheduler_type="linear", weight_decay=0.01, seed=seed, data_seed=seed, bf16=bf16, train_sampling_strategy="group_by_length", logging_steps=50,
        save_steps=save_steps, save_total_limit=2, report_to=[], disable_tqdm=quiet, dataloader_pin_memory=False, remove_unused_columns=False, use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    trainer = PointwiseTrainer(
        model=model, args=arguments, train_dataset=examples, data_collator=DataCollatorWithPadding(tokenizer), processing_class=tokenizer
    )
    trainer.train(resume_from_checkpoint=resume)
    model.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}  # else CrossEncoder applies a sigmoid, and saturated scores tie
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    return output
