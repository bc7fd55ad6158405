"""What docs/architecture.md promises about imports and files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tqgen_kernels"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 400

# A room imports only rooms before it.
ORDER = (
    "files",
    "kept",
    "versions",
    "cpu_blas",
    "emulator",
    "quant",
    "codegen",
    "backends",
    "tuning",
    "execution",
    "cache",
    "serving",
    "autotuning",
    "quality",
    "demo",
    "cli",
)
# The same inside tuning/.
TUNING = ("record", "database", "search", "report")
# TQGEN_AUTOTUNE=missing tunes when a kernel is first chosen: imported then, and only then.
BACKWARD = {"execution": {"autotuning"}}
HOMES = {"apply_patch", "make_prompt_cache", "make_adaptive_cache", "TurboQuantKVCache"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below, without what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from at_run_time(child)


def imports(path: Path) -> Iterator[str]:
    """Absolute names of the modules that a file imports, and of what it takes of the package."""
    package = ("tqgen_kernels", *path.relative_to(PACKAGE).parts[:-1])
    for node in at_run_time(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{name.name}" for name in node.names]
            yield from names if base == "tqgen_kernels" else [base]


def rooms_imported(path: Path) -> set[str]:
    parts = [name.split(".") for name in imports(path)]
    rooms = {p[1] for p in parts if p[0] == "tqgen_kernels" and len(p) > 1}
    return {"cache" if name in HOMES else name for name in rooms} - {room(path)}


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room(path) for path in FILES} - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("path", [p for p in FILES if room(p) != "__init__"], ids=name)
def test_imports_go_one_way(path: Path) -> None:
    before = ORDER[: ORDER.index(room(path))]
    assert rooms_imported(path) - BACKWARD.get(room(path), set()) <= set(before)


@pytest.mark.parametrize("path", sorted((PACKAGE / "tuning").glob("*/*.py")), ids=name)
def test_imports_inside_tuning_go_one_way(path: Path) -> None:
    found = [module.split(".") for module in imports(path)]
    rooms = {parts[2] for parts in found if parts[:2] == ["tqgen_kernels", "tuning"]}
    assert rooms <= set(TUNING[: TUNING.index(path.parent.name) + 1])


@pytest.mark.parametrize("path", [p for p in FILES if room(p) in ("quant", "codegen")], ids=name)
def test_quant_and_codegen_never_import_mlx(path: Path) -> None:
    assert not {module.split(".")[0] for module in imports(path)} & {"mlx", "mlx_lm"}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_can_be_seen_whole_and_has_a_name_of_its_own(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
    assert not {"utils", "util", "helpers", "helper", "manager", "misc", "common"} & {path.stem}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_says_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "the module has no docstring"
