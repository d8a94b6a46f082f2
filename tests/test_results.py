"""Tables in documents are what their commands print, from the runs that are kept here."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import needs_real_data

REPOSITORY = Path(__file__).parents[1]
# <!-- csrerank reproduce ... --tables --> ... <!-- end -->, and so for fairness, whose table stands between fences
MADE = re.compile(r"<!-- csrerank ((?:reproduce|fairness) [^\n]*?) -->\n(.*?)<!-- end -->", re.DOTALL)


@needs_real_data
@pytest.mark.slow
@pytest.mark.parametrize(("document", "kinds"), [("results.md", {"reproduce", "fairness"}), ("model.md", {"reproduce"})])
def test_tables_are_those_of_the_runs(document: str, kinds: set[str], cli: Any) -> None:
    tables = MADE.findall((REPOSITORY / "docs" / document).read_text(encoding="utf-8"))
    assert {command.split()[0] for command, _ in tables} == kinds
    for command, shown in tables:
        done = cli(*shlex.split(command), cwd=REPOSITORY)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == shown.strip().strip("`").strip(), command
