"""Lexicons: words and phrases with their translations; one module a source, each reading the format in which its publisher ships it."""
