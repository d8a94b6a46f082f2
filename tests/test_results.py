"""Tables in documents are what their commands print, from the runs that are kept here."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import needs_real_data

REPOSITORY = Path(__file__).parents[1]
# <!-- csrerank reproduce ... --tables --> ... <!-- end -->
MADE = re.compile(r"<!-- csrerank (reproduce .*?) -->\n(.*?)<!-- end -->", re.DOTALL)


@needs_real_data
@pytest.mark.slow
def test_tables_are_those_of_the_runs(cli: Any) -> None:
    tables = MADE.findall((REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8"))
    assert tables
    for command, shown in tables:
        done = cli(*shlex.split(command), "--output", REPOSITORY / "runs" / "matrix")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == shown.strip(), command
