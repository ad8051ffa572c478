"""The floors: no import runs upward or sideways, and the command line starts without the heavy libraries."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIGHT = ("kineme.pipeline.errors", "kineme.shards.errors", "kineme.pipeline.commands.")
HEAVY = {
    *("torch", "torchvision", "lightning", "faiss", "decord", "kornia", "torchmetrics", "matplotlib", "webdataset"),
    *("fastapi", "uvicorn", "pymilvus"),
}
MODELS_MAY = {"torch", "torchvision"}


def imports(tree: ast.AST, *, at_module_level: bool = False) -> Iterator[str]:
    """Full names of what a module imports; at its top alone, or anywhere in it."""
    for node in _top(tree) if at_module_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _top(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs when the module is imported: no function bodies, nothing for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _top(node)


def modules(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, folder
    return found


def parse(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"), path)


@pytest.mark.parametrize("floor", ["shards", "models", "retrieval"])
def test_a_lower_floor_knows_itself_alone(floor: str) -> None:
    own = f"kineme.{floor}"
    strange = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(floor)
        for name in imports(parse(path))
        if name.split(".")[0] == "kineme" and name != own and not name.startswith(f"{own}.")
    ]
    assert strange == []


def test_models_need_torch_and_torchvision_alone() -> None:
    strange = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("models")
        for name in imports(parse(path))
        if name.split(".")[0] not in {"kineme", *MODELS_MAY, *sys.stdlib_module_names}
    ]
    assert strange == []


def test_commands_import_nothing_heavy_before_they_are_called() -> None:
    strange = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("pipeline/commands")
        for name in imports(parse(path), at_module_level=True)
        if name.split(".")[0] in HEAVY or (name.startswith("kineme.") and not name.startswith(LIGHT))
    ]
    assert strange == []


def test_the_check_sees_what_it_should() -> None:
    source = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import decord
try:
    import torch.nn
except ImportError:
    pass
def late():
    from kineme.pipeline import run
"""
    tree = ast.parse(source)
    assert set(imports(tree)) == {"typing.TYPE_CHECKING", "decord", "torch.nn", "kineme.pipeline.run"}
    assert set(imports(tree, at_module_level=True)) == {"typing.TYPE_CHECKING", "torch.nn"}
