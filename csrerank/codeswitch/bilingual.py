"""BL-CS: ML-CS with one language: every word switches with probability p into that one; one model is trained for each language pair."""

from csrerank.codeswitch.multilingual import switches

__all__ = ["switches"]
