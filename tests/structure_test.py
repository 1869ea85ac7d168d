"""The house: imports go one way, there are no circles, and nothing is there for the tests alone."""

import ast
import functools
import pathlib
import re
from collections.abc import Iterator

import pytest

import mmx_tf
from mmx_tf.files.keras2_file import REGISTERING
from mmx_tf.layers import classes

ROOT = pathlib.Path(__file__).resolve().parents[1]
FLOORS = (
    (
        "",
        "__main__",
        "choices",
        "command_line",
        "errors",
        "exit_codes",
        "formats",
        "notation",
        "quiet",
        "startup",
        "version",
        "waiting",
    ),
    ("layers",),
    ("export",),
    ("devices",),
    ("data", "models", "network", "recipe"),
    ("distribution", "files", "fitting", "report"),
    ("budget", "folding", "workdir"),
    ("metamix", "training"),
    ("checking", "run"),
    ("check", "figures", "reexport", "train"),
    ("export.parity", "export.run", "export.verify"),
)
"""Rooms and single files of mmx_tf from the ground up: a room imports what stands below it. The last are
commands of `export` that read a workdir."""
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
LARGEST_FILE = 300
MOST_FLOORS = 7
"""Of `mmx_tf` on the longest way down by imports; files on the ground and commands are floors too."""
REGISTERS = ("computes", "writes", "folds", "refuses", "_rewrites")
"""Decorators that put a function in a table, from which it is called."""


def modules() -> dict[str, pathlib.Path]:
    """Every module of the product by the name under which it is imported."""
    found = {}
    for folder in ("mmx_tf", "layers", "export"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if folder == "mmx_tf" else ("mmx_tf", *parts)
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


@functools.cache
def tree(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: pathlib.Path, names) -> Iterator[tuple[str, int]]:
    """(module, line) of what a file imports of `names`, wherever in it."""
    lazy = {
        id(inner)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name in names)
        if not isinstance(node, ast.ImportFrom) or (id(node) in lazy and path.name == "__init__.py"):
            continue
        module = node.module or ""
        if node.level:
            package = path.relative_to(ROOT).parts[: -node.level]
            package = package if package[0] == "mmx_tf" else ("mmx_tf", *package)
            module = ".".join([*package, *filter(None, [module])])
        for alias in node.names:
            inner = f"{module}.{alias.name}"
            if inner in names or module in names:
                yield (inner if inner in names else module), node.lineno


def room_of(module: str) -> str:
    """The room that a module stands in; a file on the ground is its own."""
    parts = module.split(".")[1:]
    if ".".join(parts) in HEIGHT:
        return ".".join(parts)
    return parts[0] if parts else ""


def graph(paths: dict[str, pathlib.Path]) -> dict[str, dict[str, int]]:
    """Module -> what it imports, with a line each."""
    return {name: dict(imports(path, paths)) for name, path in paths.items()}


def circle(imported: dict[str, dict[str, int]]) -> list[str]:
    """The modules of one import circle in their order; empty without a circle."""
    done, way = set(), []

    def visit(module):
        if module in way:
            return way[way.index(module) :] + [module]
        if module in done:
            return []
        way.append(module)
        for other in imported[module]:
            # A package's own files import it before they are run.
            if other != module and (found := visit(other)):
                return found
        way.pop()
        done.add(module)
        return []

    return next(filter(None, map(visit, imported)), [])


def test_rooms_import_what_stands_below_them():
    paths = modules()
    for module, imported in graph(paths).items():
        own = room_of(module)
        for other, line in imported.items():
            room = room_of(other)
            fits = room == own or HEIGHT[room] < HEIGHT[own] or room in FLOORS[0] and own in FLOORS[0]
            assert fits, f"{paths[module].relative_to(ROOT)}:{line}: {own} imports {other}"


def test_every_room_has_its_floor():
    assert {room_of(module) for module in modules()} == set(HEIGHT)
    assert sum(bool({"layers", "export"}.isdisjoint(rooms)) for rooms in FLOORS[1:-1]) <= 7


def chain(imported: dict[str, dict[str, int]]) -> list[str]:
    """The longest row of rooms and single files of mmx_tf of which each imports the next."""
    below, outside = {}, {"mmx_tf", "mmx_tf.layers", "mmx_tf.export"}
    for module, others in imported.items():
        own, *rooms = [".".join(name.split(".")[:2]) for name in (module, *others)]
        if own not in outside:
            below.setdefault(own, set()).update(set(rooms) - outside - {own})

    @functools.cache
    def way(room):
        return [room, *max(map(way, sorted(below.get(room, ()))), key=len, default=[])]

    return max(map(way, sorted(below)), key=len)


def test_the_way_down_is_short():
    found = chain(graph(modules()))
    assert len(found) <= MOST_FLOORS, " imports ".join(found)


def test_a_planted_floor_is_found():
    imported = {"mmx_tf.a.one": {"mmx_tf.a.two": 1, "mmx_tf.layers.lsq": 2}, "mmx_tf.a.two": {"mmx_tf.b": 1}}
    assert chain(imported) == ["mmx_tf.a", "mmx_tf.b"]
    imported |= {"mmx_tf.b": {"mmx_tf.c": 1, "mmx_tf": 2}, "mmx_tf.layers.lsq": {"mmx_tf.a.one": 1}}
    assert chain(imported) == ["mmx_tf.a", "mmx_tf.b", "mmx_tf.c"]


def test_there_is_no_import_circle():
    paths = modules()
    for folder in ("tests", "benchmarks"):
        paths |= {f"{folder}.{path.stem}": path for path in (ROOT / folder).glob("*.py")}
    imported = graph(paths)
    # Everything is inside mmx_tf, which loads nothing of it before it is asked.
    imported = {name: {o: n for o, n in others.items() if o != "mmx_tf"} for name, others in imported.items()}
    assert not circle(imported), " imports ".join(circle(imported))


@pytest.mark.parametrize("names", [("a", "b", "a"), ("a", "b", "c", "a")])
def test_a_planted_circle_is_found(names):
    imported = {name: {} for name in names} | {"d": {"a": 1}}
    for name, other in zip(names, names[1:], strict=False):
        imported[name][other] = 1
    assert len(circle(imported)) == len(names)


def _registers(node: ast.ClassDef | ast.FunctionDef) -> bool:
    """Whether a decorator hands a class to Keras, or a function to a table of ours."""
    decorators = [ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list]
    return bool(decorators) if isinstance(node, ast.ClassDef) else not set(REGISTERS).isdisjoint(decorators)


def test_nothing_is_there_for_the_tests_alone():
    public = set(mmx_tf.__all__)
    defined, used = {}, set()
    for path in [*modules().values(), *(ROOT / "benchmarks").glob("*.py"), *ROOT.glob("notebooks/*.py")]:
        own = tree(path)
        exported = path.name == "__init__.py" or path.parent == ROOT / "export"
        for node in own.body:
            names = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
            if isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            for name in names:
                if not exported and path.parts[-2] != "benchmarks" and not name.startswith("__"):
                    registered = not isinstance(node, ast.Assign) and _registers(node)
                    if not registered:
                        defined.setdefault(name, f"{path.relative_to(ROOT)}:{node.lineno}")
        for node in ast.walk(own):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                used.add(node.id)
            elif isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.ImportFrom) and path.name == "__init__.py":
                used.update(alias.name for alias in node.names)
    unused = {name: place for name, place in defined.items() if name not in used | public}
    assert not unused, "; ".join(f"{place}: {name}" for name, place in unused.items())


def test_whoever_needs_tensorflow_loads_it_without_its_noise():
    """Its package has loaded it before a module imports it; figures leave that to their command."""
    for name, path in modules().items():
        for node in tree(path).body:
            tops = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if not {"tensorflow", "tf_keras", "tensorflow_datasets"} & set(tops) or ".figures." in name:
                continue
            parents = [path.parent, *path.parent.parents]
            packages = [folder / "__init__.py" for folder in parents if (folder / "__init__.py").exists()]
            loading = [package for package in packages if "load_tensorflow()" in package.read_text()]
            assert loading, f"{path.relative_to(ROOT)}:{node.lineno}: its package does not load TensorFlow"


def test_every_class_that_a_file_may_name_is_known_when_it_is_loaded():
    decorator = r"^@(keras\.saving\.register_keras_serializable|(integer_|)layers\.register|register\b)"
    registers = re.compile(decorator, re.MULTILINE)
    found = {name for name, path in modules().items() if registers.search(path.read_text())}
    layer_classes = {module.__name__ for module in map(classes.__dict__.get, classes.__all__)}
    assert found == layer_classes | set(REGISTERING) - {"mmx_tf.layers.classes"}


def test_what_docstrings_and_documents_name_is_there():
    """Names in backquotes that begin with a package of ours; CHANGELOG.md tells of those that were."""
    paths = modules()
    paths |= {name.removeprefix("mmx_tf."): path for name, path in paths.items()}
    for path in (ROOT / "benchmarks").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    documents = [ROOT / name for name in ("README.md", "BUILD_NOTES.md", "CONTRIBUTING.md")]
    documents += (ROOT / "docs").rglob("*.md")
    texts = [*modules().values(), *(ROOT / "benchmarks").glob("*.*"), *documents]
    for text in texts:
        for reference in re.findall(
            r"`((?:mmx_tf|layers|export|benchmarks)(?:\.(?!py`)\w+)+)`", text.read_text()
        ):
            module, _, name = reference.rpartition(".")
            public = module == "mmx_tf" and name in mmx_tf.__all__
            defined = module in paths and re.search(rf"\b{name}\b", paths[module].read_text())
            inside = reference in ("mmx_tf.flagfiles", "mmx_tf.layers", "mmx_tf.export")
            found = reference in paths or public or defined or inside
            assert found, f"{text.relative_to(ROOT)} names {reference}"


def test_what_scripts_and_tests_import_is_there():
    """Tests do not run the benchmarks: one that imports what was moved would fail for its user alone."""
    known = modules() | {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for folder in ("benchmarks", "tests")
        for path in (ROOT / folder).rglob("*.py")
    }
    for path in [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ImportFrom) or node.module is None or node.level:
                continue
            if node.module.split(".")[0] not in ("mmx_tf", "benchmarks", "tests"):
                continue
            for alias in node.names:
                inside = node.module in known and re.search(
                    rf"\b{alias.name}\b", known[node.module].read_text()
                )
                found = f"{node.module}.{alias.name}" in known or inside
                assert found, f"{path.relative_to(ROOT)}:{node.lineno} imports {alias.name} of {node.module}"


def test_no_file_is_too_long():
    for path in modules().values():
        assert path.read_text().count("\n") <= LARGEST_FILE, f"{path.relative_to(ROOT)} is too long"
