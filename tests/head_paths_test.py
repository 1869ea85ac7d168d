"""From a float network of every kind of head to its file: labels, metrics, codes, classes, by LiteRT."""

import numpy as np
import pytest
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from head_networks import HEADS, labelled, pass_through, trained
from tflite_samples import model_of, written

import mmx_tf
from mmx_tf.export import inspect
from mmx_tf.export.comparing.certificate import certify, summary
from mmx_tf.export.comparing.ends import head_of
from mmx_tf.export.comparing.heads import told
from mmx_tf.export.comparing.quality import MEASURES
from mmx_tf.export.comparing.trace import Trace
from mmx_tf.export.comparing.whole_file import verify
from mmx_tf.export.running import litert
from mmx_tf.export.running.partitions import delegated_ops
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.layers import Dequantize

pytestmark = pytest.mark.broad

# What the trained heads reach at least (regression: at most) of the first metric of their task.
REACHED = {"classification": 0.7, "binary": 0.75, "multi_label": 0.7, "regression": 2.5, "segmentation": 0.8}
_KEPT = {}


def folded_of(head, digits):
    if head not in _KEPT:
        _KEPT[head] = mmx_tf.fold(trained(head, digits, whole=head in ("sigmoid", "numbers")))
    return _KEPT[head]


def evaluation(head, digits):
    return labelled(head, digits.evaluation(batch_size=90))


def outputs_of(data, folded, images):
    """The file's outputs on float images by LiteRT's signature, from the grid of its int8 input alone."""
    codes = folded.layers[1].output_grid.quantize(images)
    return Interpreter(model_content=data).get_signature_runner()(**{folded.input_names[0]: codes})


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_judged_by_what_fits(head, digits):
    folded, task = folded_of(head, digits), HEADS[head][4]
    batches = evaluation(head, digits)
    report = verify(folded, mmx_tf.convert(folded), batches)
    assert (report.task, report.code_disagreement, report.agreement, report.partitions) == (task, 0.0, 1.0, 1)
    assert list(report.metrics) == [measure.name for measure in MEASURES[task]]
    for values in report.metrics.values():
        assert values["folded"] == values["tflite"]
    first = report.metrics[MEASURES[task][0].name]["tflite"]
    assert first < REACHED[task] if task == "regression" else first > REACHED[task], report.metrics
    named = first if task in ("classification", "binary") else None
    assert (report.folded_top1, report.tflite_top1) == (named, named)
    assert report.top1_agreement == (None if named is None else 1.0)
    # Judged once more, without any of our own counting.
    images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    answers = folded.predict(images, verbose=0)
    if task == "classification":
        right = answers.argmax(-1) == (labels.argmax(-1) if head == "one_hot" else labels)
    elif head == "pixels":
        right = answers.argmax(-1) == labels
    elif task != "regression":
        right = (answers > (0.0 if HEADS[head][2] is None else 0.5)) == labels
    errors = np.abs(answers - labels.reshape(answers.shape)) if task == "regression" else None
    expected = right.mean() if errors is None else errors.mean()
    assert first == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("head", [head for head in HEADS if HEADS[head][4] != "regression"])
def test_a_file_of_classes_names_what_the_logits_say(head, digits):
    folded, task = folded_of(head, digits), HEADS[head][4]
    batches = evaluation(head, digits)
    if head == "hard_sigmoid":
        with pytest.raises(ValueError, match="ends with a hard-sigmoid.*compare with 0.5"):
            mmx_tf.convert(folded, output_type="class")
        return
    data = mmx_tf.convert(folded, input_type="int8", output_type="class")
    images = batches[0][0]
    found = outputs_of(data, folded, images)
    assert set(found) == {"class", "probabilities"} and found["class"].dtype == np.int32
    trace = Trace(folded)
    logits = trace.ends[0].logits_grid.dequantize(trace(images)[trace.ends[0].logits])
    if head in ("sigmoid", "logit", "sigmoids", "mask"):
        expected = (logits > 0).astype(int)
        expected = expected if task == "multi_label" else expected[..., 0]
        probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    else:
        expected = logits.argmax(-1)
        exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
        probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    np.testing.assert_array_equal(found["class"], expected)
    assert len(np.unique(expected)) > 1
    assert found["probabilities"].dtype == np.int8 and found["probabilities"].shape == logits.shape
    assert np.abs((found["probabilities"].astype(int) + 128) / 256 - probabilities).max() <= 1.5 / 256
    report = verify(folded, data, batches)
    assert (report.task, report.code_disagreement, report.agreement) == (task, 0.0, 1.0)
    assert {name for _, name in report.left_outside} <= {"ARG_MAX", "SOFTMAX"}
    assert delegated_ops(data).partitions == 1
    assert inspect.summary(data).faults == ()


@pytest.mark.slow
@pytest.mark.parametrize("head", ["sigmoid", "logit", "numbers", "mask"])
def test_other_output_types_and_the_certificate(head, digits):
    folded, task = folded_of(head, digits), HEADS[head][4]
    batches = evaluation(head, digits)
    images = batches[0][0]
    data = mmx_tf.convert(folded, input_type="int8", output_type="float32")
    # The folded network's own outputs, which for a sigmoid are probabilities.
    (outputs,) = outputs_of(data, folded, images).values()
    np.testing.assert_array_equal(outputs, folded.predict(images, verbose=0))
    if HEADS[head][2] == "sigmoid":
        assert folded.layers[-1].input_grid == Grid(1 / 256, -128)
    assert verify(folded, data, batches).agreement == 1.0
    output_type = "float32" if task == "regression" else "class"
    file = mmx_tf.convert(folded, output_type=output_type)
    limits = {"xnnpack": 360, "builtin": 90, "reference": 10}
    certificate = certify(folded, file, batches, kernels=tuple(limits), max_images=tuple(limits.values()))
    exact = certificate.runtimes["xnnpack"]
    assert (certificate.task, exact.differing, exact.code_disagreement, exact.agreement) == (
        task,
        0,
        0.0,
        1.0,
    )
    assert exact.metrics == certificate.folded_metrics
    words = {"binary": "same class on", "regression": "same number for", "segmentation": "of the pixels"}
    assert words[task] in summary(certificate)


def test_a_regression_names_no_class(digits):
    with pytest.raises(ValueError, match=r"'numbers_fixed_folded'.* is a regression, which names no class"):
        mmx_tf.convert(folded_of("numbers", digits), output_type="class")


def test_a_folded_network_remembers_its_head(tmp_path, digits):
    for head, activation, loss in (
        ("softmax", "softmax", "sparse_categorical_crossentropy"),
        ("sigmoid", "sigmoid", "BinaryCrossentropy"),
        ("hard_sigmoid", "hard_sigmoid", "mean_squared_error"),
        ("numbers", None, "mean_squared_error"),
    ):
        folded = folded_of(head, digits)
        folded.save(tmp_path / f"{head}.keras")
        for model in (folded, mmx_tf.load_model(tmp_path / f"{head}.keras")):
            found = head_of(model)
            assert (found.activation, found.loss) == (activation, loss)
            assert told(found) == HEADS[head][4]


def test_a_sigmoid_is_known_without_its_memory(digits):
    """As in a folded network that an earlier version saved."""
    folded = folded_of("sigmoid", digits)
    end = Dequantize(input_grid=folded.layers[-1].input_grid)(folded.layers[-1].input)
    assert head_of(keras.Model(folded.inputs, end)).activation == "sigmoid"


def test_the_task_must_be_given_where_nothing_tells_it(digits):
    plain = pass_through(1)
    with pytest.raises(
        ValueError, match="'pass_through'.*without softmax or sigmoid.*task='binary' or task='regression'"
    ):
        mmx_tf.convert(plain, output_type="class")
    data = mmx_tf.convert(plain, input_type="int8", output_type="class", task="binary", labels=["no", "yes"])
    # Two labels of one output are no fault.
    assert inspect.summary(data, delegation=False).faults == ()
    found = litert.run(data, {"image": np.int8([[5], [0], [-3], [3]])})
    # The zero point is 0: above it is yes.
    assert found["logits/class"].tolist() == [1, 0, 0, 1]
    # sigmoid(1.25) = 0.7773, sigmoid(-0.75) = 0.3208, sigmoid(0.75) = 0.6792, of 256.
    assert (found["logits/probabilities"][:, 0].astype(int) + 128).tolist() == [199, 128, 82, 174]
    images, labels = np.float32([[1.25], [0], [-0.75], [0.75]]), np.array([1, 0, 1, 1])
    report = verify(plain, data, [(images, labels)])
    assert report.metrics["binary_accuracy"] == {"folded": 0.75, "tflite": 0.75} and report.task == "binary"
    numbers = verify(plain, data, [(images, labels)], task="regression")
    # Errors 0.25, 0, 1.75, 0.25.
    assert numbers.metrics["mean_absolute_error"]["tflite"] == 0.5625
    with pytest.raises(ValueError, match="2 is not one of 0 to 1"):
        verify(plain, data, [(images, labels), (images, labels + 1)])


def test_a_zero_point_is_no_yes():
    """A logit of zero is a no wherever the zero of the grid lies."""
    folded = pass_through(2, zero_point=-100)
    data = mmx_tf.convert(folded, input_type="int8", output_type="class", task="multi_label")
    found = litert.run(data, {"image": np.int8([[-101, -100], [-99, -128], [127, -100]])})
    assert found["logits/class"].tolist() == [[0, 0], [1, 0], [1, 0]]


def test_a_wrong_decision_is_found_though_the_codes_are_right():
    """A zero behind each logit in place of before it: yes and no change places, but where the logit is 0."""
    folded = pass_through(1)
    model = model_of(mmx_tf.convert(folded, input_type="int8", output_type="class", task="binary"))
    (by,) = [tensor for tensor in model.subgraphs[0].tensors if tensor.name == b"logits/pairs/by"]
    model.buffers[by.buffer].data = np.array([[0, 0], [0, 1]], np.int32).view(np.uint8).reshape(-1)
    images = np.float32([[1.25], [0], [-0.75], [0.75]])
    report = verify(folded, written(model), [(images, np.array([1, 0, 0, 1]))], task="binary")
    assert (report.code_disagreement, report.agreement, report.tflite_top1) == (0.0, 0.25, 0.25)


@pytest.mark.parametrize(
    ("outputs", "labels", "task", "fits"),
    [
        (1, 2, "binary", True), (1, 1, "binary", False), (1, 2, None, True), (1, 1, "regression", True),
        (1, 2, "regression", False), (1, 3, None, False), (4, 4, "multi_label", True),
        (4, 2, "multi_label", False),
    ],
)  # fmt: skip
def test_labels_are_as_many_as_what_they_name(outputs, labels, task, fits):
    names = [f"label {i}" for i in range(labels)]
    if fits:
        mmx_tf.convert(pass_through(outputs), labels=names, task=task)
    else:
        with pytest.raises(ValueError, match=f"{labels} labels are given for"):
            mmx_tf.convert(pass_through(outputs), labels=names, task=task)
