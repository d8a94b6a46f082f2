"""Packing the shipped checkpoint and unpacking it at first use."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from csrerank.cache import cache_folder
from csrerank.cli import cli as root
from csrerank.errors import InputError
from csrerank.models import pack as packing
from csrerank.models.e5 import Q4
from csrerank.models.pack import decode, encode_int8, encode_q4, pack, unpack

HIDDEN, FFN, PIECES = 32, 64, 60
TABLE, POSITIONS = "roberta.embeddings.word_embeddings.weight", "roberta.embeddings.position_embeddings.weight"


def q4_table(rows: int, columns: int, seed: int) -> np.ndarray:
    """A float32 matrix out of random Q4_0 blocks, decoded by the reader that the real table comes from; scales of both signs."""
    random = np.random.default_rng(seed)
    count = rows * columns // 32
    nibbles = random.integers(0, 256, (count, 16), dtype=np.uint8)
    nibbles[np.arange(count), random.integers(0, 16, count)] &= 0xF0  # one weight of every block is -8, as the quantiser leaves it
    return Q4(random.normal(0, 0.1, count).astype(np.float16), nibbles).dequantised().reshape(rows, columns)


def tokenizer_json() -> dict[str, object]:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "▁", *"abcdefghijklmnopqrstuvwxyzäéñøß"]
    pieces += [f"▁{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"[: PIECES - len(pieces)]]
    special = [
        {"id": at, "content": piece, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for at, piece in enumerate(pieces[:5])
    ]
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    model = {"type": "Unigram", "unk_id": 3, "vocab": [[piece, -float(at)] for at, piece in enumerate(pieces)], "byte_fallback": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None, "pre_tokenizer": space,
        "post_processor": None, "decoder": space, "model": model,
    }  # fmt: skip


def toy_state() -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(0, 0.05, shape).astype(np.float32)

    state = {
        TABLE: q4_table(PIECES, HIDDEN, 3), POSITIONS: normal(34, HIDDEN),
        "roberta.embeddings.token_type_embeddings.weight": normal(1, HIDDEN),
        "roberta.embeddings.LayerNorm.weight": normal(HIDDEN), "roberta.embeddings.LayerNorm.bias": normal(HIDDEN),
        "classifier.dense.weight": normal(HIDDEN, HIDDEN), "classifier.dense.bias": normal(HIDDEN),
        "classifier.out_proj.weight": normal(1, HIDDEN), "classifier.out_proj.bias": normal(1),
    }  # fmt: skip
    for layer in range(2):
        stem = f"roberta.encoder.layer.{layer}"
        parts = {f"attention.self.{part}": (HIDDEN, HIDDEN) for part in ("query", "key", "value")}
        parts |= {"attention.output.dense": (HIDDEN, HIDDEN), "intermediate.dense": (FFN, HIDDEN), "output.dense": (HIDDEN, FFN)}
        for part, shape in parts.items():
            state |= {f"{stem}.{part}.weight": normal(*shape), f"{stem}.{part}.bias": normal(shape[0])}
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            state |= {f"{stem}.{part}.weight": normal(HIDDEN), f"{stem}.{part}.bias": normal(HIDDEN)}
    return state


def write_checkpoint(directory: Path, state: dict[str, np.ndarray]) -> Path:
    directory.mkdir(parents=True)
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    config = {
        "model_type": "xlm-roberta", "architectures": ["XLMRobertaForSequenceClassification"], "vocab_size": PIECES, "hidden_size": HIDDEN,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": FFN, "max_position_embeddings": 34, "type_vocab_size": 1,
        "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0},
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer_json(), ensure_ascii=False), encoding="utf-8")
    special = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    (directory / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}))
    (directory / "README.md").write_text("# A toy\n")
    return directory


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "from" / "toy", toy_state())


@pytest.fixture
def packed(checkpoint: Path, tmp_path: Path) -> Path:
    pack(checkpoint, tmp_path / "packed")
    return tmp_path / "packed"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_round_trip(checkpoint: Path, tmp_path: Path) -> None:
    report = pack(checkpoint, tmp_path / "packed")
    folder = unpack(tmp_path / "packed", tmp_path / "cache")
    assert folder.parent == tmp_path / "cache" and folder.name.startswith("toy-")
    before, scales, after = (load_file(place / "model.safetensors") for place in (checkpoint, tmp_path / "packed", folder))
    assert before.keys() == after.keys() == report["encodings"].keys()
    for name, weights in before.items():
        assert after[name].dtype == np.float32 and after[name].shape == weights.shape
        moved = np.abs(after[name].astype(np.float64) - weights)
        match report["encodings"][name]:
            case "int8":
                assert weights.ndim == 2 and "LayerNorm" not in name
                assert (moved <= scales[f"{name}:scale"].astype(np.float64)[:, None] * 0.5 * (1 + 1e-5)).all() and moved.any()
            case "fp16":
                assert name == POSITIONS and moved.max() <= np.abs(weights).max() * 2**-11
            case encoding:
                assert encoding == ("q4" if name == TABLE else "fp32")
                assert np.array_equal(after[name].view(np.uint32), weights.view(np.uint32))
    assert sorted(set(report["encodings"].values())) == ["fp16", "fp32", "int8", "q4"]
    assert len(report["encodings"]) - list(report["encodings"].values()).count("fp32") == 2 + 12 + 1  # tables, layers, head
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "README.md"):
        assert (folder / file).read_bytes() == (checkpoint / file).read_bytes()


def test_what_was_unpacked_packs_into_the_same_bytes(checkpoint: Path, packed: Path, tmp_path: Path) -> None:
    pack(unpack(packed, tmp_path / "cache"), tmp_path / "again", "toy")
    assert contents(tmp_path / "again") == contents(packed)


def test_on_the_command_line(checkpoint: Path, packed: Path, tmp_path: Path) -> None:
    again, out, run = tmp_path / "again", tmp_path / "out", CliRunner().invoke
    shutil.copytree(checkpoint, tmp_path / "other")
    done = run(root, ["models", "pack", str(tmp_path / "other"), "--output", str(again), "--name", "toy"])
    assert done.exit_code == 0 and done.output == f"{again}: 0.0 MB, toy\n" and contents(again) == contents(packed)
    for _ in range(2):
        done = run(root, ["models", "unpack", str(again), "--output", str(out)])
        assert done.exit_code == 0 and done.output == f"{out / unpack(packed, tmp_path / 'cache').name}\n" and len(list(out.iterdir())) == 1


def test_report_says_what_lies_in_the_folder(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "pytorch_model.bin").write_bytes(b"a pickle")
    report = pack(checkpoint, tmp_path / "packed")
    assert report["packed_bytes"] == {path.name: path.stat().st_size for path in (tmp_path / "packed").iterdir()}
    assert report["total_bytes"] == sum(report["packed_bytes"].values())
    assert report["left_out"] == ["pytorch_model.bin"] and "pytorch_model.bin" not in report["unpacked"]
    manifest = json.loads((tmp_path / "packed" / "manifest.json").read_text())
    assert manifest["format"] == 1 and manifest["name"] == "toy" and manifest.items() <= report.items()


def test_transformers_loads_the_result(checkpoint: Path, packed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    folder = unpack(packed, tmp_path / "cache")
    transformers_logging.enable_propagation()
    try:
        with caplog.at_level(logging.WARNING):
            model, info = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
            tokenizer = AutoTokenizer.from_pretrained(folder)
    finally:
        transformers_logging.disable_propagation()
    assert not any(info.values()), info
    assert [record.getMessage() for record in caplog.records] == []
    batch = tokenizer("abc", "ä cab", return_tensors="pt", return_token_type_ids=False)
    with torch.inference_mode():
        original = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()(**batch).logits
        assert torch.allclose(model.eval()(**batch).logits, original, atol=1e-3) and original.shape == (1, 1)


@pytest.mark.parametrize("scale", [0.0371, -0.0371, 6e-8, -3e-6, 900.0])
@pytest.mark.parametrize("extreme", [-8, 7, -7, 5, 1, 0])
def test_q4_finds_the_scale_whatever_the_largest_nibble(scale: float, extreme: int) -> None:
    fp16 = np.float32(np.float16(scale))
    units = np.clip(np.random.default_rng(1).integers(-8, 8, (2, 64)), -abs(extreme), min(abs(extreme), 7))
    units[units == -abs(extreme)] += extreme > 0  # then the largest magnitude is at the positive end
    units[:, ::32] = extreme
    weights = units.astype(np.float32) * fp16
    found = encode_q4(weights)
    assert found is not None
    assert found[0].shape == (2, 32) and found[0].dtype == np.uint8 and found[1].shape == (2, 2) and found[1].dtype == np.float16
    assert np.array_equal(decode("q4", *found), weights)


def test_q4_codes_lie_as_the_reader_of_the_base_model_has_them() -> None:
    weights = q4_table(4, 64, 5)
    found = encode_q4(weights)
    assert found is not None
    assert np.array_equal(Q4(found[1].reshape(-1), found[0].reshape(-1, 16)).dequantised().reshape(4, 64), weights)


def test_q4_refuses_what_it_cannot_hold_exactly() -> None:
    weights = q4_table(40, 64, 5)
    assert encode_q4(weights) is not None
    weights[39, 63] = np.nextafter(weights[39, 63], np.float32(9))
    assert encode_q4(weights) is None
    assert encode_q4(q4_table(40, 64, 5)[:, :48]) is None
    beyond_fp16 = np.full((2, 32), 8e6, np.float32)
    assert encode_q4(beyond_fp16) is None


def test_q4_looks_at_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = q4_table(10, 64, 9)
    whole = encode_q4(weights)
    monkeypatch.setattr(packing, "CHUNK", 3)
    chunked = encode_q4(weights)
    assert whole is not None and chunked is not None
    assert all(np.array_equal(a, b) for a, b in zip(whole, chunked, strict=True))
    weights[9, 60] += np.float32(0.001)
    assert encode_q4(weights) is None


def test_int8_of_zero_and_tiny_rows() -> None:
    weights = np.stack([np.zeros(8), np.full(8, 1e-45), np.linspace(-1, 1, 8), np.linspace(-1e-7, 3e30, 8)]).astype(np.float32)
    codes, scales = encode_int8(weights)
    again = decode("int8", codes, scales)
    assert np.isfinite(again).all() and not again[0].any()
    assert (np.abs(again[2:].astype(np.float64) - weights[2:]) <= scales[2:, None].astype(np.float64) * 0.5 * (1 + 1e-5)).all()


def test_large_position_embeddings_do_not_overflow(checkpoint: Path, tmp_path: Path) -> None:
    state = toy_state()
    state[POSITIONS][0, 0] = 1e6
    shutil.rmtree(checkpoint)
    assert pack(write_checkpoint(checkpoint, state), tmp_path / "packed")["encodings"][POSITIONS] == "int8"


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json.xz", "config.json"])
def test_tampered_packed_file(packed: Path, tmp_path: Path, file: str) -> None:
    content = bytearray((packed / file).read_bytes())
    content[-5] ^= 1
    (packed / file).write_bytes(content)
    with pytest.raises(InputError, match=rf"{file}: SHA-256 .*; reinstall csrerank"):
        unpack(packed, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_missing_packed_file(packed: Path, tmp_path: Path) -> None:
    (packed / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json: cannot be read \(No such file or directory\); reinstall"):
        unpack(packed, tmp_path / "cache")


def test_unpacked_files_are_held_to_their_hashes(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "decode", lambda encoding, codes, scales: decode(encoding, codes, scales) + np.float32(0.5))
    with pytest.raises(InputError, match=r"model\.safetensors: SHA-256 .*; reinstall"):
        unpack(packed, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_tampered_cache(packed: Path, tmp_path: Path) -> None:
    folder = unpack(packed, tmp_path / "cache")
    model = folder / "model.safetensors"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=rf"model\.safetensors: [\d,]+ bytes where .*; delete the folder {folder}, "):
        unpack(packed, tmp_path / "cache")
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert unpack(packed, tmp_path / "cache") == folder  # the promise of the docstring: sizes only
    with pytest.raises(InputError, match=r"model\.safetensors: SHA-256 .*; delete the folder"):
        unpack(packed, tmp_path / "cache", verify=True)
    model.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: no such file; delete the folder"):
        unpack(packed, tmp_path / "cache")
    shutil.rmtree(folder)
    assert unpack(packed, tmp_path / "cache", verify=True) == folder and model.read_bytes() == whole


def test_later_uses_do_not_unpack_again(packed: Path, tmp_path: Path) -> None:
    folder = unpack(packed, tmp_path / "cache")
    (packed / "model.safetensors").unlink()
    assert unpack(packed, tmp_path / "cache") == folder


def test_another_checkpoint_gets_another_folder(packed: Path, tmp_path: Path) -> None:
    state = toy_state()
    state["classifier.out_proj.bias"] += 1
    pack(write_checkpoint(tmp_path / "other" / "toy", state), tmp_path / "packed2")
    assert unpack(packed, tmp_path / "cache") != unpack(tmp_path / "packed2", tmp_path / "cache")


def test_two_processes_at_once(packed: Path, tmp_path: Path) -> None:
    code = "import sys, pathlib, csrerank.models.pack as p; sys.stdin.readline(); print(p.unpack(*map(pathlib.Path, sys.argv[1:])))"
    command = [sys.executable, "-c", code, str(packed), str(tmp_path / "cache")]
    pipe = subprocess.PIPE
    running = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in running]
    assert len(set(answers)) == 1 and answers[0][1] == ""
    folder = unpack(packed, tmp_path / "cache", verify=True)
    assert answers[0][0].strip() == str(folder) and list((tmp_path / "cache").iterdir()) == [folder]


def test_who_comes_second_uses_the_first_folder(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = packing._write_unpacked

    def overtaken(files: dict[str, bytes], folder: Path) -> None:
        monkeypatch.setattr(packing, "_write_unpacked", write)
        (unpack(packed, tmp_path / "cache") / "theirs").touch()
        write(files, folder)

    monkeypatch.setattr(packing, "_write_unpacked", overtaken)
    folder = unpack(packed, tmp_path / "cache")
    assert (folder / "theirs").exists() and list((tmp_path / "cache").iterdir()) == [folder]


def test_same_bytes_every_time(checkpoint: Path, packed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "toy"
    shutil.copytree(checkpoint, copy)
    for file in copy.iterdir():
        file.touch()
    for seed in ("1", "2"):  # another process, so another order of hash tables
        code = "import sys, pathlib, csrerank.models.pack as p; p.pack(sys.argv[1], pathlib.Path(sys.argv[2]))"
        subprocess.run([sys.executable, "-c", code, str(copy), str(tmp_path / seed)], check=True, env={"PYTHONHASHSEED": seed})
        assert contents(tmp_path / seed) == contents(packed)
    first, second = unpack(packed, tmp_path / "a"), unpack(packed, tmp_path / "b")
    assert first.name == second.name and contents(first) == contents(second)


def test_packing_again_replaces_what_was_there(checkpoint: Path, packed: Path, tmp_path: Path) -> None:
    (checkpoint / "README.md").unlink()
    pack(checkpoint, packed, name="bare")
    assert "README.md" not in contents(packed)
    folder = unpack(packed, tmp_path / "cache", verify=True)
    assert folder.name.startswith("bare-") and "README.md" not in contents(folder)


def test_packing_refuses_a_folder_that_is_not_its_own(checkpoint: Path) -> None:
    before = contents(checkpoint)
    with pytest.raises(InputError, match=r"holds files but no manifest\.json"):
        pack(checkpoint, checkpoint)
    assert contents(checkpoint) == before


def test_too_large_leaves_the_target_as_it_was(checkpoint: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(packed)
    total = sum(map(len, before.values()))
    monkeypatch.setattr(packing, "LIMIT", total)
    pack(checkpoint, packed)
    monkeypatch.setattr(packing, "LIMIT", total - 1)
    with pytest.raises(InputError, match=rf"packs into {total:,} bytes where {total - 1:,} are allowed"):
        pack(checkpoint, packed)
    assert contents(packed) == before


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_incomplete_checkpoint(checkpoint: Path, tmp_path: Path, file: str) -> None:
    (checkpoint / file).unlink()
    with pytest.raises(InputError, match=rf"{file}: no such file; give a Hugging Face directory"):
        pack(checkpoint, tmp_path / "packed")


def test_weights_that_cannot_be_packed(checkpoint: Path, tmp_path: Path) -> None:
    model = checkpoint / "model.safetensors"
    half = {**toy_state(), "classifier.out_proj.bias": np.zeros(1, np.float16)}
    save_file(half, model)
    with pytest.raises(InputError, match=r"tensor classifier\.out_proj\.bias is F16 where F32 is needed"):
        pack(checkpoint, tmp_path / "packed")
    save_file({**toy_state(), "classifier.dense.weight": np.full((4, 4), np.nan, np.float32)}, model)
    with pytest.raises(InputError, match=r"tensor classifier\.dense\.weight holds NaN or infinity"):
        pack(checkpoint, tmp_path / "packed")
    model.write_bytes(b"not safetensors at all")
    with pytest.raises(InputError, match=r"model\.safetensors: not a safetensors file"):
        pack(checkpoint, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "with space"])
def test_names_that_are_no_folder(checkpoint: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot name a folder"):
        pack(checkpoint, tmp_path / "packed", name=name)


def test_manifests_that_are_refused(packed: Path, tmp_path: Path) -> None:
    path = packed / "manifest.json"
    good = json.loads(path.read_text())

    def refusal(content: str) -> str:
        path.write_text(content)
        with pytest.raises(InputError) as caught:
            unpack(packed, tmp_path / "cache")
        assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))
        return str(caught.value)

    assert "update csrerank" in refusal(json.dumps({**good, "format": 2}))
    assert "not a manifest" in refusal(json.dumps({**good, "name": "../../out"}))
    assert "not a manifest" in refusal(json.dumps({**good, "files": {**good["files"], "../escape": "0"}}))
    assert "not a manifest" in refusal(json.dumps({**good, "unpacked_bytes": {}}))
    assert "not a manifest" in refusal("[]")
    assert "cannot be read" in refusal("{")
    path.unlink()
    with pytest.raises(InputError, match=r"manifest\.json: cannot be read"):
        unpack(packed, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_cache_that_cannot_be_written(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"file: the model cannot be unpacked here .*CSRERANK_CACHE"):
        unpack(packed, tmp_path / "file")


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CSRERANK_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "csrerank"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "csrerank"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "csrerank"
    monkeypatch.setenv("CSRERANK_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    assert not (tmp_path / "xdg").exists() and not (tmp_path / "mine").exists()
