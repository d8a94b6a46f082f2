"""transformers' Trainer fitted to groups: one logit a pair, an objective over each group, an order fixed beforehand, and validation by re-ranking."""

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from csrerank.models.batching import PairEncoder, batches
from csrerank.models.checkpoint import quiet_transformers
from csrerank.models.precision import head_in_fp32, resolve_precision
from csrerank.training.faults import OTHERWISE, TrainingError
from csrerank.training.groups import Group
from csrerank.training.objectives import Objective, distilled

if TYPE_CHECKING:
    from csrerank.training.job import Settings

CHECKPOINTS = "checkpoints"
_PATIENCE = 7 * 86_400  # seconds that a process waits for another


def processes() -> int:
    """How many share the work."""
    return int(os.environ.get("WORLD_SIZE", "1"))  # torchrun's; it tells how many processes share the work, and changes no result


def arguments(output: Path, settings: "Settings", validated: bool, quiet: bool, loaders: int = 0) -> Any:
    """Trainer's arguments for a training into ``output``, with ``loaders`` processes that prepare batches (0: the training process itself)."""
    import torch
    from transformers import TrainingArguments

    quiet_transformers()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    evaluating: dict[str, Any] = {"eval_strategy": "no"}
    if validated:
        evaluating = {
            "eval_strategy": "steps", "eval_steps": settings.evaluate_every, "load_best_model_at_end": True, "metric_for_best_model": "mean", "greater_is_better": True,
        }  # fmt: skip
    made = TrainingArguments(
        output_dir=str(output / CHECKPOINTS), per_device_train_batch_size=settings.batch // processes(), num_train_epochs=1, learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup, weight_decay=settings.weight_decay, lr_scheduler_type="linear", seed=settings.seed, data_seed=settings.seed,
        bf16=resolve_precision(settings.precision, device) == "bf16", logging_steps=min(25, settings.evaluate_every), save_strategy="steps", save_steps=settings.evaluate_every, save_total_limit=2,
        report_to=[], disable_tqdm=quiet or not sys.stderr.isatty(), dataloader_pin_memory=False, dataloader_drop_last=True, dataloader_num_workers=loaders, remove_unused_columns=False,
        use_cpu=device.type == "cpu", ddp_backend="gloo" if device.type == "cpu" and processes() > 1 else None, ddp_find_unused_parameters=False,
        # Processes have different numbers of parts, so they must not meet at each forward pass; and they wait for runs and validations, which take hours.
        ddp_broadcast_buffers=False, ddp_timeout=_PATIENCE, logging_nan_inf_filter=False, **evaluating,
    )  # fmt: skip
    if made.n_gpu > 1:
        made._n_gpu = 1  # else Trainer multiplies the batch by the GPUs of a process; torchrun is for several
    return made


class Loss(NamedTuple):
    """An objective, and how much of the loss is distillation: ``(1 - distil) objective + distil KL`` at ``temperature``."""

    objective: Objective
    distil: float = 0.0
    temperature: float = 0.05


def collator(encoder: PairEncoder, budget: int) -> Callable[[Sequence[Group]], dict[str, Any]]:
    """Groups to parts of a batch, each padded on its own within ``budget`` tokens: what is computed is the same, with less padding."""
    import torch

    def collated(groups: Sequence[Group]) -> dict[str, Any]:
        width = len(groups[0].passages)
        encoded, _ = encoder.encode([group.query for group in groups for _ in range(width)], [passage for group in groups for passage in group.passages])
        parts, places = [], []
        for rows in batches([len(pair.ids) for pair in encoded], budget):
            longest = max(len(encoded[row].ids) for row in rows)
            ids = torch.full((len(rows), longest), encoder.tokenizer.pad_token_id)
            mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
            for at, row in enumerate(rows):
                length = len(encoded[row].ids)
                ids[at, :length], mask[at, :length], types[at, encoded[row].split : length] = torch.tensor(encoded[row].ids), 1, 1
            parts.append({"input_ids": ids, "attention_mask": mask} | ({"token_type_ids": types} if encoder.uses_types else {}))
            places += rows
        back = torch.empty(len(places), dtype=torch.long)
        back[torch.tensor(places)] = torch.arange(len(places))
        teacher = torch.tensor([group.teacher for group in groups]) if groups[0].teacher else None
        return {"parts": parts, "back": back, "width": width} | ({} if teacher is None else {"teacher": teacher})

    return collated


def ranking_trainer(loss: Loss, validate: Callable[[Any], dict[str, float]] | None, patience: int | None = None, **options: Any) -> Any:
    """A ``transformers.Trainer`` over ``Groups``.

    :param validate: takes the model and gives measures, the ``mean`` of which decides what is best.
    :param patience: stop after so many validations in a row without a better mean.
    """
    import torch
    from accelerate.utils import broadcast_object_list
    from torch.utils.data import SequentialSampler
    from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

    class RankingTrainer(Trainer):
        """Data come in the order of the groups; the loss is taken over each group."""

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            with head_in_fp32(self.model, self.args.bf16):  # a logit in bf16 has 8 bits
                logits = torch.cat([model(**part).logits.squeeze(-1).float() for part in inputs["parts"]])[inputs["back"]].view(-1, inputs["width"])
            value = loss.objective(logits)
            if loss.distil:
                value = (1 - loss.distil) * value + loss.distil * distilled(logits, inputs["teacher"], loss.temperature)
            return (value, logits) if return_outputs else value

        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            # Here the figures are on the host already; a look at each step's would have the accelerator wait.
            if not all(math.isfinite(logs.get(name, 0.0)) for name in ("loss", "grad_norm")):
                raise TrainingError(
                    f"the loss by step {self.state.global_step} is not a number",
                    "lower --learning-rate or take --precision fp32, and give another --output or delete this one",
                    OTHERWISE,
                )
            super().log(logs, *args, **kwargs)

        def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
            assert validate is not None
            model = self.accelerator.unwrap_model(self.model)
            training = model.training
            # One process decides for all: figures that differ in a last bit would have one stop and the others wait for it.
            found = [validate(model) if self.args.process_index == 0 else None]
            broadcast_object_list(found)
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in (found[0] or {}).items()}
            model.train(training)
            self.log(metrics)
            self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    class Best(TrainerCallback):
        """Knows the best step by what was logged, which a resumed job reads from its checkpoint."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.best_global_step:  # a folder that was moved in between would lose it
                state.best_model_checkpoint = str(checkpoint(args.output_dir, state.best_global_step))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_log |= control.should_save  # before it, for no checkpoint to hold weights that are not numbers

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if is_exhausted(state.log_history, patience):
                control.should_training_stop = True

    class Progress(ProgressCallback):
        """A bar on standard error that ends with the last figures; Trainer's own prints them on standard output."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if self.training_bar is not None:
                self.training_bar.set_postfix({name: f"{value:.4g}" for name, value in (logs or {}).items() if name in ("loss", "eval_mean")})

    trainer = RankingTrainer(**options)
    trainer.remove_callback(PrinterCallback if trainer.args.disable_tqdm else ProgressCallback)
    if not trainer.args.disable_tqdm:
        trainer.add_callback(Progress)
    trainer.add_callback(Best)
    trainer.model_accepts_loss_kwargs = False  # the loss is a mean over groups; Trainer must not divide by tokens
    return trainer


def is_exhausted(history: Sequence[Mapping[str, Any]], patience: int | None) -> bool:
    """Whether the last ``patience`` validations that Trainer logged (``state.log_history``) were no better than the best before them."""
    means = [entry["eval_mean"] for entry in history if "eval_mean" in entry]
    return bool(patience and means) and len(means) - 1 - means.index(max(means)) >= (patience or 0)


def train_on(trainer: Any, last: Path | None, patience: int | None = None) -> None:
    """Train from the checkpoint ``last`` on (None: from the start); where training had stopped early there, take the best step's weights."""
    from safetensors.torch import load_file
    from transformers import TrainerState
    from transformers.trainer import TRAINER_STATE_NAME

    if last and is_exhausted((state := TrainerState.load_from_json(str(last / TRAINER_STATE_NAME))).log_history, patience):
        trainer.state = state
        trainer.model.load_state_dict(load_file(checkpoint(trainer.args.output_dir, state.best_global_step) / "model.safetensors"))
    else:
        trainer.train(resume_from_checkpoint=str(last) if last else None)


def checkpoint(folder: str | Path, step: int) -> Path:
    """Where Trainer keeps the checkpoint of a step."""
    return Path(folder) / f"checkpoint-{step}"


def last_checkpoint(folder: Path, processes: int = 1) -> Path | None:
    """The last whole checkpoint under ``folder``; those that a killed job left half-written are removed: their state is written last, beside the random state of
    each process.
    """
    states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{process}.pth" for process in range(processes)]
    found = []
    for path in folder.glob("checkpoint-*"):
        try:
            step = int(json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))["global_step"])
        except (OSError, ValueError, KeyError):
            step = -1
        if step >= 0 and all((path / name).exists() for name in states):
            found.append((step, path))
        else:
            shutil.rmtree(path)
    return max(found)[1] if found else None
