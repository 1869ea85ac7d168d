"""The parity certificate: exact under XNNPACK, and it sees what is wrong with a file."""

import dataclasses

import pytest
import tf_keras as keras
from networks import calibrated, small_network

import mmx_tf
from mmx_tf.errors import DisagreementError
from mmx_tf.export.comparing.certificate import Certificate, certify
from mmx_tf.export.comparing.operator_count import OperatorParity, RuntimeParity
from mmx_tf.export.comparing.trace import Trace
from mmx_tf.export.comparing.whole_file import verify
from mmx_tf.export.running.partitions import DelegateMissingError
from mmx_tf.export.writing.tflite import convert
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.layers import Dequantize, QuantizeInput
from mmx_tf.layers.integer.shapes import IntegerAveragePool2D
from mmx_tf.layers.integer.weighted import IntegerConv2D


@pytest.fixture(scope="module")
def exported(digits):
    folded = mmx_tf.fold(calibrated(small_network(), digits, choice=[1, 2, 0]))
    return folded, mmx_tf.convert(folded)


@pytest.fixture(scope="module")
def certificate(exported, digits):
    return certify(*exported, digits.evaluation(batch_size=90), max_images=(360, 100, 100))


def test_no_operator_differs_under_xnnpack(certificate, exported):
    runtime = certificate.runtimes["xnnpack"]
    assert (runtime.images, runtime.differing) == (360, 0)
    assert (runtime.code_disagreement, runtime.top1_agreement) == (0.0, 1.0)
    assert runtime.top1 == certificate.folded_top1
    names = [operator.name for operator in runtime.operators]
    for name in ("stem", "depthwise", "project", "add", "expand", "pool", "logits"):
        assert name in names
    codes = {operator.name: operator.codes for operator in runtime.operators}
    assert codes["logits"] == 3600 and codes["depthwise"] == 360 * 8 * 8 * 6
    certificate.check(max_disagreement=0.0)


def test_other_kernels_differ_by_one_code_at_most_and_the_certificate_says_where(certificate):
    assert {name: runtime.images for name, runtime in certificate.runtimes.items()} == {
        "xnnpack": 360, "builtin": 100, "reference": 100,
    }  # fmt: skip
    for name in ("builtin", "reference"):
        runtime = certificate.runtimes[name]
        assert max(operator.largest_difference for operator in runtime.operators) <= 1
    # The mean of the reference kernels rounds otherwise than XNNPACK's.
    by_name = {operator.name: operator for operator in certificate.runtimes["reference"].operators}
    assert by_name["pool"].differing > 0
    with pytest.raises(DisagreementError, match=r"reference kernels.*pool \(MEAN\): \d+ of \d+ codes"):
        certificate.check(max_disagreement=1e-4, kernels="reference")


def test_each_runtime_follows_its_rules_as_the_reference_interpreter_has_them(certificate):
    for kernels, runtime in certificate.runtimes.items():
        assert {operator.rules for operator in runtime.operators} == {kernels}


def test_a_certificate_is_json_and_names_its_file(certificate, exported):
    document = certificate.to_json()
    assert document["schema"] == 1 and len(document["sha256"]) == 64
    operators = document["runtimes"]["xnnpack"]["operators"]
    assert operators[0]["name"] and operators[0]["differing"] == 0


def test_one_wrong_weight_is_found_in_its_operator_alone(exported, digits):
    """The operators after it get their true inputs, so they are right."""
    folded, _ = exported
    wrong = keras.models.clone_model(folded)
    wrong.set_weights(folded.get_weights())
    layer = wrong.get_layer("project")
    assert isinstance(layer, IntegerConv2D)
    codes = layer.weight_codes.numpy()
    # The weight of a channel that is not zero in most images, as one behind a ReLU may be.
    images = next(iter(digits.evaluation(batch_size=90)))[0]
    inputs = keras.Model(folded.input, folded.get_layer("project").input)(images).numpy()
    channel = inputs.std(axis=(0, 1, 2)).argmax()
    codes[0, 0, channel, 0] = 126 if codes[0, 0, channel, 0] <= 0 else -126
    layer.weight_codes.assign(codes)
    report = certify(folded, mmx_tf.convert(wrong), digits.evaluation(batch_size=90), kernels=["xnnpack"])
    differing = [operator.name for operator in report.runtimes["xnnpack"].operators if operator.differing]
    assert differing == ["project"]
    with pytest.raises(DisagreementError, match=r"project \(CONV_2D\).*logits of the whole file"):
        report.check(max_disagreement=0.0)


@pytest.mark.parametrize("input_type", ["int8", "float32"])
def test_other_input_types_are_exact_too(exported, digits, input_type):
    data = mmx_tf.convert(exported[0], input_type=input_type)
    runtime = certify(exported[0], data, digits.evaluation(batch_size=90), kernels=["xnnpack"]).runtimes[
        "xnnpack"
    ]
    assert (runtime.images, runtime.differing, runtime.code_disagreement) == (360, 0, 0.0)


def test_check_counts_shares_by_hand():
    operators = (OperatorParity("a", "ADD", 1000, 10, 1), OperatorParity("b", "MEAN", 50, 1, 2))
    certificate = Certificate("0" * 64, 0.9, {"xnnpack": RuntimeParity(5, operators, 0.9, 1.0, 0.005)})
    certificate.check(max_disagreement=0.02)
    with pytest.raises(DisagreementError, match="b .MEAN.: 1 of 50") as error:
        certificate.check(max_disagreement=0.01)
    assert "a (" not in str(error.value) and "logits" not in str(error.value)
    assert certificate.runtimes["xnnpack"].differing == 11


def test_a_foreign_file_no_images_and_unknown_kernels_are_refused(exported, digits):
    folded, data = exported
    evaluation = digits.evaluation(batch_size=90)
    with pytest.raises(ValueError, match="eval_ds has no images"):
        certify(folded, data, evaluation.take(0), kernels=["xnnpack"])
    with pytest.raises(ValueError, match="kernels is 'gpu'; use one of xnnpack, builtin, reference"):
        certify(folded, data, evaluation, kernels=["gpu"])
    other = mmx_tf.fold(calibrated(small_network(batch_norm=False), digits))
    with pytest.raises(ValueError, match="the file's output have scale .* from another model"):
        certify(folded, mmx_tf.convert(other), evaluation)
    with pytest.raises(ValueError, match="was not made by mmx_tf.fold"):
        Trace(small_network())


def test_results_are_frozen(certificate):
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate.sha256 = ""


def test_a_file_that_runs_without_xnnpack_is_no_comparison_with_it(digits):
    grid = Grid(1 / 127, 0)
    image = keras.Input((16, 16, 1), name="image")
    codes = QuantizeInput(output_grid=grid, name="codes")(image)
    pool = IntegerAveragePool2D(pool_size=3, padding="same", grid=grid, name="pool")(codes)
    folded = keras.Model(image, Dequantize(input_grid=grid)(pool))
    data, evaluation = convert(folded, input_type="int8"), digits.evaluation(batch_size=90)
    for compare in (verify, certify):
        with pytest.raises(DelegateMissingError, match="built without the delegate.*--kernels=builtin"):
            compare(folded, data, evaluation)
