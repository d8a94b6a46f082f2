"""Pairs a second of csrerank, sentence-transformers' CrossEncoder and rerankers: the same checkpoint, the same pairs, in turns.

    python benchmarks/rerank_throughput.py [--topics 200] [--rounds 5] [--json FILE] [--systems csrerank:fp32,crossencoder:fp32] [--device cuda]

The pairs are XQuAD-R's: English topics (the first of --topics by a hash of their ids) with the German sentences of their --k best English sentences. Each round takes
the next share of the topics, through every system in turn, each in a process of its own in an environment of its own (made at first use under --work, by pip).
Before that each of the others finds its best batch size, on the first 400 pairs. Printed are medians over rounds.

The share of the machine's rate counts the operations of the tokens alone (no padding) over the rate of matrix products in the model's own shapes and that precision,
measured in each round, the faster of torch's kernel and oneDNN's. GFLOP a pair are those operations. Peak memory is that of the rounds (of the device, on a GPU). Tokenising
is the time in the tokenizer's calls (csrerank: and in putting pairs together).
"""

import argparse
import hashlib
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from csrerank.models.precision import FEW, REFINED

DATASET = "csrerank/xquad-r/en-de"
SYSTEMS = (
    "csrerank:fp32", "csrerank:bf16", "csrerank:auto", "crossencoder:fp32", "crossencoder:bf16", "crossencoder:onnx", "crossencoder:onnx-int8", "rerankers:fp32",
)  # fmt: skip
ON_A_GPU = ("csrerank:fp32", "csrerank:bf16", "crossencoder:fp32", "crossencoder:fp16", "crossencoder:bf16", "rerankers:fp32")
# sentence-transformers' ONNX extra wants an older transformers than its latest version.
_LATEST, _ONNX = ("st", ["sentence-transformers==6.*"]), ("onnx", ["sentence-transformers[onnx]==5.*"])
ENVIRONMENTS = {
    **{f"crossencoder:{kind}": _ONNX for kind in ("onnx", "onnx-int8")},
    **{f"crossencoder:{kind}": _LATEST for kind in ("fp32", "fp16", "bf16")},
    "rerankers:fp32": ("rerankers", ["rerankers[transformers]"]),
}
BATCHES = {"cpu": (8, 16, 32, 64, 128), "cuda": (32, 64, 128, 256, 512, 1024)}
Topics = list[tuple[str, list[str]]]


class Worker:
    """A system in its process."""

    def __init__(self, system: str, model: str, threads: int, device: str, work: Path) -> None:
        script = Path(__file__).with_name("throughput_worker.py")
        self._command = [_python(system, work), str(script), system, model, str(threads), device]
        self.system, self.batch, self._batches = system, 32, BATCHES[device.partition(":")[0]]
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._answer()  # one is loaded after the other: csrerank's `auto` takes a stopwatch then

    def score(self, topics: Topics, batch: int | None = None) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"pairs": topics, "batch": batch or self.batch}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        sys.exit(f"{self.system}: ended; run it by hand: {' '.join(map(str, self._process.args))}")

    def tune(self, topics: Topics) -> None:
        """Find the best batch size (csrerank has none), and start anew, so that the other sizes' memory is gone."""
        if not self.system.startswith("csrerank"):
            self.score(topics[:1])
            self.batch = min(self._batches, key=lambda batch: min(self.score(topics, batch)["seconds"] for _ in range(2)))
            self.close()
            self._start()
        self.score(topics[:1])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _python(system: str, work: Path) -> str:
    """The interpreter of a system's environment, which is made if need be."""
    if system not in ENVIRONMENTS:
        return sys.executable
    import torch

    name, packages = ENVIRONMENTS[system]
    python = work / name / "bin" / "python"
    if not (work / name / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", work / name], check=True)
        version, _, build = torch.__version__.partition("+")
        index = ["--extra-index-url", f"https://download.pytorch.org/whl/{build}"] if build else []
        install = [python, "-m", "pip", "install", "-q", f"torch=={version}{'+' + build if build else ''}", *packages]
        if subprocess.run(install, check=False).returncode:  # this build is not where pip looks
            subprocess.run([*install, *index], check=True)
        (work / name / "made").touch()
    return str(python)


def pairs(count: int, k: int, work: Path) -> Topics:
    """Topics with their candidates' texts."""
    from csrerank.collections.catalogue import load
    from csrerank.trec import read_run

    run = work / f"oracle-{k}.trec"
    if not run.exists():
        csrerank = [
            sys.executable,
            "-m",
            "csrerank",
            "retrieve",
            "--dataset",
            DATASET,
            "--first-stage",
            "oracle",
            "--k",
            str(k),
            "--output",
            str(run),
            "--quiet",
        ]
        subprocess.run(csrerank, check=True)
    dataset = load(DATASET)
    topics = {query.query_id: query.text for query in dataset.queries_iter()}
    texts = {doc.doc_id: doc.default_text() for doc in dataset.docs_iter()}
    rankings = sorted(read_run(run), key=lambda ranking: hashlib.sha256(ranking.topic.encode()).digest())
    return [(topics[ranking.topic], [texts[doc] for doc in ranking.docs]) for ranking in rankings[:count]]


def onnx_int8(model: str, work: Path) -> None:
    """Export the checkpoint and quantise it, by sentence-transformers' own function; done once."""
    if not (Path(model) / "onnx" / "model_int8.onnx").exists():
        script = (
            "import sys\nfrom sentence_transformers import CrossEncoder, export_dynamic_quantized_onnx_model\n"
            "model = CrossEncoder(sys.argv[1], backend='onnx', model_kwargs={'provider': 'CPUExecutionProvider'})\nmodel.save_pretrained(sys.argv[1])\n"
            "export_dynamic_quantized_onnx_model(model, sys.argv[2], sys.argv[1], file_suffix='int8')\n"
            "import pathlib, shutil\nfolder = pathlib.Path(sys.argv[1]) / 'onnx'\n"
            "found = [path for path in folder.glob('*int8*.onnx')]\nshutil.move(found[0], folder / 'model_int8.onnx') if found[0].name != 'model_int8.onnx' else None\n"
        )
        subprocess.run([_python("crossencoder:onnx-int8", work), "-c", script, model, instructions()], check=True)


def instructions() -> str:
    """The set for which sentence-transformers shall quantise: sets differ in what they multiply without cutting off."""
    import torch

    return "avx512_vnni" if torch.cpu._is_vnni_supported() else "avx2"


def shapes(model: str) -> list[tuple[int, int]]:
    """Of the model's products: columns in and out."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model)
    hidden, inner = config.hidden_size, config.intermediate_size
    return [(hidden, 3 * hidden), (hidden, hidden), (hidden, inner), (inner, hidden)]


def machine_rates(model: str, threads: int, device: str) -> dict[str, float]:
    """Operations a second of matrix products in the model's shapes, 2,048 rows (a GPU: 16,384): by precision, the shapes weighed by their work, the faster kernel of each."""
    import torch

    from csrerank.models.engine import Linear
    from csrerank.models.int8 import largest_weight

    torch.set_num_threads(threads)
    if device != "cpu":
        return _gpu_rates(model, device)
    plain = torch.bfloat16 if has_bf16() else torch.float32
    rates = {}
    with torch.inference_mode():
        for name, kind in (("fp32", torch.float32), *([("bf16", torch.bfloat16)] if plain == torch.bfloat16 else []), ("int8", None)):
            work = seconds = 0.0
            for into, out in shapes(model):
                states, weight = torch.randn(2048, into), torch.randn(out, into)
                if kind is None:
                    codes, packed = (
                        states.to(torch.uint8),
                        torch.ops.onednn.qlinear_prepack(weight.mul(20).clamp(-largest_weight(), largest_weight()).to(torch.int8), None),
                    )
                    steps, zeros = torch.ones(out), torch.zeros(out, dtype=torch.int64)
                    tried = [
                        lambda c=codes, p=packed, s=steps, z=zeros: torch.ops.onednn.qlinear_pointwise(c, 0.1, 1, p, s, z, None, 1.0, 0, plain, "none", [], "")
                    ]
                else:
                    states, weight, bias = states.to(kind), weight.to(kind), torch.zeros(out, dtype=kind)
                    linear = Linear(weight, bias)
                    tried = [lambda s=states, w=weight, b=bias: torch.nn.functional.linear(s, w, b), lambda s=states, f=linear: f(s)]
                seconds += min(_seconds(product) for product in tried)
                work += 2 * 2048 * into * out
            rates[name] = work / seconds
    return rates


def _gpu_rates(model: str, device: str) -> dict[str, float]:
    import torch

    rates = {}
    with torch.inference_mode():
        for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            work = seconds = 0.0
            for into, out in shapes(model):
                states, weight, bias = (torch.randn(*size, device=device, dtype=kind) for size in ((16384, into), (out, into), (out,)))
                seconds += _seconds(lambda s=states, w=weight, b=bias: torch.nn.functional.linear(s, w, b), lambda: torch.cuda.synchronize(device))
                work += 2 * 16384 * into * out
            rates[name] = work / seconds
    return rates


def _seconds(product: Any, wait: Any = lambda: None) -> float:
    """The median of some repetitions."""
    taken = []
    for _ in range(30):
        wait()
        start = time.perf_counter()
        product()
        wait()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[3:])


def operations(model: str, topics: Topics, skipping: bool) -> float:
    """Of the encoder's products and attention for the tokens of these pairs, without padding. ``skipping``: of the last layer only what csrerank computes there, which is
    keys and values, or, where that layer averages, nothing to speak of."""
    from transformers import AutoConfig, AutoTokenizer

    config, tokenizer = AutoConfig.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    lengths = [len(ids) for query, passages in topics for ids in tokenizer([query] * len(passages), passages)["input_ids"]]
    averages = (getattr(config, "csrerank", None) or {}).get("pooling") == "mean"
    whole, last = (layers - 1, 0 if averages else 4 * hidden**2) if skipping else (layers, 0)
    return float(sum(length * (whole * (8 * hidden**2 + 4 * hidden * inner + 4 * length * hidden) + last) for length in lengths))


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; elsewhere it is emulated."""
    import torch

    from csrerank.models.precision import resolve_precision

    return resolve_precision("auto", torch.device("cpu")) == "bf16"


def rounds_of(topics: Topics, count: int) -> Iterator[Topics]:
    """The topics dealt out."""
    return (topics[at::count] for at in range(count))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--topics", type=int, default=200)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu, or a GPU: cuda, cuda:1")
    parser.add_argument(
        "--systems", help="of " + " ".join(SYSTEMS) + "; by default those, bf16 only where the processor multiplies it (a GPU: " + " ".join(ON_A_GPU) + ")"
    )
    parser.add_argument("--work", type=Path, default=Path("build/throughput"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    here = [name for name in SYSTEMS if has_bf16() or not name.endswith(":bf16")] if options.device == "cpu" else ON_A_GPU
    systems = options.systems.split(",") if options.systems else list(here)
    model = _directory(options.model, options.work)
    if "crossencoder:onnx-int8" in systems or "crossencoder:onnx" in systems:
        onnx_int8(model, options.work)
    topics = pairs(options.topics, options.k, options.work)
    if len(topics) < options.rounds:
        parser.error(f"{len(topics)} topics for {options.rounds} rounds")
    machine = _processor() if options.device == "cpu" else f"{_processor()}, {_gpu(options.device)}"
    print(f"{len(topics)} topics, {sum(len(passages) for _, passages in topics)} pairs, {machine}, {options.threads} threads")
    workers = [Worker(system, model, options.threads, options.device, options.work) for system in systems]
    measured: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
    for worker in tqdm(workers, desc="batch sizes", disable=not sys.stderr.isatty()):
        worker.tune(topics[: max(1, 400 // options.k)])
    for turn, part in enumerate(tqdm(list(rounds_of(topics, options.rounds)), desc="rounds", disable=not sys.stderr.isatty())):
        rates = machine_rates(model, options.threads, options.device)
        for worker in workers[turn:] + workers[:turn]:
            found = worker.score(part)
            work = operations(model, part, worker.system.startswith("csrerank"))
            measured[worker.system].append({**found, "pairs": len(found["scores"]), "operations": work, "rates": rates, "batch": worker.batch, "k": options.k})
    for worker in workers:
        worker.close()
    rows = [row(system, measured[system], measured) for system in systems]
    shown(rows)
    print("of 2048 x " + ", 2048 x ".join(f"{into} times {into} x {out}" for into, out in shapes(model)))
    if options.json:
        options.json.write_text(
            json.dumps(
                {
                    "command": sys.argv,
                    "machine": machine,
                    "device": options.device,
                    "threads": options.threads,
                    "pairs": sum(len(p) for _, p in topics),
                    "rows": rows,
                },
                indent=1,
            )
            + "\n"
        )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _gpu(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device)


def _directory(model: str, work: Path) -> str:
    """A copy of the checkpoint's folder, which exports may be added to."""
    import shutil

    from csrerank.models.checkpoint import directory_hash, find_model

    source = Path(find_model(model))
    copy = work / "models" / f"{source.name}-{directory_hash(source)[:12]}-{instructions()}"
    if not copy.exists():
        unfinished = copy.with_name(f".{copy.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished)
        unfinished.rename(copy)
    return str(copy)


def row(system: str, rounds: Sequence[dict[str, Any]], measured: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What is said of a system; differences are from CrossEncoder in fp32, where that was run."""
    precision = str(rounds[0].get("precision", system.partition(":")[2]))
    alone = rounds[0]["k"] <= FEW  # then mixed computes no integers
    arithmetic = {"mixed": "fp32" if alone else "int8", "onnx": "fp32", "onnx-int8": "int8", "fp16": "bf16"}.get(precision, precision)

    def least(one: dict[str, Any]) -> float:
        """Seconds that the products would take at the machine's rate; mixed computes a part of the pairs in fp32 too."""
        again = REFINED / one["k"] * one["operations"] / one["rates"]["fp32"] if precision == "mixed" and not alone else 0.0
        return one["operations"] / one["rates"][arithmetic] + again

    exact, integers = measured.get("crossencoder:fp32", []), measured.get("crossencoder:onnx-int8", [])
    differences = [abs(a - b) for own, other in zip(rounds, exact, strict=False) for a, b in zip(own["scores"], other["scores"], strict=True)]
    rates = [one["pairs"] / one["seconds"] for one in rounds]
    ratios, to_integers = ([other["seconds"] / one["seconds"] for one, other in zip(rounds, others, strict=False)] for others in (exact, integers))
    return {
        "system": system,
        "precision": precision,
        "pairs/s": statistics.median(rates),
        "least": min(rates),
        "most": max(rates),
        "x CrossEncoder": statistics.median(ratios) if ratios else None,
        "x its int8-ONNX": statistics.median(to_integers) if to_integers else None,
        "share of rate": statistics.median(least(one) / one["seconds"] for one in rounds) if arithmetic in rounds[0]["rates"] else None,
        "tokenising": statistics.median(one["tokenising"] / one["seconds"] for one in rounds) if "tokenising" in rounds[0] else None,
        "GFLOP a pair": sum(one["operations"] for one in rounds) / sum(one["pairs"] for one in rounds) / 1e9,
        "rounds": [{name: one[name] for name in ("seconds", "pairs", "operations", "rates")} for one in rounds],
        "GiB": max(one["peak"] for one in rounds),
        "batch": rounds[0]["batch"] if not system.startswith("csrerank") else None,
        "largest difference": max(differences) if differences else None,
        "GFLOP/s of products": {name: statistics.median(one["rates"][name] for one in rounds) / 1e9 for name in rounds[0]["rates"]},
    }


def shown(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    print(
        "| system | pairs/s (least, most) | × CrossEncoder fp32 | × its int8-ONNX | GFLOP a pair | share of the machine's rate | tokenising | peak GiB | batch | largest score difference |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for one in rows:
        name = one["system"] + (f" ({one['precision']})" if one["system"].endswith(":auto") else "")
        cells = [
            name,
            f"{one['pairs/s']:.0f} ({one['least']:.0f}, {one['most']:.0f})",
            *(f"{one[name]:.2f}" if one[name] else "" for name in ("x CrossEncoder", "x its int8-ONNX")),
            f"{one['GFLOP a pair']:.2f}",
            f"{one['share of rate']:.0%}" if one["share of rate"] is not None else "",
            f"{one['tokenising']:.1%}" if one["tokenising"] is not None else "",
            f"{one['GiB']:.1f}",
            str(one["batch"] or ""),
            f"{one['largest difference']:.1e}" if one["largest difference"] is not None else "",
        ]
        print("| " + " | ".join(cells) + " |")
    rates = rows[0]["GFLOP/s of products"]
    print("products alone: " + ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in rates.items()))


if __name__ == "__main__":
    main()
