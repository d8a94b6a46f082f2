"""Fetch FreeDict's packages for the tests on real dictionaries: ``python tests/fetch_freedict.py FOLDER`` puts each under its MD5, as ir_datasets looks for it."""

import hashlib
import json
import sys
import urllib.request
from pathlib import Path


def main() -> None:
    """Fetch what the folder lacks."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    parts = json.loads((Path(__file__).parents[1] / "csrerank" / "collections" / "downloads.json").read_text(encoding="utf-8"))
    for name, part in parts["freedict"].items():
        target = folder / part["expected_md5"]
        if not target.exists():
            with urllib.request.urlopen(part["url"], timeout=60) as response:
                content = response.read()
            if hashlib.md5(content).hexdigest() != part["expected_md5"]:
                sys.exit(f"{name}: {part['url']} has another MD5 than downloads.json names")
            temporary = target.with_suffix(".part")
            temporary.write_bytes(content)
            temporary.replace(target)


if __name__ == "__main__":
    main()
