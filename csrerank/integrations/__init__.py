"""Hooks into other frameworks, each under a hundred lines."""
