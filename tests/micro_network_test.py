"""Networks in TensorFlow Lite Micro: storage int4_micro, and Micro's interpreter on whole files."""

import compiled_array
import micro_files
import numpy as np
import pytest
from fold_test import other_layers
from networks import calibrated, small_network

import mmx_tf
from benchmarks import micro_interpreter
from mmx_tf.choices import STORAGES
from mmx_tf.export import inspect
from mmx_tf.export.c_array import MicroError, main, sources
from mmx_tf.export.comparing.certificate import certify, summary
from mmx_tf.export.comparing.cut import expose
from mmx_tf.export.comparing.unpacked import unpacked
from mmx_tf.export.reading.tflite_file import parse
from mmx_tf.export.running import litert

pytestmark = pytest.mark.broad

PACKED = ("depthwise", "project", "expand")
IMAGES = 40


@pytest.fixture(scope="module", params=[4, 3, 2])
def fixed(request, digits):
    return calibrated(small_network(), digits, choice=[1, 2, 0], weight_bits=request.param)


@pytest.fixture(scope="module")
def exported(fixed):
    folded = mmx_tf.fold(fixed, weight_storage="int4_micro")
    return folded, mmx_tf.convert(folded, weight_storage="int4_micro")


def input_codes(data, digits):
    """The name of a file's uint8 input, and the codes of real images on its learnt grid."""
    images, _ = next(iter(digits.evaluation(batch_size=IMAGES)))
    ((name, detail),) = litert.Runner(data).inputs.items()
    scale, zero_point = detail["quantization"]
    return name, np.clip(np.rint(images / np.float32(scale)) + zero_point, 0, 255).astype(np.uint8)


@pytest.mark.slow
def test_every_convolution_is_packed_two_weights_a_byte_and_stays_a_convolution(exported, fixed):
    folded, data = exported
    layers = {layer.name: layer for layer in inspect.layers(data)}
    types = {name: layers[name].weight_type for name in ("stem", *PACKED, "logits")}
    assert types == {"stem": "INT8", "logits": "INT8"} | dict.fromkeys(PACKED, "INT4")
    kinds = {name: layers[name].kind for name in PACKED}
    assert kinds == {"depthwise": "DEPTHWISE_CONV_2D", "project": "CONV_2D", "expand": "CONV_2D"}
    # 3*3*6, 6*6 and 6*8 weights, two a byte.
    assert [layers[name].weight_bytes for name in PACKED] == [27, 18, 24]
    bits = fixed.get_layer("quant_project").quantize_config.bits
    codes = folded.get_layer("project").weight_codes.numpy()
    assert np.abs(codes).max() <= 2 ** (bits - 1) - 1 and layers["project"].weight_bits == bits


def test_its_numbers_are_those_of_the_folded_network(exported, digits):
    """In int8 tensors, which XNNPACK takes, every code of every tensor is the folded network's."""
    folded, data = exported
    report = mmx_tf.verify(folded, unpacked(data), digits.evaluation(batch_size=90))
    assert [tensor for tensor in report.tensors if tensor.differing] == []
    assert report.code_disagreement == 0 and report.eval_images == 360


def test_the_certificate_judges_it_under_the_reference_kernels_too(exported, digits):
    certificate = certify(*exported, digits.evaluation(batch_size=IMAGES), max_images=IMAGES)
    assert set(certificate.runtimes) == {"xnnpack", "builtin", "reference"} and certificate.unable == {}
    assert set(certificate.unpacked) == {"reference"}
    assert "DEPTHWISE_CONV_2D" in summary(certificate).splitlines()[-1]
    for kernels, runtime in certificate.runtimes.items():
        assert {operator.rules for operator in runtime.operators} == {kernels}
        assert max(operator.largest_difference for operator in runtime.operators) <= 1
    assert certificate.to_json()["unpacked"]["reference"]


def test_a_network_folded_for_another_storage_is_refused(fixed):
    for folded_for in ("int8", "int4_xnnpack"):
        with pytest.raises(ValueError, match="weight_storage is 'int4_micro', but the model was folded for"):
            mmx_tf.convert(mmx_tf.fold(fixed, weight_storage=folded_for), weight_storage="int4_micro")


@compiled_array.needed
def test_a_compiled_program_holds_the_bytes(exported, tmp_path):
    path, out = tmp_path / "model.tflite", tmp_path / "out"
    path.write_bytes(exported[1])
    assert main([str(path), f"--out={out}"]) == 0
    assert "resolver.AddDepthwiseConv2D();" in (out / "model_data.h").read_text()
    assert compiled_array.compiled_bytes(out, "model_data") == exported[1]


def reference_codes(data, name, codes):
    """Outputs of LiteRT's reference kernels, on the same weights in int8 tensors."""
    return list(litert.run(unpacked(data), {name: codes}, kernels="reference").values())


@micro_files.interpreter_needed
@pytest.mark.parametrize("storage", ["int8", "int4_micro"])
def test_micro_computes_what_litert_reference_kernels_compute(fixed, digits, storage):
    """Allowed: a quarter of the codes of the logits by one, none of what is before them.

    FULLY_CONNECTED alone is rounded otherwise: LiteRT's reference kernels multiply in float64, Micro in fixed
    point with two roundings, whose first goes to halves or finer.
    """
    data = mmx_tf.convert(fixed, weight_storage=storage)
    name, codes = input_codes(data, digits)
    inside = expose(data, ["pool"])
    whole, before = micro_interpreter.run([(data, [codes]), (inside, [codes])])
    assert whole.outputs is not None, whole.refusal
    np.testing.assert_array_equal(before.outputs[0], reference_codes(inside, name, codes)[0])
    (expected,) = reference_codes(data, name, codes)
    differing = np.abs(whole.outputs[0].astype(int) - expected)
    assert differing.max() <= 1 and np.mean(differing) <= 0.25
    assert len(np.unique(expected)) > 20


# Storages that Micro refuses of networks around other layers, of 2-bit weights.
REFUSED = {
    # A dense layer with a batch norm, hence a scale for each output.
    "max_pooling_padding_flatten": {"int4", "int4_xnnpack"},
    "gates_are_joined": {"int4", "int4_xnnpack"},
    "crop_rescale_global_max": set(),
}


@micro_files.interpreter_needed
@pytest.mark.parametrize("kind", REFUSED)
def test_c_array_refuses_what_micro_refuses(kind, digits):
    fixed = calibrated(other_layers(kind), digits, weight_bits=2)
    folded = {storage: mmx_tf.fold(fixed, weight_storage=storage) for storage in STORAGES}
    files = {storage: mmx_tf.convert(model, weight_storage=storage) for storage, model in folded.items()}
    files["class"] = mmx_tf.convert(folded["int4_micro"], weight_storage="int4_micro", output_type="class")
    name, codes = input_codes(files["int8"], digits)
    answers = dict(zip(files, micro_interpreter.run([(d, [codes]) for d in files.values()]), strict=True))
    assert {storage for storage, answer in answers.items() if answer.outputs is None} == REFUSED[kind]
    for storage, data in files.items():
        if storage in REFUSED[kind]:
            message = 'INT[24] weights.*convert with weight_storage "int4_micro", or "int8"'
            with pytest.raises(MicroError, match=message):
                sources(parse(data))
        else:
            assert sources(parse(data))
    (expected,) = reference_codes(files["int4_micro"], name, codes)
    (found,) = answers["int4_micro"].outputs
    # The codes that a dense layer in the middle moves by one move others behind it.
    assert np.abs(found.astype(int) - expected).max() <= 3
    classes, _ = answers["class"].outputs
    np.testing.assert_array_equal(classes, found.argmax(1))
