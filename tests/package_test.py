"""The wheel, in a folder of somebody else's who has modules called layers and export too."""

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest

from mmx_tf.recipe import flagfiles
from mmx_tf.version import VERSION

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOK = """
import export, layers, mmx_tf
assert export.mine and layers.mine
assert "tensorflow" not in __import__("sys").modules
import numpy as np
import tf_keras as keras
keras.utils.set_random_seed(0)
data = mmx_tf.data.load("digits", image_size=16)
# Untrained, and of few layers: the scales of many, such as MobileNet-v2's, may be too far apart for a file.
model = mmx_tf.models.build("resnet8", input_shape=(16, 16, 1), num_classes=10, width=0.25)
search = mmx_tf.augment(model, bit_widths=(8, 4, 3), target_average_bits=4)
images = np.concatenate([images for images, _ in data.evaluation(batch_size=90)])
search(images[:32], branch=0)
fixed = mmx_tf.rebuild(search, search.bit_selection())
fixed.predict(images[:32], verbose=0)
folded = mmx_tf.fold(fixed)
file = mmx_tf.convert(folded)
report = mmx_tf.verify(folded, file, data.evaluation(batch_size=90), traced_images=8)
assert report.code_disagreement == 0, report
assert search.__class__.__module__ == "mmx_tf.metamix.search"
open("model.tflite", "wb").write(file)
for name, network in {"search": search, "fixed": fixed, "folded": folded}.items():
    network.save(f"{name}.keras")
print("exact", mmx_tf.__file__)
"""

LOADS = """
import os
import mmx_tf, tf_keras
for load in ("mmx_tf.load_model", "tf_keras.models.load_model"):
    for name in ("search", "fixed", "folded"):
        child = os.fork()  # a process that has loaded TensorFlow, and used nothing of mmx_tf yet
        if not child:
            network = eval(load)(f"{name}.keras")
            print(name if name in network.name.lower() else network.name, flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, (load, name)
"""

REPORT = """
import json, pathlib, sys
import mmx_tf
assert "jinja2" not in sys.modules
results = pathlib.Path(sys.argv[1])
selection, metrics, parity = (
    json.loads((results / f"{name}.json").read_text()) for name in ("bit_selection", "metrics", "parity")
)
mmx_tf.report.print_summary(selection, metrics)
assert "jinja2" not in sys.modules
mmx_tf.report.write_report("report.html", selection=selection, metrics=metrics, parity=parity)
from mmx_tf.report import front
document = front.document({"target": metrics}, seconds={})
mmx_tf.report.write_front_report("front.html", document, settings={})
print(mmx_tf.report.__file__)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A function that runs words in a foreign folder, with the wheel installed beside the dependencies."""
    base = tmp_path_factory.mktemp("package")
    source = base / "source"
    ignored = shutil.ignore_patterns(
        ".venv", ".git", "runs", "build", "*.egg-info", "__pycache__", ".*_cache"
    )
    shutil.copytree(ROOT, source, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    offline = ["--no-index", "--no-build-isolation"]
    subprocess.run([*pip, *offline, "--target", base / "site", source], check=True, capture_output=True)
    foreign = base / "foreign"
    foreign.mkdir()
    for name in ("layers", "export"):
        (foreign / f"{name}.py").write_text("mine = True\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    environment |= {"PYTHONPATH": str(base / "site"), "PATH": f"{base / 'site' / 'bin'}:{os.environ['PATH']}"}

    def run(*words):
        words = [sys.executable if word == "python" else str(word) for word in words]
        return subprocess.run(words, cwd=foreign, env=environment, capture_output=True, text=True)

    run.site, run.folder = base / "site", foreign
    return run


def test_the_packages_are_all_the_folders_of_the_product():
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {"mmx_tf.flagfiles"}
    for folder in ("mmx_tf", "layers", "export"):
        for path in (ROOT / folder).rglob("__init__.py"):
            parts = path.parent.relative_to(ROOT).parts
            found.add(".".join(parts if folder == "mmx_tf" else ("mmx_tf", *parts)))
    assert set(tables["packages"]) == found
    folders = {
        path.parent for folder in ("mmx_tf", "layers", "export") for path in (ROOT / folder).rglob("*.py")
    }
    assert all((folder / "__init__.py").exists() for folder in folders)


def test_the_dependencies_are_those_that_are_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(
        line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line
    )
    from packaging.requirements import Requirement

    ranges = {r.name: r for r in map(Requirement, project["dependencies"])}
    assert set(ranges) <= set(pins)
    for name, requirement in ranges.items():
        assert requirement.specifier.contains(pins[name]), f"{requirement}, but {pins[name]} is pinned"


def named(requirement: str) -> str:
    """The name of a distribution, as packaging compares it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def test_what_is_imported_is_installed_with_the_package():
    """A package that the tests alone install would end a user's run in a traceback."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    # TensorFlow cannot be installed without its own.
    there = {named(one) for one in (*declared, *metadata.requires("tensorflow")) if "extra ==" not in one}
    owners, missing = metadata.packages_distributions(), []
    for folder in ("mmx_tf", "layers", "export"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                modules = [one.name for one in node.names] if isinstance(node, ast.Import) else []
                modules += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
                for top in {module.partition(".")[0] for module in modules}:
                    ours = top in sys.stdlib_module_names or top in ("mmx_tf", "layers", "export")
                    if not ours and not {named(one) for one in owners.get(top, ())} & there:
                        missing.append(f"{path.relative_to(ROOT)}: {top}")
    assert missing == []


@pytest.mark.slow
def test_notebook_lines_run_in_a_foreign_folder(installed):
    done = installed("python", "-c", NOTEBOOK)
    assert done.returncode == 0, done.stderr
    assert str(installed.site) in done.stdout
    assert not (installed.site / "layers").exists() and not (installed.site / "export").exists()
    loaded = installed("python", "-c", LOADS)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == ["search", "fixed", "folded"] * 2
    shown = installed("mmx_tf", "inspect", "model.tflite")
    assert shown.returncode == 0 and "BOPs" in shown.stdout, shown.stderr
    written = installed("mmx_tf", "c_array", "model.tflite", "--out=c")
    assert written.returncode == 0, written.stderr
    written = installed("mmx_tf", "c_source", "model.tflite", "--out=net")
    assert written.returncode == 0, written.stderr
    assert (installed.folder / "net" / "mmx_kernels.c").exists()
    timed = installed("mmx_tf", "benchmark", "--model=model.tflite", "--runs=3", "--warmup=1")
    assert timed.returncode == 0 and "model.tflite" in timed.stdout, timed.stderr
    light = (
        "import sys, mmx_tf.__main__ as m; m.main(['inspect', 'model.tflite']); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert installed("python", "-c", light).returncode == 0


@pytest.mark.slow
def test_a_report_is_written_with_the_templates_of_the_wheel(installed):
    done = installed("python", "-c", REPORT, ROOT / "results" / "quick")
    assert done.returncode == 0, done.stderr
    assert str(installed.site) in done.stdout
    names = {path.name for path in (ROOT / "mmx_tf" / "report" / "templates").iterdir()}
    assert {path.name for path in (installed.site / "mmx_tf" / "report" / "templates").iterdir()} == names
    style = (ROOT / "mmx_tf" / "report" / "templates" / "report.css").read_text()
    for name, words in (("report.html", "Parity of the file"), ("front.html", "1 target of one search")):
        page = (installed.folder / name).read_text()
        assert words in page and style in page


@pytest.mark.slow
def test_the_command_has_the_recipes_and_refuses_before_it_loads_anything(installed):
    refused = installed("mmx_tf", "train", "--recipe=mbv9")
    assert refused.returncode == 2
    assert refused.stderr == (
        f"--recipe=mbv9: there is no such recipe; there are {', '.join(flagfiles.names())}.\n"
    )
    for words in (["--recipe=mbv2"], ["--recipe", "quick", "--batch_size=0"], ["--recipe=quick", "--what=1"]):
        refused = installed("python", "-X", "importtime", "-m", "mmx_tf", "train", *words)
        assert refused.returncode == 2
        assert not any(line.endswith((" tensorflow", " jinja2")) for line in refused.stderr.splitlines())
    assert installed("mmx_tf").returncode == 2
    assert installed("mmx_tf", "--help").returncode == 0
    assert installed("python", "-c", "import mmx_tf; print(mmx_tf.__version__)").stdout == f"{VERSION}\n"
