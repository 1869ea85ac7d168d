"""Lines of the documentation as they stand on their pages: one's own network, the labels of a file."""

import pathlib
import re
import shlex
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


@pytest.mark.slow
def test_the_tutorial_of_ones_own_network_runs_as_it_stands(tmp_path):
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    def run(words):
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stdout, done.stderr)

    (tmp_path / "tutorial.py").write_text("\n".join([*_blocks("python"), ENDING]))
    run([sys.executable, "tutorial.py"])
    commands = [line for body in _blocks("") for line in body.splitlines()]
    assert len(commands) == 5
    for line in commands:
        name, *words = shlex.split(line)
        assert name == "mmx_tf"
        run([sys.executable, "-m", "mmx_tf", *words])
    assert (tmp_path / "runs" / "own" / "report.html").exists()
    assert (tmp_path / "firmware" / "net" / "net.c").exists()
