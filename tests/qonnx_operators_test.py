"""Single operators as QONNX in qonnx's own executor, against the reference interpreter, in both forms.

Each file has the operator on tensors of codes of 2, 3, 4 and 8 bits, with real 0 at the lowest code and
elsewhere, as the tests of the C source have them.
"""

import numpy as np
import pytest
from c_source_operators_test import DEPTHWISE, RANGES, WINDOWS, Branches, convolved
from qonnx_models import FORMS, assert_exact, datatypes_of, kinds_of, needed
from small_files import RELU, SAME, VALID, Net, TensorType, options, random_codes

from mmx_tf.export.qonnx import UnsupportedError, qonnx_model

pytestmark = [needed, pytest.mark.parametrize("form", FORMS)]


@pytest.mark.parametrize("weight_bits", [2, 4, 8])
def test_convolutions_in_all_widths(form, weight_bits):
    net, data = convolved("CONV_2D", (5, 6, 3), (7, 3, 3, 3), (5, 6, 7), weight_bits=weight_bits)
    made = assert_exact(data, net.images(), form=form, tensors=16)
    datatypes = datatypes_of(made.model)
    found = {datatypes[node.input[0]] for node in made.model.graph.node if node.op_type == "Conv"}
    # Types of a file without metadata have 8 bits.
    assert found == {"UINT8", "INT8"}


@pytest.mark.parametrize("window", WINDOWS)
def test_convolutions_of_all_windows(form, window):
    taps, out, fields = WINDOWS[window]
    net, data = convolved("CONV_2D", (5, 6, 16), taps, out, **fields)
    assert_exact(data, net.images(), form=form, tensors=16)


@pytest.mark.parametrize("case", DEPTHWISE)
def test_depthwise_convolutions(form, case):
    channels, multiplier, weight_bits, fields = DEPTHWISE[case]
    stride, filters = fields.get("strideH", 1), channels * multiplier
    out = (-(-7 // stride), -(-6 // stride), filters)
    fields = fields | {"weight_bits": weight_bits, "depthMultiplier": multiplier}
    net, data = convolved("DEPTHWISE_CONV_2D", (7, 6, channels), (1, 3, 3, filters), out, **fields)
    assert_exact(data, net.images(), form=form, tensors=16)


@pytest.mark.parametrize("zero_point", [-128, 5])
def test_paddings_go_into_the_convolutions_behind_them(form, zero_point):
    net = Net(0)
    source = net.input("image", (5, 5, 3), dtype=TensorType.UINT8, scale=0.1, zero_point=zero_point + 128)
    codes = net.tensor("codes", (5, 5, 3), scale=0.1, zero_point=zero_point)
    net.operator("QUANTIZE", [source], codes, options=options("Quantize"), version=2)
    amounts = net.constant("amounts", np.array([(0, 0), (0, 1), (2, 1), (0, 0)]), TensorType.INT32)
    padded = net.tensor("padded", (6, 8, 3), scale=0.1, zero_point=zero_point)
    net.operator("PAD", [codes, amounts], padded, options=options("Pad"), version=2)
    weights, bias, _ = net.weights("w", (4, 3, 3, 3), axis=0, source_scale=0.1, bits=4)
    target = net.tensor("sums", (2, 3, 4), scale=0.3, zero_point=-128)
    fields = {"padding": VALID, "strideH": 2, "strideW": 2, "dilationHFactor": 1, "dilationWFactor": 1}
    conv = options("Conv2D", fusedActivationFunction=RELU, **fields)
    net.operator("CONV_2D", [padded, weights, bias], target, options=conv, version=3)
    images = {"image": random_codes(net.rng, (3, 5, 5, 3), np.uint8)}
    # Real 0 is 0 for codes that are their distance to the zero point; otherwise it has to be put there.
    folds = zero_point == -128
    made = assert_exact(net.finish(target), images, form=form, tensors=3 if folds else 4)
    (node,) = [node for node in made.model.graph.node if node.op_type == "Conv"]
    pads = next(list(attribute.ints) for attribute in node.attribute if attribute.name == "pads")
    assert pads == ([0, 2, 1, 1] if folds else [0] * 4) and ("Pad" in kinds_of(made.model)) != folds


@pytest.mark.parametrize("kind", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
def test_pooling(form, kind):
    net = Branches(0, (7, 5, 9))
    fields = {"padding": SAME, "filterHeight": 3, "filterWidth": 2, "strideH": 2, "strideW": 2}
    fields |= {"fusedActivationFunction": RELU}
    for bits, zero in RANGES:
        source, scale = net.branch(bits, zero)
        target = net.tensor(f"{bits}_{zero}/codes", (4, 3, 9), scale=scale, zero_point=-128 + zero)
        net.made.append(net.operator(kind, [source], target, options=options("Pool2D", **fields), version=2))
    assert_exact(net.file(), net.images(), form=form, tensors=16)


def test_halves_of_averages_are_rounded_away_from_zero(form):
    """By hand: of 1 and 2, of -1 and -2, of 0 and 1, of 0 and -1."""
    net = Net(0)
    source = net.input("image", (1, 2, 4), scale=0.1, zero_point=3)
    target = net.tensor("means", (1, 1, 4), scale=0.1, zero_point=3)
    fields = {"padding": VALID, "filterHeight": 1, "filterWidth": 2, "strideH": 1, "strideW": 1}
    data = net.file_of("AVERAGE_POOL_2D", [source], target, options=options("Pool2D", **fields), version=2)
    image = np.array([[[[1, -1, 0, 0], [2, -2, 1, -1]]]], np.int8)
    from mmx_tf.export.qonnx.running import tensors_of

    means = tensors_of(qonnx_model(data, form=form), {"image": image})["means"]
    assert means.reshape(-1).tolist() == [2, -2, 1, -1]


@pytest.mark.parametrize("shape", [(6, 5, 9), (2, 2, 40)])
def test_means(form, shape):
    net = Branches(0, shape)
    axes = net.constant("axes", np.array([1, 2]), TensorType.INT32)
    for keep, (bits, zero) in enumerate(RANGES):
        source, scale = net.branch(bits, zero)
        out = (1, 1, shape[2]) if keep % 2 else shape[2:]
        # On one grid every fourth mean of four codes is a half.
        factor = 0.11 if len(set(shape)) == 3 else 1
        target = net.tensor(f"{bits}_{zero}/codes", out, scale=scale * factor, zero_point=3)
        fields = options("Reducer", keepDims=bool(keep % 2))
        net.made.append(net.operator("MEAN", [source, axes], target, options=fields, version=2))
    assert_exact(net.file(), net.images(20), form=form, tensors=16)


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
def test_elementwise_operators(form, kind):
    shape = (4, 5, 6)
    net = Branches(0, shape)
    fields = options({"ADD": "Add", "SUB": "Sub", "MUL": "Mul"}[kind])
    image = net.input("image_2", shape, scale=0.05, zero_point=-7)
    for (bits, zero), second in zip(RANGES, [None, (1, 1, 6), (1,), None, (1, 5, 1)], strict=True):
        source, scale = net.branch(bits, zero)
        other = image
        if second:
            codes = net.rng.integers(-100, 100, (1, *second))
            grid = {"scales": [scale / 3], "zero_points": [4]}
            other = net.constant(f"{bits}_{zero}/constant", codes, TensorType.INT8, **grid)
        target = net.tensor(f"{bits}_{zero}/codes", shape, scale=scale * (9 if kind == "MUL" else 1.3))
        net.made.append(net.operator(kind, [source, other], target, options=fields, version=2))
    images = {name: random_codes(net.rng, (3, *shape)) for name in ("image", "image_2")}
    assert_exact(net.file(), images, form=form, tensors=17)


def test_products_are_no_larger_than_their_factors_allow(form):
    """A product of two numbers above 0 needs no bits for numbers below it."""
    net = Branches(0, (3, 3, 2))
    one, scale = net.branch(4, 0)
    codes = np.arange(18).reshape(1, 3, 3, 2) % 16
    other = net.constant("factors", codes, TensorType.INT8, scales=[scale], zero_points=[0])
    target = net.tensor("codes", (3, 3, 2), scale=scale**2 * 2, zero_point=0)
    net.made.append(net.operator("MUL", [one, other], target, options=options("Mul"), version=2))
    made = assert_exact(net.file(), net.images(), form=form)
    # The image's highest code, 127 / 16, is 8 here; 8 * 15 / 2 steps.
    assert made.tensors["codes"].datatype == "UINT6" and made.tensors["codes"].span == (0, 60)


CURVES = ("LOGISTIC", "TANH", "ELU", "HARD_SWISH", "RELU", "RELU6", "QUANTIZE")


def test_functions_of_single_codes(form):
    net, grids = Net(0), {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
    source = net.input("image", (16, 16, 1), scale=0.06, zero_point=-20)
    made = []
    for kind in CURVES:
        scale, zero_point = grids.get(kind, (0.07, -30))
        target = net.tensor(kind, (16, 16, 1), scale=scale, zero_point=zero_point)
        fields = options("Quantize") if kind == "QUANTIZE" else None
        made.append(net.operator(kind, [source], target, options=fields, version=2 if fields else 1))
    every = np.arange(-128, 128).astype(np.int8).reshape(1, 16, 16, 1)
    kinds = kinds_of(assert_exact(net.finish(*made), {"image": every}, form=form, tensors=8).model)
    # Hard-swish falls and rises.
    assert {"MultiThreshold", "Gather"} <= kinds


def test_what_moves_codes(form):
    shape = (4, 6, 5)
    net = Branches(0, shape)
    (one, scale), (other, _) = net.branch(4, 7), net.branch(4, 7, name="other")
    byte, byte_scale = net.branch(8, 100)
    grid = {"scale": scale, "zero_point": -121}

    def constant(name, values):
        return net.constant(name, np.array(values), TensorType.INT32)

    def moved(kind, inputs, name, out, grid=grid, **kwargs):
        net.made.append(net.operator(kind, inputs, net.tensor(name, out, **grid), version=2, **kwargs))

    moved("PAD", [one, constant("amounts", [(0, 0), (1, 2), (0, 1), (1, 0)])], "padded", (7, 7, 6))
    joined = options("Concatenation", axis=3)
    moved("CONCATENATION", [one, other, one], "joined", (4, 6, 15), options=joined)
    moved("CONCATENATION", [one, other], "rows", (8, 6, 5), options=options("Concatenation", axis=1))
    bounds = [constant(*pair) for pair in (("b", [0, 1, 0, 1]), ("e", [1, 4, 6, 4]), ("s", [1, 2, 1, 1]))]
    slices = options("StridedSlice", beginMask=1, endMask=1)
    moved("STRIDED_SLICE", [one, *bounds], "cut", (2, 6, 3), options=slices)
    axes = constant("axes", [0, 3, 1, 2])
    moved("TRANSPOSE", [one, axes], "turned", (5, 4, 6), options=options("Transpose"))
    for name, out in {"vector": (120,), "signal": (20, 6), "image_again": (5, 8, 3)}.items():
        new = np.array([-1, *out], np.int32)
        fields = options("Reshape", newShape=new)
        moved("RESHAPE", [one, constant(f"{name}/shape", new)], name, out, options=fields)
    for name, out in {"near": (8, 9, 5), "twice": (8, 12, 5)}.items():
        fields = options("ResizeNearestNeighbor", halfPixelCenters=True)
        moved("RESIZE_NEAREST_NEIGHBOR", [one, constant(f"{name}/size", out[:2])], name, out, options=fields)
    for half in (False, True):
        fields = options("ResizeBilinear", halfPixelCenters=half)
        inputs, grid = [byte, constant(f"{half}/size", [8, 9])], {"scale": byte_scale, "zero_point": -28}
        moved("RESIZE_BILINEAR", inputs, f"mixed_{half}", (8, 9, 5), grid, options=fields)
    made = assert_exact(net.file(), net.images(), form=form, tensors=19)
    assert {"Resize", "Gather", "Transpose"} <= kinds_of(made.model)


def test_transposed_convolutions(form):
    net = Branches(0, (5, 4, 6))
    for number, (bits, zero) in enumerate(RANGES):
        window, strides, size = [((3, 3), (2, 2), (10, 8)), ((2, 3), (1, 3), (5, 12))][number % 2]
        source, scale = net.branch(bits, zero)
        name = f"{bits}_{zero}"
        weights, bias, scales = net.weights(name, (7, *window, 6), axis=0, source_scale=scale, bits=4)
        shape = net.constant(f"{name}/shape", np.array([1, *size, 7]), TensorType.INT32)
        target = net.tensor(f"{name}/codes", (*size, 7), scale=scale * float(np.mean(scales)) * 2**bits / 8)
        fields = options("TransposeConv", padding=SAME, strideH=strides[0], strideW=strides[1])
        inputs = [shape, weights, source, bias]
        net.made.append(net.operator("TRANSPOSE_CONV", inputs, target, options=fields, version=4))
    assert_exact(net.file(), net.images(), form=form, tensors=16)


@pytest.mark.parametrize("shape", [(3, 4, 7), (10,)])
def test_class_and_probabilities(form, shape):
    net = Net(0)
    source = net.input("image", shape, scale=0.04, zero_point=-3)
    probabilities = net.tensor("probabilities", shape, scale=1 / 256, zero_point=-128)
    net.operator("SOFTMAX", [source], probabilities, options=options("Softmax", beta=1.0), version=2)
    index = net.writer.tensor("class", (1, *shape[:-1]), TensorType.INT32, dynamic_batch=True)
    axis = net.constant("axis", np.array(len(shape)), TensorType.INT32)
    net.operator("ARG_MAX", [source, axis], index, options=options("ArgMax", outputType=TensorType.INT32))
    images = random_codes(net.rng, (50, *shape))
    # Equal codes: the first counts.
    images[:5] = images[:5, ..., :1]
    assert_exact(net.finish(probabilities, index), {"image": images}, form=form, tensors=3)


def test_what_has_no_exact_form_is_named(form):
    net = Net(0)
    source = net.input("image", (4, 4, 2), scale=0.1, zero_point=0)
    target = net.tensor("codes", (2, 4, 4), scale=0.1, zero_point=0)
    axes = net.constant("axes", np.array([3, 1, 2, 0]), TensorType.INT32)
    with pytest.raises(UnsupportedError, match=r"operator 0 \(TRANSPOSE\)"):
        qonnx_model(
            net.file_of("TRANSPOSE", [source, axes], target, options=options("Transpose"), version=2),
            form=form,
        )
    net = Net(0)
    source = net.input("image", (70, 70, 1), scale=0.1, zero_point=0)
    target = net.tensor("codes", (1, 1, 1), scale=0.1, zero_point=0)
    fields = {"padding": VALID, "filterHeight": 70, "filterWidth": 70, "strideH": 1, "strideW": 1}
    with pytest.raises(UnsupportedError, match=r"has a window of 4,900 places; up to 4,096 are exact"):
        qonnx_model(
            net.file_of("AVERAGE_POOL_2D", [source], target, options=options("Pool2D", **fields), version=2),
            form=form,
        )
