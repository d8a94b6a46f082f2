"""Training: pairs and negatives, the trainer, one file an objective."""
