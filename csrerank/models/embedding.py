"""Text embeddings by a bi-encoder, for the dense first stage: mean pooling, unit length, E5's prefixes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from csrerank.errors import InputError

PREFIX = {"query": "query: ", "passage": "passage: "}  # multilingual-e5 was trained with these (its model card)


class Embedder:
    """A bi-encoder in a Hugging Face directory."""

    def __init__(self, model: Any, tokenizer: Any, max_length: int = 512) -> None:
        self.model, self.tokenizer, self.max_length = model.eval(), tokenizer, max_length

    @classmethod
    def load(cls, directory: str | Path) -> "Embedder":
        """Load from a Hugging Face directory. Raises ``InputError`` for a directory that holds no encoder."""
        import torch
        from transformers import AutoModel, AutoTokenizer

        from csrerank.models.checkpoint import position_limit, quiet_transformers

        quiet_transformers()
        if not (Path(directory) / "config.json").exists():
            raise InputError(f"{directory}: no bi-encoder there; make the default one with scripts/build_encoder, or give another directory")
        try:
            model = AutoModel.from_pretrained(directory, use_safetensors=True, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(directory)
        except Exception as error:  # transformers raises OSError, ValueError, SafetensorError and more for a broken directory
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise InputError(f"{directory}: cannot be loaded as a bi-encoder ({first}); give a directory saved by transformers with safetensors") from error
        return cls(model, tokenizer, position_limit(model, tokenizer))

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"], batch: int = 64, progress: Any = None) -> np.ndarray:
        """Unit vectors, float32 [texts, hidden]; batches of ``batch`` texts of similar length. ``progress`` is a tqdm bar to advance, or None."""
        import torch

        encoded = self.tokenizer([PREFIX[kind] + text for text in texts], truncation=True, max_length=self.max_length)["input_ids"]
        order = sorted(range(len(texts)), key=lambda row: (len(encoded[row]), row))
        vectors = np.zeros((len(texts), self.model.config.hidden_size), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                padded = self.tokenizer.pad({"input_ids": [encoded[row] for row in rows]}, return_tensors="pt")
                states = self.model(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]).last_hidden_state
                mask = padded["attention_mask"].unsqueeze(-1).to(states.dtype)
                pooled = (states * mask).sum(1) / mask.sum(1)
                vectors[rows] = torch.nn.functional.normalize(pooled, dim=1).numpy()
                if progress is not None:
                    progress.update(len(rows))
        return vectors
