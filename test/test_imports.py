# SPDX-License-Identifier: Apache-2.0
"""Imports point one way, as docs/architecture.md shows it. Read from the source, nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("ssd_ros", "training", "demo", "benchmarks", "launch", "pip_ros")

# Which groups of modules a group may import. A module belongs to the longest group that its name
# starts with. Every group may import itself and the bare package `ssd_ros`.
SHARED = {
    *("ssd_ros.atomic", "ssd_ros.bit_depth", "ssd_ros.command_line", "ssd_ros.detections"),
    *("ssd_ros.drawing", "ssd_ros.encoded", "ssd_ros.image", "ssd_ros.jpeg", "ssd_ros.png"),
    "ssd_ros.python_environment",
}
DETECTOR = {"ssd_ros.detector", "ssd_ros.backends", "ssd_ros.weights", "ssd_ros.model"}
ALL = {*SHARED, *DETECTOR, "ssd_ros.io", "ssd_ros.messages", "ssd_ros.ros", "ssd_ros.web"}
ALL |= {"training", "demo"}
ALLOWED: dict[str, set[str]] = {
    "ssd_ros": {"ssd_ros.command_line"},
    "ssd_ros.command_line": set(),
    "ssd_ros.atomic": set(),
    "ssd_ros.detections": set(),
    "ssd_ros.image": set(),
    "ssd_ros.bit_depth": {"ssd_ros.png"},
    "ssd_ros.png": {"ssd_ros.image"},
    "ssd_ros.encoded": {"ssd_ros.image"},
    "ssd_ros.jpeg": {"ssd_ros.image"},
    "ssd_ros.python_environment": set(),
    "ssd_ros.drawing": {"ssd_ros.detections", "ssd_ros.image"},
    # drawing: outlines in RViz have the captions and colours of those in the annotated image
    "ssd_ros.messages": {
        "ssd_ros.bit_depth",
        "ssd_ros.detections",
        "ssd_ros.drawing",
        "ssd_ros.image",
        "ssd_ros.jpeg",
    },
    "ssd_ros.model": SHARED,
    "ssd_ros.weights": SHARED | {"ssd_ros.model"},
    "ssd_ros.backends": SHARED | {"ssd_ros.model", "ssd_ros.weights"},
    "ssd_ros.detector": SHARED | DETECTOR,
    "ssd_ros.io": SHARED,
    "ssd_ros.io.bags": SHARED | {"ssd_ros.io", "ssd_ros.messages"},
    "ssd_ros.detect": SHARED | DETECTOR | {"ssd_ros.io"},
    # ros: what it found, without rclpy; the rest is imported once ROS is known to be there
    "ssd_ros.doctor": SHARED | DETECTOR | {"ssd_ros.io", "ssd_ros.ros"},
    "ssd_ros.ros": SHARED | DETECTOR | {"ssd_ros.io", "ssd_ros.messages", "ssd_ros.web"},
    "ssd_ros.web": set(),
    "training": SHARED | DETECTOR | {"ssd_ros.io"},
    "demo": ALL,
    "benchmarks": ALL,
    "launch": {"ssd_ros.ros"},
    "pip_ros": set(),  # runs before anything is installed
}
RCLPY = ("ssd_ros.ros", "demo", "benchmarks")  # the only groups that may import rclpy

# (importing module, imported module): why it is still allowed. An entry that is no longer needed
# fails the test.
EXCEPTIONS: dict[tuple[str, str], str] = {}


class Import(NamedTuple):
    """One import statement: where it is, and the module it loads."""

    path: str
    line: int
    source: str
    target: str

    def __str__(self) -> str:
        arrow = f"{group_of(self.source)} -> {group_of(self.target)}"
        return f"{self.path}:{self.line}: {arrow} ({self.source} imports {self.target})"


def group_of(module: str) -> str:
    """The group of one of our modules; for any other the name of its package."""
    groups = [g for g in ALLOWED if module == g or module.startswith(f"{g}.")]
    group = max(groups, key=len, default=module.partition(".")[0])
    # A file at the root of ssd_ros/ is in no group until somebody decides where it stands.
    return module if group == "ssd_ros" else group


def modules_in(root: Path) -> dict[str, Path]:
    """Our modules by name."""
    modules = {}
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def statements_in(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import below a node, also inside functions, except under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.orelse:
                yield from statements_in(ast.Module([statement], []))
        else:
            yield from statements_in(child)


def names_in(statement: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, str]]:
    """What a statement loads: a module's name, and the same with the name imported from it."""
    if isinstance(statement, ast.Import):
        yield from ((alias.name, alias.name) for alias in statement.names)
        return
    base = statement.module or ""
    if statement.level:
        parents = package.split(".")[: len(package.split(".")) - statement.level + 1]
        base = ".".join(filter(None, (*parents, base)))
    yield from ((base, f"{base}.{alias.name}") for alias in statement.names)


def imports_in(root: Path) -> list[Import]:
    """All imports of our modules; targets outside the repository keep the name in the statement."""
    modules, imports = modules_in(root), list[Import]()
    for source, path in modules.items():
        package = source if path.name == "__init__.py" else source.rpartition(".")[0]
        beside = "" if (path.parent / "__init__.py").exists() else f"{package}."
        for statement in statements_in(ast.parse(path.read_text())):
            for base, full in names_in(statement, package):
                # A script imports the files beside it by their bare names.
                candidates = (full, base, f"{beside}{full}", f"{beside}{base}")
                target = next((name for name in candidates if name in modules), base)
                where = str(path.relative_to(root))
                imports.append(Import(where, statement.lineno, source, target))
    return list(dict.fromkeys(imports))


def violations(root: Path, exceptions: dict[tuple[str, str], str]) -> list[str]:
    """Every import that points the wrong way, and every module without a place, as text."""
    modules = modules_in(root)
    wrong = [
        f"{path.relative_to(root)}: {module} is in no group: enter it in ALLOWED of {__file__}"
        for module, path in modules.items()
        if group_of(module) not in ALLOWED
    ]
    for item in imports_in(root):
        source, target = group_of(item.source), group_of(item.target)
        if item.target in modules:
            allowed = ALLOWED.get(source, set()) | {source, "ssd_ros"}
            fine = target in allowed or (item.source, item.target) in exceptions
        else:
            fine = target != "rclpy" or source in RCLPY
        if not fine:
            wrong.append(str(item))
    return wrong


def cycle_in(imports: list[Import], modules: set[str]) -> list[str]:
    """The modules of one import cycle, the first repeated at the end; empty for none."""
    graph: dict[str, set[str]] = {}
    for item in imports:
        if item.target in modules and item.target != item.source:
            graph.setdefault(item.source, set()).add(item.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))  # graphlib lists the imported module first
    return []


def test_every_import_points_the_way_that_the_architecture_says():
    wrong = violations(ROOT, EXCEPTIONS)
    assert not wrong, "imports against docs/architecture.md:\n" + "\n".join(wrong)


def test_no_exception_outlives_its_reason():
    found = {(item.source, item.target) for item in imports_in(ROOT)}
    assert set(EXCEPTIONS) <= found, "no longer needed, remove from EXCEPTIONS"


def test_no_modules_import_each_other():
    imports = [i for i in imports_in(ROOT) if (i.source, i.target) not in EXCEPTIONS]
    assert cycle_in(imports, set(modules_in(ROOT))) == []


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.parts[len(root.parts)] in ("ssd_ros", "training"):
            (path.parent / "__init__.py").touch()
            (root / path.parts[len(root.parts)] / "__init__.py").touch()


@pytest.mark.parametrize(
    ("path", "text", "line", "arrow"),
    [
        ("ssd_ros/io/a.py", "import ssd_ros.ros.camera", 1, "ssd_ros.io -> ssd_ros.ros"),
        ("ssd_ros/io/a.py", "from ssd_ros.ros import camera", 1, "ssd_ros.io -> ssd_ros.ros"),
        ("ssd_ros/io/a.py", "from ..ros.camera import b", 1, "ssd_ros.io -> ssd_ros.ros"),
        (
            "training/a.py",
            "def f():\n    from ssd_ros.ros import camera",
            2,
            "training -> ssd_ros.ros",
        ),
        (
            "ssd_ros/image.py",
            "try:\n    import ssd_ros.ros.camera\nexcept ImportError:\n    pass",
            2,
            "ssd_ros.image -> ssd_ros.ros",
        ),
        ("ssd_ros/messages/a.py", "import rclpy.node", 1, "ssd_ros.messages -> rclpy"),
    ],
)
def test_a_violation_is_reported_with_file_line_and_arrow(tmp_path, path, text, line, arrow):
    write(tmp_path, {"ssd_ros/ros/camera.py": "", path: text})
    (reported,) = violations(tmp_path, {})
    assert reported.startswith(f"{path}:{line}: {arrow} ")


def test_imports_for_the_type_checker_alone_are_free(tmp_path):
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ssd_ros.ros.camera"
    write(tmp_path, {"ssd_ros/ros/camera.py": "", "ssd_ros/image.py": text})
    assert violations(tmp_path, {}) == []
    write(tmp_path, {"ssd_ros/image.py": f"{text}\nelse:\n    import ssd_ros.ros.camera"})
    assert len(violations(tmp_path, {})) == 1


def test_a_module_without_a_group_is_reported(tmp_path):
    write(tmp_path, {"ssd_ros/helpers.py": ""})
    (reported,) = violations(tmp_path, {})
    assert reported.startswith("ssd_ros/helpers.py: ssd_ros.helpers is in no group")


def test_a_cycle_is_reported_also_between_scripts_and_inside_functions(tmp_path):
    files = {
        "benchmarks/a.py": "import b",
        "benchmarks/b.py": "def f():\n    from c import x",
        "benchmarks/c.py": "import a",
    }
    write(tmp_path, files)
    cycle = cycle_in(imports_in(tmp_path), set(modules_in(tmp_path)))
    assert sorted(cycle[1:]) == ["benchmarks.a", "benchmarks.b", "benchmarks.c"]
    assert cycle[0] == cycle[-1]
