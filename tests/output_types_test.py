"""Every input type with every output type: what the file gives, judged by LiteRT, and how it is verified."""

import numpy as np
import pytest
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from head_networks import pass_through
from networks import fine_tuned, pretrained
from tflite_samples import model_of, written

import mmx_tf
from mmx_tf.choices import INPUT_TYPES, OUTPUT_TYPES
from mmx_tf.data.dataset import PIXEL_SCALING
from mmx_tf.export import inspect, reference
from mmx_tf.export.c_array import sources
from mmx_tf.export.comparing.certificate import certify
from mmx_tf.export.comparing.cut import expose
from mmx_tf.export.comparing.whole_file import verify
from mmx_tf.export.reading.tflite_file import parse
from mmx_tf.export.running import litert
from mmx_tf.export.running.partitions import Delegation, delegated_ops
from mmx_tf.export.writing.tflite import convert

EVERY_TYPE = [(i, o) for i in INPUT_TYPES for o in OUTPUT_TYPES]


@pytest.fixture(scope="module")
def trained(digits):
    return pretrained(digits)


@pytest.fixture(scope="module")
def learnt(digits, trained):
    """A folded network whose input grid is learnt."""
    return mmx_tf.fold(fine_tuned(trained, digits, choice=[1, 0, 0], steps=22))


@pytest.fixture(scope="module")
def pixel(digits, trained):
    """A folded network that takes pixels."""
    return mmx_tf.fold(fine_tuned(trained, digits, choice=[0, 1, 0], steps=22, pixel_scaling=PIXEL_SCALING))


@pytest.fixture(scope="module")
def images(digits):
    return np.concatenate([images for images, _ in digits.evaluation(batch_size=90)])


def inputs_of(folded, images, input_type):
    """The file's input for float images: worked out here, from the grid alone."""
    if input_type == "float32":
        return images
    if folded.layers[1].get_config().get("offset") == -1.0:
        codes = np.rint((images + 1) * 127.5) - 128
    else:
        codes = folded.layers[1].output_grid.quantize(images)
    shift, dtype = {"uint8": (128, np.uint8), "int8": (0, np.int8)}[input_type]
    return (codes.astype(np.int16) + shift).astype(dtype)


def logits_grid(folded):
    return folded.get_layer("logits").output_grid


@pytest.mark.parametrize(("input_type", "output_type"), EVERY_TYPE)
@pytest.mark.parametrize("network", ["learnt", "pixel"])
def test_every_type_gives_what_the_folded_network_does(request, network, images, input_type, output_type):
    folded = request.getfixturevalue(network)
    if (network, input_type) == ("pixel", "float32"):
        with pytest.raises(ValueError, match="pixels, whose grid no float32 image has"):
            mmx_tf.convert(folded, input_type=input_type, output_type=output_type)
        return
    data = mmx_tf.convert(folded, input_type=input_type, output_type=output_type)
    runner = Interpreter(model_content=data).get_signature_runner()
    name, logits = folded.input_names[0], folded.predict(images, verbose=0)
    assert list(runner.get_input_details()) == [name]
    found = runner(**{name: inputs_of(folded, images, input_type)})
    if output_type == "float32":
        assert set(found) == {"logits"} and found["logits"].dtype == np.float32
        np.testing.assert_array_equal(found["logits"], logits)
    elif output_type == "int8":
        assert set(found) == {"logits"} and found["logits"].dtype == np.int8
        np.testing.assert_array_equal(logits_grid(folded).dequantize(found["logits"]), logits)
    else:
        assert set(found) == {"class", "probabilities"}
        assert (found["class"].dtype, found["class"].shape) == (np.int32, (360,))
        np.testing.assert_array_equal(found["class"], logits.argmax(1))
        assert runner.get_output_details()["probabilities"]["quantization"] == (1 / 256, -128)
        check_probabilities(found["probabilities"], logits)
    assert len(set(logits.argmax(1))) > 5
    expected = [(0, "QUANTIZE")] if input_type == "uint8" else []
    if output_type == "class":
        count = len(parse(data).operators)
        expected += [(count - 2, "ARG_MAX"), (count - 1, "SOFTMAX")]
    assert delegated_ops(data) == Delegation(1, tuple(expected))


def check_probabilities(codes, logits):
    """Within one code of softmax in float64."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    wanted = np.clip(np.rint(probabilities * 256) - 128, -128, 127)
    assert codes.dtype == np.int8 and len(np.unique(codes)) > 10
    assert np.abs(wanted - codes).max() <= 1


@pytest.mark.parametrize("scale", [0.011, 0.07, 0.6])
def test_probabilities_are_softmax_and_those_of_the_reference_interpreter(scale):
    rng, name = np.random.default_rng(5), "logits/probabilities"
    codes = np.clip(rng.normal(0, 40, (200, 10)), -128, 127).astype(np.int8)
    data = convert(pass_through(10, scale=scale), input_type="int8", output_type="class")
    for kernels in litert.KERNELS:
        found = litert.run(data, {"image": codes}, kernels=kernels)
        check_probabilities(found[name], np.float32(scale) * codes)
        expected = reference.run(data, {"image": codes}, rules=kernels)
        np.testing.assert_array_equal(expected[name], found[name])
        np.testing.assert_array_equal(found["logits/class"], codes.argmax(1))


def test_the_ends_of_a_network_are_those_of_the_reference_interpreter(learnt, images):
    data = mmx_tf.convert(learnt, input_type="int8", output_type="class")
    name, values = learnt.input_names[0], inputs_of(learnt, images, "int8")
    everything, last = expose(data, ["logits", "logits/class", "logits/probabilities"]), parse(data).operators
    for kernels in litert.KERNELS:
        found = litert.run(everything, {name: values}, kernels=kernels)
        for index, kind in ((len(last) - 2, "class"), (len(last) - 1, "probabilities")):
            expected = reference.step(data, index, found, rules=kernels)[f"logits/{kind}"]
            np.testing.assert_array_equal(expected, found[f"logits/{kind}"])
        # Where other kernels move a code, the class is still that of the codes.
        np.testing.assert_array_equal(found["logits/class"], found["logits"].argmax(1))


def test_ties_and_probabilities_by_hand():
    # Codes are quarters: 4 codes are a factor e.
    codes = np.array(
        [[0, 0, 0, 0], [3, 9, 9, -2], [-128, -128, -128, -128], [127, -128, 127, 127], [4, 0, 0, 4]], np.int8
    )
    data = convert(pass_through(4), input_type="int8", output_type="class")
    runner = Interpreter(model_content=data).get_signature_runner()
    found = runner(image=codes)
    assert found["class"].tolist() == [0, 1, 0, 0, 0]
    # 1/4, 1/4, 1/4, 1/4 are 64 of 256; 1/3 is 85.3; with e = 2.71828 the last row has 1/(2 + 2e) = 0.1345 or
    # 34.4 of 256 and e/(2 + 2e) = 0.3655 or 93.6; the second one has e^1.5, 1, 1 and e^2.75 under 1:
    # 0.2231 / 2.2870 = 0.0976 or 25.0, 1 / 2.2870 = 0.4372 or 111.9, 0.0639 / 2.2870 = 0.0280 or 7.2.
    by_hand = [[64] * 4, [25, 112, 112, 7], [64] * 4, [85, 0, 85, 85], [94, 34, 34, 94]]
    np.testing.assert_array_equal(found["probabilities"].astype(int) + 128, by_hand)
    # Certainty is 255 of 256, the largest code.
    certain = runner(image=np.array([[127, -128, -128, -128]], np.int8))
    assert certain["probabilities"].tolist() == [[127, -128, -128, -128]]


def test_ties_are_no_disagreement():
    folded = pass_through(4)
    images = np.float32([[1, 1, 0, 0], [0, 2, 2, 2], [-1, -1, -1, -1], [0, 0, 0, 9]])
    report = verify(folded, convert(folded, output_type="class"), [(images, np.array([0, 1, 0, 2]))])
    assert (report.top1_agreement, report.folded_top1, report.tflite_top1) == (1.0, 0.75, 0.75)


def test_a_layer_may_have_the_name_of_an_output():
    for name in ("class", "probabilities"):
        data = convert(pass_through(3, name=name), input_type="int8", output_type="class")
        found = Interpreter(model_content=data).get_signature_runner()(image=np.int8([[1, 5, 2]]))
        assert found["class"].tolist() == [1] and found["probabilities"].argmax() == 1


@pytest.mark.parametrize(("input_type", "output_type"), EVERY_TYPE)
def test_every_type_is_verified_and_certified(learnt, digits, input_type, output_type):
    data = mmx_tf.convert(learnt, input_type=input_type, output_type=output_type)
    evaluation = digits.evaluation(batch_size=90)
    report = verify(learnt, data, evaluation)
    plain = verify(learnt, mmx_tf.convert(learnt, input_type=input_type), evaluation)
    assert (report.code_disagreement, report.top1_agreement, report.partitions) == (0.0, 1.0, 1)
    assert report.tensors == plain.tensors and report.tflite_top1 == plain.tflite_top1 > 0.3
    limits = {"xnnpack": 360, "builtin": 90, "reference": 20}
    certificate = certify(learnt, data, evaluation, kernels=tuple(limits), max_images=tuple(limits.values()))
    exact = certificate.runtimes["xnnpack"]
    assert (exact.differing, exact.code_disagreement, exact.top1_agreement) == (0, 0.0, 1.0)
    assert exact.operators[-1].name == "logits" and "stem" in [operator.name for operator in exact.operators]
    for kernels, runtime in certificate.runtimes.items():
        assert {operator.rules for operator in runtime.operators} == {kernels}


def test_a_wrong_class_is_found_though_the_codes_are_right(learnt, digits):
    """ARG_MAX along axis 0 gives, for ten images, the image with the largest logit of each class."""
    data = mmx_tf.convert(learnt, output_type="class")
    model = model_of(data)
    (axis,) = [tensor for tensor in model.subgraphs[0].tensors if tensor.name == b"logits/axis"]
    model.buffers[axis.buffer].data = np.zeros(4, np.uint8)
    report = verify(learnt, written(model), digits.evaluation(batch_size=10, limit=100))
    assert report.code_disagreement == 0.0 and report.top1_agreement < 0.5


def test_many_flat_logits_do_not_end_the_process_of_the_reference_kernels():
    """LiteRT's reference SOFTMAX aborts where a row's exponentials sum to 512 or more."""
    folded = pass_through(600)
    data = convert(folded, output_type="class")
    images = np.zeros((2, 600), np.float32)
    images[1, 7] = 0.25
    certificate = certify(folded, data, [(images, np.array([0, 7]))])
    for runtime in certificate.runtimes.values():
        assert (runtime.top1, runtime.top1_agreement, runtime.code_disagreement) == (1.0, 1.0, 0.0)


def test_a_file_of_another_model_is_refused(learnt, pixel, digits):
    evaluation = digits.evaluation(batch_size=90)
    for output_type in OUTPUT_TYPES:
        other = mmx_tf.convert(pixel, output_type=output_type)
        with pytest.raises(ValueError, match="made from another model"):
            verify(learnt, other, evaluation)
    with pytest.raises(ValueError, match=r"has outputs \['pool'\]; expected .* logits 'logits'"):
        verify(learnt, expose(mmx_tf.convert(learnt), ["pool"]), evaluation)
    with pytest.raises(ValueError, match=r"has no tensors \['pond'\]"):
        expose(mmx_tf.convert(learnt), ["pond"])


def test_outputs_that_are_no_classes_are_refused(learnt):
    several = keras.Model(learnt.inputs, [learnt.output, learnt.output])
    with pytest.raises(ValueError, match=r"outputs \['logits', 'logits'\]: give each tensor once"):
        convert(several, output_type="class")
    codes = keras.Model(learnt.inputs, learnt.get_layer("stem").output)
    for output_type in ("float32", "class"):
        with pytest.raises(ValueError, match=f"{output_type}.*ends with the codes of 'stem'"):
            convert(codes, output_type=output_type)
    with pytest.raises(ValueError, match="output_type is 'label'; use one of 'int8', 'float32', 'class'"):
        mmx_tf.convert(learnt, output_type="label")


def test_inspect_and_c_array_know_the_file(learnt):
    data = mmx_tf.convert(learnt, output_type="class", labels=[f"digit {i}" for i in range(10)])
    found = inspect.summary(data)
    assert found.faults == () and found.uncounted == () and found.partitions == 1
    assert [(layer.kind, layer.version, layer.delegated) for layer in found.layers[-2:]] == [
        ("ARG_MAX", 2, False),
        ("SOFTMAX", 2, False),
    ]
    assert [(end.type, end.shape) for end in found.outputs] == [("INT32", (1,)), ("INT8", (1, 10))]
    assert found.signatures[0].outputs == ("class", "probabilities")
    plain = inspect.summary(mmx_tf.convert(learnt))
    assert (found.bops, found.macs) == (plain.bops, plain.macs)
    shown = inspect.text(found)
    assert "logits/class: INT32 1, grid -" in shown and "FAULT" not in shown
    _, header = sources(parse(data))
    assert "resolver.AddArgMax();" in header and "resolver.AddSoftmax();" in header
    assert '"logits/class": INT32 [1], no scale' in header
