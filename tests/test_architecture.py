"""The structure of the program, as docs/architecture.md has it."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "workflow_result"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
OUTER = ("workflow_result.engine", "workflow_result.cli", "workflow_result.doctor")
"""What the inner ring does not import; of it, what runs the command line may."""


def imports(module: str) -> Iterator[str]:
    """Yield the modules of the package that this one imports, inside of functions, too.

    A package counts as its `__init__`, which importing what is in it runs.
    """
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def is_within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def test_there_is_something_to_look_at() -> None:
    assert "workflow_result.engine.hcl" in set(imports("workflow_result.engine.blocks"))


def test_no_module_imports_in_a_circle() -> None:
    TopologicalSorter({module: set(imports(module)) - {module} for module in MODULES}).prepare()


def test_inner_ring_imports_nothing_of_an_outer_one() -> None:
    entry = {"workflow_result", "workflow_result.__main__"}
    inner = [m for m in MODULES if not is_within(m, OUTER) and m not in entry]
    assert [(m, i) for m in inner for i in imports(m) if is_within(i, OUTER)] == []


def test_engine_does_not_import_the_command_line() -> None:
    engine = [m for m in MODULES if is_within(m, ("workflow_result.engine",))]
    assert [m for m in engine for i in imports(m) if is_within(i, ("workflow_result.cli",))] == []


@pytest.mark.parametrize("module", MODULES)
def test_module_says_what_it_is_responsible_for(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    assert len(ast.get_docstring(tree) or "") > 20


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_every_file_can_be_read_in_one_sitting() -> None:
    tests = [p for p in (ROOT / "tests").rglob("*.py") if ".venv" not in p.parts]
    assert [str(path) for path in MODULES.values() if lines(path) > 310] == []
    assert [str(path) for path in tests if lines(path) > 600] == []
