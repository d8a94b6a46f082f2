"""The ir_datasets extension: importing this module registers csrerank's collections."""

from csrerank.collections import demo, en_qa, mmarco, msmarco, switched, xor_retrieve, xquad_r


def register() -> None:
    """Register every csrerank dataset with ir_datasets; calling it again does nothing."""
    for collection in (demo, en_qa, mmarco, msmarco, xor_retrieve, xquad_r, switched):
        collection.register()


register()
