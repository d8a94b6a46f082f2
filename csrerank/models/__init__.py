"""Models: load, score, save, pack; plain Hugging Face directories throughout."""
