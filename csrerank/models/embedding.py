"""Text embeddings by a bi-encoder, for the dense first stage: mean pooling, unit length, E5's prefixes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

PREFIX = {"query": "query: ", "passage": "passage: "}  # multilingual-e5 was trained with these (its model card)


class Embedder:
    """A bi-encoder in a Hugging Face directory."""

    def __init__(self, model: Any, tokenizer: Any, max_length: int = 512) -> None:
        self.model, self.tokenizer, self.max_length = model.eval(), tokenizer, max_length

    @classmethod
    def load(cls, directory: str | Path) -> "Embedder":
        """Load from a Hugging Face directory."""
        from transformers import AutoModel, AutoTokenizer

        from csrerank.models.reranker import position_limit, quiet_transformers

        quiet_transformers()
        model, tokenizer = AutoModel.from_pretrained(directory, add_pooling_layer=False), AutoTokenizer.from_pretrained(directory)
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
