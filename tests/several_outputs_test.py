"""A class head and a box head from notebook lines to a verified file, judged by LiteRT."""

import hashlib
import json
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from head_networks import pass_through
from several_heads import LOSSES, METRICS, WEIGHTS, detector, joined
from tflite_samples import model_of, written

import mmx_tf
from mmx_tf.export import inspect
from mmx_tf.export.comparing.certificate import certify, summary
from mmx_tf.export.running.partitions import delegated_ops
from mmx_tf.export.writing.tflite import convert

pytestmark = pytest.mark.broad

NAMES = ["class", "box"]


@pytest.fixture(scope="module")
def path(digits, tmp_path_factory):
    """Every stage of the way, trained on real digits and their boxes."""
    keras.utils.set_random_seed(0)
    has = types.SimpleNamespace(folder=tmp_path_factory.mktemp("several"))
    has.images, has.digits, has.boxes = joined(digits.train(batch_size=64, seed=0).take(16))
    has.eval_images, has.eval_digits, has.eval_boxes = joined(digits.evaluation(batch_size=90))
    has.labels = {"class": has.digits, "box": has.boxes}
    has.eval_labels = {"class": has.eval_digits, "box": has.eval_boxes}
    options = {"loss": LOSSES, "loss_weights": WEIGHTS, "metrics": METRICS}
    has.float = detector()
    has.float.compile(keras.optimizers.Adam(0.005), **options)
    has.float.fit(has.images, has.labels, epochs=8, verbose=0)
    has.search = mmx_tf.augment(has.float, bit_widths=(8, 4, 3), target_average_bits=5)
    has.search.compile(keras.optimizers.SGD(0.01, momentum=0.9), **options)
    has.history = has.search.fit(has.images, has.labels, epochs=3, verbose=0).history
    has.fixed = mmx_tf.rebuild(has.search, has.search.bit_selection())
    has.fixed.compile(keras.optimizers.SGD(0.01, momentum=0.9), **options)
    has.fixed.fit(has.images, has.labels, epochs=6, verbose=0)
    has.folded = mmx_tf.fold(has.fixed)
    has.eval_ds = tf.data.Dataset.from_tensor_slices((has.eval_images, has.eval_labels)).batch(90)
    return has


def test_every_stage_has_the_outputs_and_their_names(path):
    for network in (path.search, path.fixed, path.folded):
        assert list(network.output_names) == NAMES
        shapes = [found.shape for found in network.predict(path.eval_images[:8], verbose=0)]
        assert shapes == [(8, 10), (8, 4)], network.name
    logs = {"loss", "class_loss", "box_loss", "class_accuracy", "box_mae", "search_loss", "alpha_entropy"}
    assert logs <= set(path.history)
    # The loss is weighed as compile was told.
    parts = zip(path.history["loss"], path.history["class_loss"], path.history["box_loss"], strict=True)
    for loss, of_class, of_box in parts:
        assert loss == pytest.approx(of_class + 4 * of_box, rel=1e-4)


def test_both_heads_have_learnt(path):
    for network in (path.search, path.fixed):
        found = network.evaluate(path.eval_images, path.eval_labels, verbose=0, return_dict=True)
        assert found["class_accuracy"] > 0.75 and found["box_mae"] < 0.1, (network.name, found)


def test_alphas_of_layers_of_both_heads_have_moved(path):
    rows = dict(zip(path.search.quantizers, path.search.targets[0].alpha.numpy(), strict=True))
    assert {"class_features", "box_features", "deep"} <= set(rows)
    assert all(np.abs(row).max() > 0 for row in rows.values())


@pytest.mark.parametrize("stage", ["search", "fixed", "folded"])
def test_saved_and_loaded(stage, path):
    network, file = getattr(path, stage), path.folder / f"{stage}.keras"
    network.save(file)
    loaded = mmx_tf.load_model(file)
    assert type(loaded) is type(network) and list(loaded.output_names) == NAMES
    images = path.eval_images[:16]
    found, expected = loaded.predict(images, verbose=0), network.predict(images, verbose=0)
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(own, other)


def test_a_folded_network_is_judged_by_the_outputs_names(path):
    folded = mmx_tf.fold(path.fixed)
    folded.compile(loss={"box": "mse"}, metrics=METRICS)
    found = folded.evaluate(path.eval_images, path.eval_labels, verbose=0, return_dict=True)
    report = mmx_tf.verify(folded, mmx_tf.convert(folded), path.eval_ds)
    assert found["class_accuracy"] == pytest.approx(report.outputs["class"].tflite_top1)
    error = report.outputs["box"].metrics["mean_absolute_error"]["tflite"]
    assert found["box_mae"] == pytest.approx(error, rel=1e-4)


def test_a_loaded_fixed_network_is_compiled_as_it_was(path):
    path.fixed.save(path.folder / "compiled.keras")
    loaded = keras.models.load_model(path.folder / "compiled.keras")
    expected = path.fixed.evaluate(path.eval_images, path.eval_labels, verbose=0, return_dict=True)
    found = loaded.evaluate(path.eval_images, path.eval_labels, verbose=0, return_dict=True)
    assert found == pytest.approx(expected)


def test_training_on_the_folded_graph_has_the_outputs_too(path):
    folded_graph = mmx_tf.fold_for_training(path.fixed)
    assert list(folded_graph.output_names) == NAMES
    images = path.eval_images[:32]
    expected = path.folded.predict(images, verbose=0)[1]
    np.testing.assert_allclose(folded_graph(images)[1], expected, atol=2 * box_scale(path.folded))


def box_scale(folded):
    return folded.layers[-1].input_grid.scale


TYPES = {
    "codes": "int8",
    "floats": "float32",
    "the class alone": {"class": "class"},
    "each its own": {"class": "class", "box": "float32"},
}


@pytest.mark.parametrize("output_type", TYPES.values(), ids=TYPES)
def test_the_file_gives_what_the_folded_network_does(output_type, path):
    data = mmx_tf.convert(path.folded, input_type="float32", output_type=output_type)
    interpreter = Interpreter(model_content=data)
    runner = interpreter.get_signature_runner()
    logits, box = path.folded.predict(path.eval_images, verbose=0)
    found = runner(image=path.eval_images)
    details = runner.get_output_details()
    kinds = output_type if isinstance(output_type, dict) else dict.fromkeys(NAMES, output_type)
    if kinds["class"] == "class":
        np.testing.assert_array_equal(found["class_class"], logits.argmax(1))
        assert found["class_probabilities"].dtype == np.int8
    else:
        np.testing.assert_array_equal(values(found, details, "class"), logits)
    np.testing.assert_array_equal(values(found, details, "box"), box)
    assert details["box"]["dtype"] is (np.float32 if kinds.get("box") == "float32" else np.int8)
    # In the network's order, each on its own grid.
    outputs = [detail["index"] for detail in interpreter.get_output_details()]
    assert outputs[-1] == details["box"]["index"] and len(outputs) == len(details)
    assert delegated_ops(data).partitions == 1


def values(found, details, name):
    codes, (scale, zero_point) = found[name], details[name]["quantization"]
    return codes if codes.dtype == np.float32 else (codes - np.float32(zero_point)) * np.float32(scale)


@pytest.mark.parametrize("output_type", TYPES.values(), ids=TYPES)
def test_all_codes_of_all_outputs_are_verified(output_type, path):
    data = mmx_tf.convert(path.folded, output_type=output_type)
    report = mmx_tf.verify(path.folded, data, path.eval_ds)
    assert (report.code_disagreement, report.agreement, report.partitions) == (0.0, 1.0, 1)
    assert report.task == {"class": "classification", "box": "regression"}
    assert list(report.outputs) == NAMES and report.eval_images == len(path.eval_images)
    by_class, by_box = report.outputs.values()
    assert by_class.tflite_top1 == by_class.folded_top1 > 0.75 and by_class.top1_agreement == 1.0
    assert (by_box.tflite_top1, by_box.task, by_box.agreement) == (None, "regression", 1.0)
    assert by_box.metrics["mean_absolute_error"]["tflite"] < 0.1
    error = report.metrics["box_mean_absolute_error"]
    assert error == by_box.metrics["mean_absolute_error"] and "class_accuracy" in report.metrics
    assert (report.folded_top1, report.tflite_top1, report.top1_agreement) == (None, None, None)
    assert json.loads(json.dumps(report.to_json()))["outputs"]["box"]["code_disagreement"] == 0.0


def test_codes_that_differ_in_one_output_are_found_there(path):
    data = mmx_tf.convert(path.folded)
    model = model_of(data)
    (bias,) = [tensor for tensor in model.subgraphs[0].tensors if tensor.name == b"box/bias"]
    codes = np.frombuffer(bytes(model.buffers[bias.buffer].data), np.int32) + [0, 0, 0, 1 << 20]
    model.buffers[bias.buffer].data = np.frombuffer(codes.astype(np.int32).tobytes(), np.uint8)
    report = mmx_tf.verify(path.folded, written(model), path.eval_ds)
    assert report.outputs["class"].code_disagreement == 0.0 and report.outputs["class"].agreement == 1.0
    # One of four numbers of the box, and four of fourteen codes are the box's.
    share = report.outputs["box"].code_disagreement
    assert 0.2 < share <= 0.25 and report.code_disagreement == pytest.approx(share * 4 / 14)
    assert report.agreement == report.outputs["box"].agreement < 0.8


@pytest.mark.parametrize("form", ["dict", "tuple", "without the box"])
def test_labels_of_an_evaluation(form, path):
    labels = path.eval_labels
    given = {
        "dict": labels,
        "tuple": (labels["class"], labels["box"]),
        "without the box": {"class": labels["class"]},
    }
    report = mmx_tf.verify(path.folded, mmx_tf.convert(path.folded), [(path.eval_images, given[form])])
    assert report.code_disagreement == 0.0 and report.outputs["class"].tflite_top1 > 0.75
    box = report.outputs["box"]
    if form == "without the box":
        assert (box.task, box.metrics, box.agreement, box.code_disagreement) == (None, {}, None, 0.0)
    else:
        assert box.metrics["mean_absolute_error"]["folded"] < 0.1


def test_every_operator_is_certified(path):
    data = mmx_tf.convert(path.folded, output_type={"class": "class"})
    certificate = certify(path.folded, data, path.eval_ds, max_images=(90, 10, 10))
    runtime = certificate.runtimes["xnnpack"]
    assert (runtime.differing, runtime.code_disagreement, runtime.agreement) == (0, 0.0, 1.0)
    assert {"class", "box", "stem"} <= {operator.name for operator in runtime.operators}
    assert certificate.task == {"class": "classification", "box": "regression"}
    assert certificate.folded_metrics["class_accuracy"] == runtime.metrics["class_accuracy"] > 0.7
    assert "the same in 100.00% of each output or more" in summary(certificate)
    certificate.check(max_disagreement=0.0)


def test_labels_of_classes_are_in_the_metadata_by_the_outputs_name(path):
    digits = [f"digit {i}" for i in range(10)]
    for output_type in ("int8", {"class": "class"}):
        data = mmx_tf.convert(path.folded, labels={"class": digits}, output_type=output_type)
        found = inspect.summary(data)
        assert found.metadata["labels"] == {"class": digits} and found.faults == ()
        number = path.folded.output_names.index("class")
        declared = f"extern const char *const net_labels_{number}[NET_CLASSES_{number}];"
        assert declared in mmx_tf.c_source(data).files["net.h"]
    model = model_of(data)
    entry = model.buffers[model.metadata[0].buffer]
    entry.data = np.frombuffer(bytes(entry.data).replace(b'"digit 9"', b'"digit 9", "x"'), np.uint8)
    (fault,) = inspect.summary(written(model), delegation=False).faults
    assert fault == "the metadata has 11 labels of output 'class', which has 10 classes"


REFUSED = {
    "an output that there is not": (
        {"output_type": {"klass": "class"}}, "output_type has the names .'klass'.*outputs 'class' and 'box'",
    ),
    "a type that there is not": ({"output_type": {"box": "int4"}}, "output_type is 'int4'; use one of"),
    "a class of numbers": ({"output_type": "class"}, "'box' with outputs of shape .None, 4. is a regression"),
    "a list too short": ({"output_type": ["int8"]}, "output_type has 1 entries; the network has 2 outputs"),
    "labels in a list": ({"labels": ["a"] * 10}, "outputs 'class' and 'box', so give a dict, {'class'"),
    "too few labels": ({"labels": {"class": ["a"]}}, "1 labels of output 'class' are given for 10 classes"),
    "labels of another": ({"labels": {"boks": ["a"]}}, "labels have the names .'boks'"),
    "a task that there is not": ({"task": {"box": "detection"}}, "task is 'detection'; use one of"),
    "the task of another": ({"task": {"boks": "regression"}}, "task has the names .'boks'"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_file_cannot_have_is_refused(options, message, path):
    with pytest.raises(ValueError, match=message):
        mmx_tf.convert(path.folded, **options)


def test_evaluation_data_that_does_not_fit_is_refused(path):
    data, images, labels = mmx_tf.convert(path.folded), path.eval_images, path.eval_labels
    for given, message in (
        ({"klass": labels["class"]}, "labels that have the names .'klass'.* 'class' and 'box'"),
        ((labels["class"],), "labels that have 1 entries; the network has 2 outputs"),
        (labels | {"box": labels["box"][:9]}, "labels of output 'box' of shape .9, 4. for 360 images"),
        (
            labels | {"box": labels["box"][:, :3]},
            "do not fit 'box' with outputs .None, 4. as task 'regression'",
        ),
        (labels | {"box": labels["box"] * np.nan}, "labels of output 'box' that are NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            mmx_tf.verify(path.folded, data, [(images, given)])
    with pytest.raises(ValueError, match="task has the names .'boks'"):
        mmx_tf.verify(path.folded, data, path.eval_ds, task={"boks": "regression"})
    with pytest.raises(ValueError, match="expected are .*logits 'class' and logits 'box'.*another model"):
        mmx_tf.verify(path.folded, convert(pass_through(4)), path.eval_ds)


def test_files_of_one_output_are_what_they_were_before_there_were_several():
    digests = {
        "int8": "a981ea2571d3e07ed688ea5b0f95c1433a7786c4fedc6cb4883af1be41f2c867",
        "float32": "8f18360512b9c3dc63a3944a51fe5c4a805d5a873d198d2af5c9bc01f2d39beb",
        "class": "3712a9aa37a3afc919f85be451744974933f3bf01beb26d8f3e1d93df426f971",
    }
    for output_type, digest in digests.items():
        assert hashlib.sha256(convert(pass_through(4), output_type=output_type)).hexdigest() == digest
