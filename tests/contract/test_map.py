"""README.md here names a test for each row of the contract: each is there, and none of this folder is left out."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
README = (HERE / "README.md").read_text("utf-8")
ROWS = [
    row for row in re.findall(r"^\| (.+) \|$", README, re.MULTILINE) if row not in ("row | held by", "--- | ---")
]
NAMED = set(re.findall(r"`([\w/]+\.py)::(\w+)`", README))


@cache
def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_held_by_a_test(row: str) -> None:
    what, _, held_by = row.rpartition(" | ")
    assert what
    assert re.fullmatch(r"`[\w/]+\.py::\w+`(, `[\w/]+\.py::\w+`)*", held_by)


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_tests_that_are_named_exist(path: str) -> None:
    assert {name for named, name in NAMED if named == path} <= names_in(HERE.parent / path)


@pytest.mark.parametrize("path", sorted(HERE.glob("test_[0-9]*.py")), ids=lambda path: path.stem)
def test_tests_of_this_folder_are_named(path: Path) -> None:
    assert names_in(path) <= {name for named, name in NAMED if named == f"contract/{path.name}"}
