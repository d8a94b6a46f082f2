"""Models loaded without transformers: the same scores, bit for bit, and transformers for whatever is not of that kind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csrerank.errors import InputError
from csrerank.models.checkpoint import find_model
from csrerank.models.light import LightTokenizer, loaded
from csrerank.models.reranker import Reranker
from csrerank.models.settings import Settings, Windows

QUERIES = ["why do whales sleep?", "鲸鱼为什么睡觉", "  spaces \t and <s> signs </s> "] * 4
PASSAGES = ["Wale schlafen mit einer Gehirnhälfte.", "", "<pad> <mask> stone", "Der Vulkan schläft. " * 30] * 3


@pytest.mark.parametrize(
    ("name", "precision", "windows"), [("toy", "fp32", None), ("toy", "int8", None), ("toy", "fp32", Windows(20, 10)), ("default", "fp32", None)]
)
def test_the_same_bits(name: str, precision: str, windows: Windows | None, toy_model: Path) -> None:
    directory = toy_model if name == "toy" else Path(find_model("default"))
    settings = Settings(64, 16, precision=precision, windows=windows)
    light, whole = (Reranker.load(directory, settings, "cpu", light=light) for light in (True, False))
    assert isinstance(light.tokenizer, LightTokenizer) and not isinstance(whole.tokenizer, LightTokenizer)
    assert np.array_equal(light.score_pairs(QUERIES, PASSAGES), whole.score_pairs(QUERIES, PASSAGES))
    assert light.fingerprint == whole.fingerprint and np.ptp(light.score_pairs(QUERIES, PASSAGES)) > 0.01
    for text in (*QUERIES, *PASSAGES):
        assert light.tokenizer(text)["input_ids"] == whole.tokenizer(text)["input_ids"]
        assert light.tokenizer(text, "b c")["input_ids"] == whole.tokenizer(text, "b c")["input_ids"]
    assert set(light.tokenizer.all_special_ids) == set(whole.tokenizer.all_special_ids)
    assert (light.tokenizer.pad_token_id, light.tokenizer.unk_token_id) == (whole.tokenizer.pad_token_id, whole.tokenizer.unk_token_id)
    with pytest.raises(InputError, match="max-length 600"):
        Reranker.load(directory, Settings(600, 16, precision="fp32"), "cpu", light=True)


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"model_type": "roberta"}),
        ("config.json", {"dtype": "float16"}),
        ("config.json", {"id2label": {"0": "a", "1": "b", "2": "c"}}),
        ("config.json", {"id2label": None}),
        ("config.json", {"quantization_config": {}}),
        ("config.json", {"num_attention_heads": 7}),
        ("config.json", {"intermediate_size": 7}),
        ("config.json", {"num_hidden_layers": 1}),
        ("tokenizer_config.json", {"model_max_length": None}),
        ("tokenizer_config.json", {"mask_token": "whale"}),
        ("adapter_config.json", {}),
        ("added_tokens.json", {}),
        ("tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"}),
        ("tokenizer_config.json", {"do_lower_case": True}),
        ("tokenizer_config.json", {"mask_token": {"content": "<mask>", "lstrip": True}}),
    ],
)
def test_others_are_transformers(file: str, changed: dict[str, Any], toy_model: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_model, tmp_path / "model")
    assert loaded(tmp_path / "model") is not None
    path = tmp_path / "model" / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | changed))
    assert loaded(tmp_path / "model") is None


def test_the_command_imports_no_transformers(toy_model: Path, tmp_path: Path) -> None:
    from csrerank.collections.catalogue import load

    documents = [document.doc_id for document in load("csrerank/demo/en-de").docs_iter()][:5]
    topic = next(iter(load("csrerank/demo/en-de").queries_iter())).query_id
    run = tmp_path / "first.trec"
    run.write_text("".join(f"{topic} Q0 {document} {rank + 1} {9 - rank} bm25\n" for rank, document in enumerate(documents)))
    code = """
import sys
from csrerank.rerank import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code
assert 'transformers' not in sys.modules
print('none')
"""
    given = [
        "--run",
        run,
        "--dataset",
        "csrerank/demo/en-de",
        "--model",
        toy_model,
        "--max-length",
        64,
        "--query-tokens",
        16,
        "--output",
        tmp_path / "out.trec",
    ]
    done = subprocess.run([sys.executable, "-c", code, *map(str, given)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout == "none\n", done.stderr


def test_damaged_weights_are_one_line(toy_model: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_model, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be loaded as a checkpoint"):
        Reranker.load(tmp_path / "model", Settings(64, 16, precision="fp32"), "cpu", light=True)
