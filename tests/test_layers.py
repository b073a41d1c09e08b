"""The rules of the house (docs/architecture.md), read off the source: who imports whom, and what is never written."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "undrift"
FILES = sorted(ROOT.rglob("*.py"))

# A module imports its own level and those below it; a file may have a level of its own within its folder. The
# `__init__.py` at the top imports lazily and is exempt.
LEVELS = {
    **dict.fromkeys(("tensor", "names", "signals", "draws", "noise", "prediction", "degradations", "networks"), 0),
    **dict.fromkeys(("process", "space"), 1),
    **dict.fromkeys(("times", "solvers", "denoiser", "classify"), 2),
    **dict.fromkeys(("guidance", "sample", "likelihood", "latent", "restart", "preset", "large"), 3),
    **dict.fromkeys(("methods", "metrics", "data", "restoration", "generation"), 4),
    **dict.fromkeys(("interop", "report"), 5),
    "interop.diffusers_pipeline": 6,
    **dict.fromkeys(
        (f"training.{name}" for name in ("fit", "average", "files", "state", "log", "nodes", "interrupt")), 5
    ),
    **dict.fromkeys(("registry", "training", "evaluation", "cli"), 6),
}

# What an axis never sees, beyond the levels: the table of axes.
UNSEEN = {
    "process": {"noise", "prediction", "degradations", "networks", "space"},
    "space": {"process", "noise", "prediction", "degradations", "networks"},
    "prediction": set(LEVELS) - {"prediction"},
    "networks": set(LEVELS) - {"networks", "tensor"},
    "degradations": set(LEVELS) - {"degradations"},
    "solvers": {"networks", "prediction", "space", "degradations", "times"},
    "guidance": {"solvers", "networks", "prediction"},
    "methods": {"networks"},
    "denoiser": {"networks", "space", "solvers", "degradations", "noise"},
    "classify": {"networks", "space", "solvers", "degradations", "noise"},
    "sample": {"networks", "prediction"},
}

# Libraries that stay in their own folder.
FENCED = {
    "accelerate": {"training"},
    "tensorboard": {"training"},
    "diffusers": {"interop"},
    "transformers": {"interop"},
    "gradio": {"app"},
    "torchmetrics": {"metrics"},
    "lpips": {"metrics"},
    "torch_fidelity": {"metrics"},
    "torchvision": set(),
    "scipy": set(),
    "cv2": set(),
    "pickle": set(),
}


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def unit(file: Path) -> str:
    """solvers/heun.py -> solvers; times.py -> times."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def level(*path: str) -> int:
    """The level of a module, by its own name or its folder's."""
    return LEVELS.get(".".join(path), LEVELS[path[0]])


def inner_imports(file: Path) -> set[tuple[str, ...]]:
    """Modules of the package that a file imports anywhere, as paths: ("solvers", "base")."""
    package = file.relative_to(ROOT).parts[:-1]
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else ()))
            # `from . import explain` names modules, `from .base import Solver` does not.
            found |= {(*base, a.name) if _is_module((*base, a.name)) else base for a in node.names}
    return {path for path in found if path}


def _is_module(path: tuple[str, ...]) -> bool:
    target = ROOT.joinpath(*path)
    return target.with_suffix(".py").exists() or target.is_dir()


def outer_imports(file: Path) -> set[str]:
    """Libraries that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return {"tensorboard" if n == "torch.utils.tensorboard" else n.split(".")[0] for n in names}


def calls(where: Path | ast.AST, function: str) -> list[ast.Call]:
    """Calls of `function`, plain or as an attribute."""
    return [
        node
        for node in ast.walk(tree(where) if isinstance(where, Path) else where)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == function
    ]


def test_imports_go_down():
    wrong = [
        f"{name(file)} imports {'.'.join(path)}"
        for file in FILES
        for path in inner_imports(file)
        if unit(file) != "__init__" and level(*path) > level(*file.relative_to(ROOT).with_suffix("").parts)
    ]
    assert not wrong


def test_an_axis_does_not_see_what_it_must_not():
    wrong = [
        f"{name(file)} imports {'.'.join(path)}"
        for file in FILES
        for path in inner_imports(file)
        if path[0] in UNSEEN.get(unit(file), ())
    ]
    assert not wrong


def test_no_two_files_import_each_other():
    """No cycles at import time, however long; a package stands for its `__init__`."""
    graph = {}
    for file in FILES:
        parts = file.relative_to(ROOT).with_suffix("").parts
        own = parts[:-1] if parts[-1] == "__init__" else parts
        targets = {path[:n] for path in inner_imports(file) for n in range(1, len(path) + 1)}
        graph[own] = {p for p in targets if ROOT.joinpath(*p).is_dir() or ROOT.joinpath(*p).with_suffix(".py").exists()}
    graph.pop((), None)  # the top: lazy
    for own in graph:  # importing a.b imports a first: that is no dependence of a on b
        graph[own] -= {own[:n] for n in range(len(own) + 1)}
    done: set[tuple[str, ...]] = set()

    def visit(node, trail):
        assert node not in trail, " -> ".join(".".join(n) for n in (*trail[trail.index(node) :], node))
        if node not in done:
            for target in sorted(graph.get(node, ())):
                visit(target, (*trail, node))
            done.add(node)

    for node in sorted(graph):
        visit(node, ())


def test_libraries_stay_in_their_folder():
    wrong = [
        f"{name(file)} imports {library}"
        for file in FILES
        for library in outer_imports(file)
        if unit(file) not in FENCED.get(library, {unit(file)}) or library in ("undrift", "__future__")
    ]
    assert not wrong


def test_nothing_is_unpickled():
    wrong = [
        f"{name(file)}:{call.lineno} {ast.unparse(call)}"
        for file in FILES
        for call in calls(file, "load")
        if ast.unparse(call.func) == "torch.load" and "weights_only=True" not in ast.unparse(call)
    ]
    assert not wrong


def test_nobody_asks_a_process_for_its_class():
    wrong = [
        f"{name(file)}:{call.lineno} {ast.unparse(call)}"
        for file in FILES
        for call in calls(file, "isinstance")
        if unit(file) in ("solvers", "guidance", "methods", "times", "denoiser", "sample", "noise")
        and "process" in ast.unparse(call.args[0]).lower()
    ]
    assert not wrong


def test_one_sampling_loop_and_one_training_loop():
    """Only `sample.py` steps a solver in a loop, only `training/fit.py` goes backward."""
    loops = [
        f"{name(file)}:{call.lineno}"
        for file in FILES
        for loop in ast.walk(tree(file))
        if isinstance(loop, ast.For | ast.While)
        for call in calls(loop, "step")
        if len(call.args) >= 6
    ]
    assert {where.split(":")[0] for where in loops} == {"sample.py"}, loops
    backward = [name(file) for file in FILES if calls(file, "backward")]
    assert set(backward) <= {"training/fit.py"}


def test_no_bags_of_settings():
    wrong = [
        f"{name(file)}: {node.name}"
        for file in FILES
        for node in ast.walk(tree(file))
        if isinstance(node, ast.FunctionDef)
        for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if a.arg in ("config", "cfg", "args", "opt")
    ]
    assert not wrong


@pytest.mark.parametrize("file", FILES, ids=lambda file: name(file))
def test_a_file_says_what_it_is_and_what_it_offers(file):
    assert file.stem not in ("utils", "util", "helpers", "misc", "common")
    source = tree(file)
    assert ast.get_docstring(source), "no docstring"
    names = {getattr(t, "id", "") for node in source.body if isinstance(node, ast.Assign) for t in node.targets}
    bare = file.stem == "__main__" or all(isinstance(node, ast.Expr) for node in source.body)
    assert "__all__" in names or bare, "no __all__"
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines < (400 if unit(file) == "networks" else 300), f"{lines} lines"


@pytest.mark.parametrize("arguments", ["['--help']", "['--version']", "['restore', '--help']", "[]"])
def test_help_imports_no_torch(arguments):
    code = f"import sys; from undrift.cli.main import main; main({arguments}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "False"
