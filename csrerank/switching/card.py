"""The data card of a written collection, as YAML and as Markdown with a Hugging Face dataset card's front matter. Nothing in it tells when or where it was made."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from csrerank.codeswitch import Lexicons, Switch
from csrerank.metadata import dumped
from csrerank.switching import rates
from csrerank.switching.formats import SWITCH_FIELDS
from csrerank.switching.job import SIDES, Job, Shard, spelt
from csrerank.switching.marks import marked
from csrerank.switching.shards import fewest

_NON_COMMERCIAL = re.compile(r"\bNC\b|non-?commercial", re.IGNORECASE)
_LAYOUT = {
    "tsv": "One record a line: id, tab, text; no header, and no other field. Backslash, tab, line feed, carriage return, vertical tab, form feed and NUL in a text are "
    r"written as \\ \t \n \r \v \f \0.",
    "jsonl": "One JSON object a line with the record's fields.",
    "parquet": "Parquet (zstd) with the record's fields as columns.",
}
_RECORDS = {
    "tsv": "The switches stand in `*.switches.tsv` beside each file: id, field, start, end, original, replacement, language, source, rank.",
    "jsonl": f"`switches` lists the replacements as objects with {', '.join(SWITCH_FIELDS)}.",
    "parquet": f"The column `switches` lists the replacements as structs of {', '.join(SWITCH_FIELDS)}.",
}


def card(job: Job, contents: Mapping[str, Any], lexicons: Lexicons, notes: Mapping[Shard, Mapping[str, Any]], others: Mapping[str, int]) -> dict[str, Any]:
    """What the collection is: its base, policy, lexicons, licences, counts, rates and examples.

    :param contents: what tells the base from others (``Source.contents``).
    :param others: lines of the other files written, ``qrels`` and ``docpairs``.
    """
    found = {spelt(name): lexicons.find(*name) for name in job.lexicons}
    licences = sorted({source.licence for lexicon in found.values() for source in lexicon.sources})
    restricted = [licence for licence in licences if _NON_COMMERCIAL.search(licence)]
    content: dict[str, Any] = {"name": f"{job.source().title} switched by {job.policy.name}"}
    if restricted:
        content["restriction"] = f"NOT FOR COMMERCIAL USE: words come from lexicons under {', '.join(restricted)}"
    content |= {
        "made from": dict(contents),
        "made with": "csrerank switch",
        "seed": job.seed,
        "epoch": job.epoch,
        "policy": job.policy.plain(),
        "policy fingerprint": job.policy.fingerprint,
        "licences": {
            "lexicons": licences,
            "texts": f"those of {job.source().title}, whose terms hold on",
        },
        "lexicons": {
            name: {
                "fingerprint": lexicon.fingerprint,
                "sources": [{"name": source.name, "licence": source.licence, "files": dict(source.files)} for source in lexicon.sources],
            }
            for name, lexicon in found.items()
        },
        "files": {
            "format": job.format,
            "layout": _LAYOUT[job.format],
            "switches": _RECORDS[job.format] if job.records else "The switches are not kept.",
            "offsets": "start and end count Unicode code points of the field's original text.",
        },
    }
    for part, side in SIDES.items():
        if part in job.parts:
            of_part = [note for shard, note in notes.items() if shard.part == part]
            counts = sum((Counter(note["counts"]) for note in of_part), Counter[str]())
            content[part] = rates.plain(counts, job.policy.side(side))
            content[part]["examples"] = [_example(example) for example in fewest(example for note in of_part for example in note["examples"])]
    return content | dict(others)


def _example(example: Mapping[str, Any]) -> dict[str, Any]:
    """An example as the card has it, its switched words marked as ``Wasser{de:wiktionary}``."""
    switches = [Switch(*switch) for switch in example["switches"]]
    more = " ..." if example["cut"] else ""
    return {"id": example["id"], "original": example["original"] + more, "switched": marked(example["original"], switches) + more}


def as_yaml(content: Mapping[str, Any]) -> bytes:
    """The card as YAML."""
    return dumped(content)


def as_markdown(content: Mapping[str, Any], job: Job) -> bytes:
    """The card as Markdown."""
    lines = ["---", dumped(_front_matter(content, job)).decode().rstrip(), "---", f"# {content['name']}", ""]
    if "restriction" in content:
        lines += [f"> **{content['restriction']}.**", ""]
    lines += [
        f"Code-switched texts: words of {_base(content)} replaced through bilingual lexicons by the policy *{job.policy.name}* (seed {job.seed}, epoch {job.epoch}). "
        f"{job.policy.about}".strip(),
        "",
        "`card.yaml` holds what follows in full, `manifest.json` the settings and the SHA-256 of every file.",
        "",
        "## Files",
        "",
        f"{_LAYOUT[job.format]} {content['files']['switches']} {content['files']['offsets']}".replace("\\", "\\\\"),
        "",
        *(
            f"- `{name}: {content[key]} lines"
            for key, name in (("qrels", "qrels.txt` (TREC)"), ("docpairs", "docpairs.tsv` (query, better document, worse document)"))
            if key in content
        ),
        "",
        "## Policy",
        "",
        "```yaml",
        dumped(content["policy"]).decode().rstrip(),
        "```",
        "",
        "## Lexicons and licences",
        "",
        f"The texts: {content['licences']['texts']}. The lexicons:",
        "",
        *_lexicon_table(content["lexicons"]),
    ]
    for part in (part for part in SIDES if part in content):
        lines += ["", f"## {part.capitalize()}", "", *_figures({key: value for key, value in content[part].items() if key != "examples"})]
        for example in content[part]["examples"]:
            lines += ["", f"**{_line(example['id'])}**", "", f"> {_line(example['original'])}", ">", f"> {_line(example['switched'])}"]
    return ("\n".join(lines) + "\n").encode()


def _base(content: Mapping[str, Any]) -> str:
    return f"`{content['made from']['dataset']}`" if "dataset" in content["made from"] else "Parquet files"


def _front_matter(content: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """What the Hugging Face hub reads; its viewer finds the files by it."""
    languages = sorted({lang for _, *pair in job.lexicons for lang in pair}) or ["en"]
    matter: dict[str, Any] = {
        "pretty_name": content["name"],
        "language": languages,
        "license": "other",
        "license_name": "several",
        "license_link": "README.md",
        "task_categories": ["text-retrieval"],
        "tags": ["code-switching", "csrerank", *(["non-commercial"] if "restriction" in content else [])],
    }
    # A glob such as part-*.tsv would match the switches' files too.
    paths = {part: f"{part}/part-{'?' * 5}.{job.format}" for part in SIDES if part in job.parts}
    if job.format != "tsv":
        matter["configs"] = [{"config_name": part, "data_files": path} for part, path in paths.items()]
    return matter


def _lexicon_table(lexicons: Mapping[str, Any]) -> list[str]:
    rows = ["| lexicon | fingerprint | source | licence | files |", "|---|---|---|---|---|"]
    for name, lexicon in lexicons.items():
        for source in lexicon["sources"]:
            files = ", ".join(f"{_cell(file)} `{digest}`" for file, digest in source["files"].items())
            rows.append(f"| {_cell(name)} | `{lexicon['fingerprint']}` | {_cell(source['name'])} | {_cell(source['licence'])} | {files} |")
    return rows if lexicons else ["None: the policy switches nothing."]


def _figures(content: Mapping[str, Any]) -> list[str]:
    lines = []
    for key, value in content.items():
        if isinstance(value, Mapping):
            lines.append(f"- {key}: " + "; ".join(f"{name} {_said(figure)}" for name, figure in value.items()))
        else:
            lines.append(f"- {key}: {_said(value)}")
    return lines


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_said(figure)}" for name, figure in value.items())
    return "none" if value is None else str(value)


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _line(text: str) -> str:
    """A text on one line, without what Markdown would take for its own."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(text.split()))
