"""The walls of the house: who may import whom, and where names may occur."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_campaign import whole

ROOT = Path(__file__).parents[2]
MODULES = sorted([*(ROOT / "workflow").rglob("*.py"), *(ROOT / "model").rglob("*.py")])
TORCH_FREE_GROUND = {
    "model",
    "model.config",
    "model.specs",
    "model.outcome",
    "model.registry",
    "model.feasibility",
    "model.draws",
    "model.layout",
    "model.silence",
}
PARSL_FLOOR = {
    "workflow.executor",
    "workflow.driver",
    "workflow.batch.executor",
    "workflow.allocation.executor",
    "workflow.allocation.agent",
}
SCHEDULER_WORDS = (
    "slurm",
    "sbatch",
    "squeue",
    "sacct",
    "srun",
    "sbcast",
    "scontrol",
    "qsub",
    "qstat",
    "qdel",
    "mpiexec",
    "pals_",
)
UNPICKLERS = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
SCHEDULER_FILES = {"workflow/batch/slurm.py", "workflow/batch/pbs.py", "workflow/batch/local.py", "workflow/allocation/launch.py"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def imports_of(path: Path, *, top_level: bool = False) -> set[str]:
    """Return the modules a file imports, as far down as they are modules of ours."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                deep = f"{node.module}.{alias.name}"
                found.add(deep if deep in NAMES else node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_walls_between_the_packages(path: Path) -> None:
    name, imported = name_of(path), imports_of(path)
    if name.startswith("workflow"):
        assert not {i for i in imported if i.split(".")[0] in ("torch", "torch_geometric", "e3nn")}
        assert {i for i in imported if i.split(".")[0] == "model"} <= TORCH_FREE_GROUND
        if name not in PARSL_FLOOR:
            assert not {i for i in imported if i.split(".")[0] == "parsl"}
    else:
        assert not {i for i in imported if i.split(".")[0] in ("parsl", "workflow", "deephyper")}
    if name in TORCH_FREE_GROUND:
        assert not {i for i in imported if i.split(".")[0] == "torch"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_relative_imports_are_not_used(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]


def test_no_import_cycle() -> None:
    graph = {name_of(path): imports_of(path) & NAMES for path in MODULES}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_scheduler_names_stay_in_their_files(path: Path) -> None:
    if str(path.relative_to(ROOT)) in SCHEDULER_FILES:
        return
    text = path.read_text().lower()
    assert not [word for word in SCHEDULER_WORDS if word in text]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_unpickled_and_no_shell_is_opened(path: Path) -> None:
    assert not {each.split(".")[0] for each in imports_of(path)} & UNPICKLERS
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        keywords = {k.arg: k.value for k in node.keywords}
        text = ast.unparse(node.func)
        assert text not in ("os.system", "os.popen", "eval"), f"line {node.lineno}"
        assert text != "exec" or name_of(path) == "model.registry", f"line {node.lineno}"  # there: a part of our own source
        assert not (text.startswith("yaml.") and text.endswith("load")) or text == "yaml.safe_load", f"line {node.lineno}"
        if text == "torch.load":
            assert ast.unparse(keywords["weights_only"]) == "True", f"line {node.lineno}"
        pickles = keywords.get("allow_pickle")
        assert pickles is None or ast.unparse(pickles) == "False", f"line {node.lineno}"
        shell = keywords.get("shell")
        assert shell is None or ast.unparse(shell) == "False", f"line {node.lineno}"


@pytest.mark.parametrize("arguments", [["--help"], ["status", "made"]], ids=["help", "status"])
def test_the_command_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    """So it answers in a quarter of a CPU second; `make bench-orchestrator` measures that."""
    whole(tmp_path / "made")
    heavy = "{'torch', 'parsl', 'deephyper', 'matplotlib', 'numpy', 'jinja2', 'rocrate'}"
    code = f"import atexit, sys; atexit.register(lambda: print(sorted({{m.split('.')[0] for m in sys.modules}} & {heavy})))"
    code += f"; sys.argv[1:] = {arguments}; from workflow.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert out.stdout.splitlines()[-1] == "[]"
