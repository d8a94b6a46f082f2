"""First stages: bm25 (pyserini, Lucene) and dense (faiss)."""
