"""Lines of the documentation as they stand on their pages: one's own network, the labels of a file."""

import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tutorials" / "own_network.md"
ENDING = """
assert report.code_disagreement == 0
assert report.metrics["accuracy"]["tflite"] > 0.9
"""


def _blocks(language, page=PAGE):
    return [
        body
        for found, body in re.findall(r"^```(\S*)\n(.*?)^```", page.read_text(), re.M | re.S)
        if found == language
    ]


def test_the_labels_of_a_file_are_read_as_its_page_says(tmp_path, monkeypatch, capsys):
    """The two first blocks of the page, on a file of ours with labels, for a black and for a white image."""
    import numpy as np
    import tf_keras as keras

    import mmx_tf

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    network = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    search = mmx_tf.augment(network, bit_widths=(8, 4), pixel_scaling=(1 / 255, 0.0))
    images = np.random.default_rng(0).uniform(size=(8, 8, 8, 1)).astype(np.float32)
    fixed = mmx_tf.rebuild(search, search.selection_of([0] * len(search.quantizers)))
    fixed(images, training=True)
    data = mmx_tf.convert(mmx_tf.fold(fixed), labels=["cat", "dog"])
    (tmp_path / "runs" / "quick").mkdir(parents=True)
    (tmp_path / "runs" / "quick" / "model.tflite").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    run, labels, *_ = _blocks("python", ROOT / "docs" / "guides" / "running_the_file.md")
    exec(run + labels, {"pixels": np.full((8, 8, 1), 255, np.uint8)})
    number, name = capsys.readouterr().out.split()
    assert name == ["cat", "dog"][int(number)]


class Shell:
    """Commands as a reader types them, in a folder.

    Args:
      folder: where they run.
    """

    def __init__(self, folder):
        self.folder = folder
        self._environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)}

    def run(self, words, *, inside="."):
        """What a command prints; it has to end well."""
        if words[0] == "mmx_tf":
            words = [sys.executable, "-m", *words]
        done = subprocess.run(
            words, cwd=self.folder / inside, env=self._environment, capture_output=True, text=True
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def python(self, *blocks):
        """Runs blocks of a page as one program."""
        (self.folder / "tutorial.py").write_text("\n".join(blocks))
        self.run([sys.executable, "tutorial.py"])


@pytest.mark.slow
def test_the_tutorial_of_ones_own_network_runs_as_it_stands(tmp_path):
    shell = Shell(tmp_path)
    shell.python(*_blocks("python"), ENDING)
    commands = [line for body in _blocks("") for line in body.splitlines()]
    assert len(commands) == 5
    for line in commands:
        assert line.startswith("mmx_tf ")
        shell.run(shlex.split(line))
    assert (tmp_path / "runs" / "own" / "report.html").exists()
    assert (tmp_path / "firmware" / "net" / "net.c").exists()


def _flowers(folder, counts):
    """Crops of scikit-learn's two photographs, and of one of them mirrored, as files in three classes."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    temple, flower = load_sample_images().images
    rng = np.random.default_rng(0)
    for name, photograph in {"daisy": flower, "rose": temple, "tulip": temple[::-1]}.items():
        for part, count in counts.items():
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                top, left = (rng.integers(0, size - 200) for size in photograph.shape[:2])
                crop = Image.fromarray(photograph[top : top + 200, left : left + 200])
                crop.save(folder / part / name / f"{number:04}.jpg")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="the C of the tutorial is not compiled: no gcc")
def test_the_tutorial_of_ones_own_images_runs_as_it_stands(tmp_path):
    page, shell = PAGE.with_name("own_images.md"), Shell(tmp_path)
    _flowers(tmp_path / "flowers", {"train": 64, "val": 8, "test": 20})
    network, pixels = _blocks("python", page)
    check, train, *rest = [line for body in _blocks("", page) for line in body.splitlines()]
    shell.python(network)
    assert "flowers.keras" in shell.run(shlex.split(check))
    shell.run(shlex.split(train))
    assert (tmp_path / "runs" / "flowers" / "report.html").exists()
    metrics = json.loads((tmp_path / "runs" / "flowers" / "metrics.json").read_text())
    assert metrics["code_disagreement"] == 0 and metrics["fixed_top1"] > 0.8
    shell.python(pixels)
    c_source, enter, compiler, program = rest
    shell.run(shlex.split(c_source))
    assert enter == "cd firmware/net"
    shell.run(shlex.split(compiler), inside="firmware/net")
    said = shell.run([program], inside="firmware/net")
    assert re.findall(r"\d+(?= of)", said)[:2] == ["0", "0"], said
    photograph = "flowers/test/daisy/0000.jpg"
    shown = shell.run(["mmx_tf", "run", "runs/flowers/model.tflite", photograph])
    assert "daisy" in shown
