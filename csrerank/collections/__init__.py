"""The ir_datasets extension: importing this module registers csrerank's collections."""

from csrerank.collections import en_qa


def register() -> None:
    """Register every csrerank dataset with ir_datasets; calling it again does nothing."""
    en_qa.register()


register()
