"""The command line on networks that are no classifiers: whole small runs, and what does not fit together."""

import html
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tf_keras as keras
from absl import flags
from ai_edge_litert.interpreter import Interpreter
from head_networks import network
from refusals import refused
from sklearn.datasets import load_digits
from stored_datasets import store, write_png

from mmx_tf import data as datasets
from mmx_tf import train
from mmx_tf.export import parity, verify
from mmx_tf.recipe.recipe import Recipe, define_flags
from mmx_tf.run import float_network
from mmx_tf.run.pipeline import run
from mmx_tf.run.task import settled as settled_task
from mmx_tf.training import task as training_task

pytestmark = pytest.mark.broad

FLAGS = (
    "--image_size=16", "--batch_size=64", "--steps_per_epoch=4", "--train_epochs=2", "--learning_rate=0.002",
    "--target_average_bits=6", "--candidate_bits=8,4", "--parity_images=16",
)  # fmt: skip
SCANS = load_digits()
PIXELS = np.rint(SCANS.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
TOP1 = {"float_top1", "fixed_top1", "folded_top1", "tflite_top1", "top1_agreement"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Digits below five and from five on: two classes of PNG files."""
    root = tmp_path_factory.mktemp("two")
    for index in range(600):
        name = "high" if SCANS.target[index] >= 5 else "low"
        write_png(root / name / f"{index:04d}.png", PIXELS[index])
    return root


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """TFDS datasets of digits: their four binary digits, and a number, the share of ink."""
    root = tmp_path_factory.mktemp("tfds")
    image = tfds.features.Image(shape=(8, 8, 1))
    examples = [
        {"image": pixels, "bits": target >> np.arange(4) & 1, "ink": np.float32(pixels.mean() / 255)}
        for pixels, target in zip(PIXELS[:500], SCANS.target, strict=False)
    ]
    for name, key, label in (
        ("bits", "bits", tfds.features.Tensor(shape=(4,), dtype=np.int64)),
        ("ink", "ink", tfds.features.Scalar(np.float32)),
    ):
        parts = [{"image": example["image"], key: example[key]} for example in examples]
        features = {"image": image, key: label}
        store(name, root, features, {"train": parts[:400], "test": parts[400:]}, keys=("image", key))
    masks = {"image": image, "mask": image}
    parts = [{"image": example["image"], "mask": example["image"]} for example in examples[:4]]
    store("masks", root, masks, {"train": parts, "test": parts}, keys=("image", "mask"))
    return root


def saved(tmp_path_factory, head, dataset, task, **options):
    """The file of a network of `head_networks` that is trained a little on a dataset."""
    data = datasets.load(dataset, image_size=16, **options).for_task(task)
    keras.utils.set_random_seed(0)
    model = network(head)
    model.compile(keras.optimizers.Adam(0.01), training_task.loss(task, model))
    model.fit(data.train(batch_size=64, seed=0), epochs=10, verbose=0)
    path = tmp_path_factory.mktemp("float") / f"{head}.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def sigmoid(tmp_path_factory, folder):
    return saved(tmp_path_factory, "sigmoid", f"folder:{folder}", "binary")


def trained_by(*arguments):
    """What `python -m mmx_tf.train` does, in this process."""
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    train.main(train.parse_flags(["train", *arguments], flag_values), flag_values)


@pytest.mark.slow
def test_a_binary_network_on_a_folder_of_two_classes(tmp_path, folder, sigmoid, capsys):
    workdir = tmp_path / "run"
    arguments = [
        f"--dataset=folder:{folder}", f"--float_model={sigmoid}", f"--workdir={workdir}",
        "--output_type=class", "--teacher=float", "--label_smoothing=0.1", "--max_disagreement=0", *FLAGS,
    ]  # fmt: skip
    trained_by(*arguments)
    printed = capsys.readouterr().out
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert "--task=binary\n" in (workdir / "run.flags").read_text()
    assert metrics["task"] == "binary" and set(metrics["quality"]) == {"binary_accuracy", "auc"}
    forms = metrics["quality"]["binary_accuracy"]
    assert list(forms) == ["float", "fixed", "folded", "tflite"]
    assert forms == {form: metrics[f"{form}_top1"] for form in forms} and forms["tflite"] > 0.6
    assert metrics["quality"]["auc"]["tflite"] > 0.65
    assert (metrics["agreement"], metrics["code_disagreement"]) == (1.0, 0.0)
    for shown in (printed, (workdir / "report.html").read_text()):
        assert "inary accuracy" in shown and "AUC" in shown and "top-1" not in shown.lower()
    # The file, as one who has it alone runs it, on the images of the folder.
    data = datasets.load(f"folder:{folder}", image_size=16)
    images, labels = next(iter(data.evaluation(batch_size=100)))
    runner = Interpreter(model_path=str(workdir / "model.tflite")).get_signature_runner()
    (name,) = runner.get_input_details()
    found = runner(**{name: np.rint((images.numpy() + 1) * 127.5).astype(np.uint8)})
    assert np.mean(found["class"] == labels.numpy()) == forms["tflite"]
    # Both commands, and the same run once more, know what it is.
    assert verify.main([f"--workdir={workdir}"]) == 0
    verified = json.loads(capsys.readouterr().out)
    assert verified["task"] == "binary"
    assert verified["metrics"]["auc"]["tflite"] == metrics["quality"]["auc"]["tflite"]
    assert parity.main([f"--workdir={workdir}", "--images=8", "--kernels=xnnpack"]) == 0
    assert "same class on 100.00%" in capsys.readouterr().out
    trained_by(*arguments)
    assert capsys.readouterr().out == printed[printed.index("#  layer") :]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "dataset", "task", "first"),
    [
        ("sigmoids", "bits", "multi_label", "binary_accuracy"),
        ("number", "ink", "regression", "mean_absolute_error"),
    ],
)
def test_vectors_and_numbers_of_a_tfds_dataset(
    tmp_path, tmp_path_factory, vectors, capsys, head, dataset, task, first
):
    path = saved(tmp_path_factory, head, dataset, task, data_dir=str(vectors))
    workdir = tmp_path / "run"
    arguments = [
        f"--dataset={dataset}",
        f"--data_dir={vectors}",
        f"--float_model={path}",
        f"--workdir={workdir}",
        *FLAGS,
    ]
    recipe = Recipe.from_flagfile("\n".join(arguments))
    recipe.validate()
    metrics = run(recipe)
    assert f"--task={task}\n" in (workdir / "run.flags").read_text()
    assert metrics["task"] == task and not TOP1 & set(metrics)
    assert next(iter(metrics["quality"])) == first
    values = metrics["quality"][first]
    # Shares of about 0.2 to 0.5.
    assert values["tflite"] < 0.06 if task == "regression" else values["tflite"] > 0.7
    assert values["folded"] == values["tflite"] and metrics["agreement"] == 1.0
    shown, page = capsys.readouterr().out, (workdir / "report.html").read_text()
    words = {"multi_label": "multi-label accuracy", "regression": "mean absolute error"}[task]
    assert f"{words}, .tflite file" in shown and words in page and "top-1" not in page.lower()
    assert ("(in the labels' unit)" in html.unescape(page)) == (task == "regression")
    document = json.loads((workdir / "parity.json").read_text())
    assert document["task"] == task and document["end_to_end"]["quality"] == metrics["quality"]
    assert run(recipe) == json.loads((workdir / "metrics.json").read_text())


def test_what_does_not_fit_each_other_is_refused(
    tmp_path, tmp_path_factory, folder, vectors, sigmoid, capsys
):
    files = tmp_path_factory.mktemp("files")

    def file(head):
        path = files / f"{head}.keras"
        network(head).save(path)
        return f"--float_model={path}"

    two, own = f"--dataset=folder:{folder}", f"--float_model={sigmoid}"
    bits, ink = ([f"--dataset={name}", f"--data_dir={vectors}"] for name in ("bits", "ink"))
    for arguments, parts in (
        ([own], ["outputs of shape (None, 1)", "digits 10 classes", "one output for two classes"]),
        ([own, two, "--task=classification"], ["one output for two classes", "or --task"]),
        ([file("softmax"), two], ["has 10 classes", "has 2"]),
        ([file("softmax"), "--task=binary"], ["outputs of shape (None, 10)", "one output for two classes"]),
        ([file("sigmoids"), two, "--task=multi_label"], ["int32 labels of shape", "shape (N, 4) is needed"]),
        ([file("pixels")], ["(None, 4, 4, 3)", "cropped and mirrored with their images"]),
        ([own, "--task=segmentation"], ["cropped and mirrored with their images"]),
        (
            [own, "--task=detection"],
            ["--task=detection is not allowed; allowed: empty, classification, binary"],
        ),
        (
            [file("sigmoids"), *ink],
            ["labels of shape (100, 1)", "Nor do they fit task classification or regression."],
        ),
        (
            [file("number"), *ink, "--output_type=class"],
            ["--output_type=class", "int8 or float32 with --task=reg"],
        ),
        (
            [file("number"), *ink, "--label_smoothing=0.1"],
            ["--label_smoothing=0.1", "with --task=regression"],
        ),
        ([file("number"), *ink, "--teacher=float"], ["--teacher=float", "empty with --task=regression"]),
        ([file("number"), *ink, "--task=binary"], ["is not one of 0 to 1"]),
        ([own, two, "--task=regression"], ["--task=regression does not fit", "2 classes"]),
        ([file("numbers"), *bits], ["shape (100, 4)", "Nor do they fit task multi_label or regression."]),
        ([own, "--dataset=masks", f"--data_dir={vectors}"], ["'mask'", "are images, such as masks"]),
    ):
        shown = refused(capsys, tmp_path, *arguments)
        assert all(part in shown for part in parts), shown


def test_sigmoids_on_one_class_an_image_are_refused(tmp_path, tmp_path_factory, capsys):
    path = tmp_path_factory.mktemp("files") / "ten.keras"
    base = network("softmax")
    outputs = keras.layers.Dense(10, "sigmoid", name="ten")(base.layers[-2].output)
    keras.Model(base.inputs, outputs).save(path)
    shown = refused(capsys, tmp_path, f"--float_model={path}")
    assert "ends with 10 sigmoids" in shown and "one class for each image" in shown


@pytest.mark.parametrize(
    ("task", "dataset", "outputs", "told"),
    [
        ("binary", "two", 1, "binary"),
        ("", "two", 2, "classification"),
        ("", "bits", 4, "multi_label"),
        ("", "ink", 1, "regression"),
    ],
)
def test_the_built_in_network_has_the_outputs_of_its_task(folder, vectors, task, dataset, outputs, told):
    name = f"folder:{folder}" if dataset == "two" else dataset
    data = datasets.load(name, data_dir=str(vectors), image_size=16)
    arguments = ["--float_epochs=1", "--width=0.35", f"--task={task}", "--workdir=w"]
    recipe = Recipe.from_flagfile("\n".join(arguments))
    recipe.validate()
    model, trained = float_network.load_or_build(recipe, data)
    settled, of_task = settled_task(recipe, model, data)
    assert (model.output_shape, trained, settled.told_task) == ((None, outputs), False, told)
    assert settled.task == ("" if told == "classification" else told)
    # What is told is told again from what was told: a run that is resumed has the same flags.
    assert settled_task(settled, model, data)[0] == settled
    images, labels = next(iter(of_task.train(batch_size=8, seed=0)))
    shape = {"binary": (8, 1), "classification": (8,), "multi_label": (8, 4), "regression": (8, 1)}[told]
    assert labels.shape == shape and images.shape == (8, 16, 16, 1)
    assert of_task.source.mirrored == (data.source.mirrored and told != "regression")


def test_damaged_vectors_are_named(tmp_path):
    features = {
        "image": tfds.features.Image(shape=(8, 8, 1)),
        "label": tfds.features.Tensor(shape=(2,), dtype=np.float32),
    }
    parts = [{"image": PIXELS[i], "label": np.float32([i, 1])} for i in range(40)]
    store("fine", tmp_path, features, {"train": parts, "test": parts[:8]})
    data = datasets.load("fine", data_dir=str(tmp_path), image_size=8)
    assert (data.num_classes, data.class_names, data.labels.size) == (0, (), 2)
    _, labels = next(iter(data.evaluation(batch_size=8)))
    np.testing.assert_array_equal(labels, [[i, 1] for i in range(8)])
    parts[20]["label"] = np.float32([np.nan, 1])
    store("nan", tmp_path, features, {"train": parts, "test": parts[:8]})
    data = datasets.load("nan", data_dir=str(tmp_path), image_size=8)
    with pytest.raises(datasets.DataError, match=r"label \[nan  1.\], but labels must be finite numbers"):
        next(iter(data.train(batch_size=8, seed=0)))
    # As labels of several yes-or-no questions the whole numbers do not do either.
    with pytest.raises(datasets.DataError, match=r"label \[2. 1.\], but labels must be 0 or 1"):
        next(
            iter(
                datasets.load("fine", data_dir=str(tmp_path), image_size=8)
                .for_task("multi_label")
                .train(batch_size=8, seed=0)
            )
        )
