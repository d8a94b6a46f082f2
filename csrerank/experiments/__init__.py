"""Experiments: which tracks, which systems, and the matrix of both that gives the paper's tables."""
