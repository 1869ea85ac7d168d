"""The reference interpreter on a whole small network, operator by operator, and on what it cannot take."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from small_files import (
    NONE,
    RELU,
    RELU6,
    SAME,
    Net,
    TensorType,
    assert_equal_to_litert,
    options,
    random_codes,
)

from mmx_tf.export import reference
from mmx_tf.export.writing.flatbuffer import GraphWriter


class Network(Net):
    """An inverted residual with squeeze and excitation behind a uint8 image, one low-bit tensor, logits."""

    def __init__(self, seed):
        super().__init__(seed)
        self.outputs, self.grids = [], {}

    def codes(self, name, shape, **grid):
        grid.setdefault("scale", self.scale(0.02, 0.08))
        grid.setdefault("zero_point", int(self.rng.integers(-20, 20)))
        index = self.tensor(name, shape, **grid)
        self.outputs.append(index)
        self.grids[index] = grid
        return index

    def window(self, kind, name, source, shape, weight_shape, *, stride=1, activation=NONE, bits=4, **grid):
        """A convolution with SAME padding; 4-bit weights of CONV_2D are stored as INT4."""
        target = self.codes(name, shape, **grid)
        depthwise = kind == "DEPTHWISE_CONV_2D"
        int4 = bits == 4 and not depthwise
        weights, bias, _ = self.weights(
            name,
            weight_shape,
            axis=3 if depthwise else 0,
            source_scale=self.grids[source]["scale"],
            bits=bits,
            dtype=TensorType.INT4 if int4 else TensorType.INT8,
        )
        fields = {
            "padding": SAME,
            "strideH": stride,
            "strideW": stride,
            "fusedActivationFunction": activation,
        }
        fields |= {"dilationHFactor": 1, "dilationWFactor": 1}
        if depthwise:
            fields["depthMultiplier"] = 1
        kind_options = options("DepthwiseConv2D" if depthwise else "Conv2D", **fields)
        version = 7 if int4 else 3
        return self.operator(kind, [source, weights, bias], target, options=kind_options, version=version)

    def build(self):
        image = self.input("image", (12, 12, 3), scale=0.04, zero_point=128, dtype=TensorType.UINT8)
        x = self.codes("image_codes", (12, 12, 3), scale=0.04, zero_point=0)
        self.operator("QUANTIZE", [image], x, options=options("Quantize"), version=2)
        stem = self.window(
            "CONV_2D", "stem", x, (6, 6, 8), (8, 3, 3, 3), stride=2, activation=RELU6, bits=8, scale=0.1
        )
        # 4-bit codes: the scale is the step size, the zero point leaves 16 codes up to 127.
        low_bit = {"scale": 0.05, "zero_point": 112}
        x = self.window(
            "CONV_2D", "expand", stem, (6, 6, 20), (20, 1, 1, 8), activation=RELU, bits=3, **low_bit
        )
        x = self.window("DEPTHWISE_CONV_2D", "depthwise", x, (6, 6, 20), (1, 3, 3, 20), scale=0.03)
        gate = self.codes("squeeze", (1, 1, 20))
        axes = self.constant("axes", [1, 2], TensorType.INT32)
        self.operator("MEAN", [x, axes], gate, options=options("Reducer", keepDims=True), version=2)
        sigmoid = self.codes("sigmoid", (1, 1, 20), scale=1 / 256, zero_point=-128)
        self.operator("LOGISTIC", [gate], sigmoid, version=2)
        gated = self.codes("gated", (6, 6, 20), scale=0.015)
        self.operator("MUL", [x, sigmoid], gated, options=options("Mul"), version=2)
        x = self.window("CONV_2D", "project", gated, (6, 6, 8), (8, 1, 1, 20))
        added = self.codes("added", (6, 6, 8))
        self.operator("ADD", [stem, x], added, options=options("Add"), version=2)
        pooled = self.codes("pooled", (3, 3, 8), **self.grids[added])
        pool = options("Pool2D", padding=SAME, filterHeight=2, filterWidth=2, strideH=2, strideW=2)
        self.operator("AVERAGE_POOL_2D", [added], pooled, options=pool, version=2)
        flat = self.codes("flat", (72,), **self.grids[pooled])
        shape = self.constant("shape", [-1, 72], TensorType.INT32)
        fields = options("Reshape", newShape=np.array([-1, 72], np.int32))
        self.operator("RESHAPE", [pooled, shape], flat, options=fields)
        logits = self.codes("logits", (10,), scale=1.1)
        weights, bias, _ = self.weights("dense", (10, 72), axis=0, source_scale=self.grids[flat]["scale"])
        dense = options("FullyConnected")
        self.operator("FULLY_CONNECTED", [flat, weights, bias], logits, options=dense, version=12)
        real = self.tensor("real_logits", (10,), dtype=TensorType.FLOAT32)
        self.operator("DEQUANTIZE", [logits], real, options=options("Dequantize"), version=2)
        return real


def network(*, every_tensor):
    net = Network(1)
    last = net.build()
    data = net.finish(*(net.outputs if every_tensor else []), last)
    return data, {"image": random_codes(net.rng, (33, 12, 12, 3), np.uint8)}


def test_every_tensor_of_a_network():
    outputs = assert_equal_to_litert(*network(every_tensor=True))
    # Nothing is saturated or constant, or equality would mean little.
    assert all(len(np.unique(codes)) > 8 for codes in outputs["xnnpack"].values())
    assert any((outputs["xnnpack"][name] != outputs["reference"][name]).any() for name in outputs["xnnpack"])


def test_the_last_tensor_of_a_network():
    assert_equal_to_litert(*network(every_tensor=False))


def test_run_returns_every_tensor():
    data, inputs = network(every_tensor=False)
    graph = reference.load(data)
    tensors = reference.run(graph, inputs)
    assert set(tensors) == {tensor.name for tensor in graph.tensors}
    for tensor in graph.tensors:
        values = tensors[tensor.name]
        assert values.dtype == tensor.numpy_type
        assert values.shape == (tensor.shape if tensor.constant is not None else (33, *tensor.shape[1:]))


def test_step_takes_the_inputs_it_is_given():
    data, inputs = network(every_tensor=False)
    graph = reference.load(data)
    tensors = reference.run(graph, inputs, rules="builtin")
    for operator in graph.operators:
        (output,) = operator.outputs
        given = {tensor.name: tensors[tensor.name] for tensor in operator.inputs if tensor.constant is None}
        got = reference.step(graph, operator.index, given, rules="builtin")
        assert list(got) == [output.name]
        np.testing.assert_array_equal(got[output.name], tensors[output.name])
    # Other inputs give other outputs: nothing is taken from an earlier run.
    changed = reference.step(data, 2, {"stem": tensors["stem"] // 2})
    assert (changed["expand"] != tensors["expand"]).any()


def test_int4_weights_are_unpacked():
    net = Net(0)
    source = net.input("x", (3,), scale=0.1, zero_point=0)
    codes = np.array([[-7, 7, 1], [0, -1, 2], [3, -3, 5]])
    weights = net.constant("w", codes, TensorType.INT4, scales=[0.1])
    target = net.tensor("codes", (3,), scale=0.01, zero_point=0)
    fields = options("FullyConnected")
    data = net.file_of("FULLY_CONNECTED", [source, weights], target, options=fields, version=7)
    tensors = reference.run(data, {"x": np.eye(3, dtype=np.int8)})
    np.testing.assert_array_equal(tensors["w"], codes)
    # The scales' product is the output scale, so that unit vectors give the weights' columns.
    np.testing.assert_array_equal(tensors["codes"], codes.T)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "the file is empty|not a .tflite"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "the file is empty|not a .tflite"),
        (b"\x10\x00\x00\x00TFL3" + bytes(range(200)), "damaged or truncated"),
    ],
)
def test_bytes_that_are_no_tflite(data, message):
    with pytest.raises(ValueError, match=message):
        reference.run(data, {})


def test_a_truncated_file():
    data, inputs = network(every_tensor=False)
    for length in range(100, len(data), 997):
        with pytest.raises(ValueError, match="damaged or truncated"):
            reference.run(data[:length], inputs)


def test_an_unknown_operator_is_named_with_the_known_ones():
    net = Net(0)
    source = net.input("x", (4,))
    data = net.file_of("COS", [source], net.tensor("y", (4,)))
    with pytest.raises(ValueError, match=r"operator 0 \(COS\) is not here; known .*: ABS, ADD, .*SUB, "):
        reference.run(data, {"x": np.zeros((1, 4), np.int8)})


def test_an_unknown_type_is_named_with_the_known_ones():
    net = Net(0)
    source = net.input("x", (4,), dtype=TensorType.FLOAT32)
    target = net.tensor("y", (4,), dtype=TensorType.FLOAT32)
    data = net.file_of("LOGISTIC", [source], target)
    with pytest.raises(ValueError, match="FLOAT32 -> FLOAT32; known here: INT8 -> INT8"):
        reference.run(data, {"x": np.zeros((1, 4), np.float32)})


def test_an_unknown_activation_is_named():
    net = Net(0)
    left, right = net.input("a", (4,)), net.input("b", (4,))
    fields = options("Add", fusedActivationFunction=schema.ActivationFunctionType.TANH)
    data = net.file_of("ADD", [left, right], net.tensor("y", (4,)), options=fields, version=2)
    with pytest.raises(ValueError, match="activation TANH; known ones: NONE, RELU"):
        reference.run(data, {name: np.zeros((1, 4), np.int8) for name in "ab"})


@pytest.mark.parametrize(
    "inputs, message",
    [
        (
            {"picture": np.zeros((1, 12, 12, 3), np.uint8)},
            "named .'picture'.; the file's inputs are .'image'.",
        ),
        ({"image": np.zeros((1, 12, 12, 3), np.int8)}, "int8; the file takes UINT8"),
        ({"image": np.zeros((1, 12, 13, 3), np.uint8)}, "shape .1, 12, 13, 3."),
    ],
)
def test_inputs_that_do_not_fit(inputs, message):
    with pytest.raises(ValueError, match=message):
        reference.run(network(every_tensor=False)[0], inputs)


def test_inputs_of_different_length():
    net = Net(0)
    left, right = net.input("a", (4,)), net.input("b", (4,))
    data = net.file_of("ADD", [left, right], net.tensor("y", (4,)), options=options("Add"), version=2)
    with pytest.raises(ValueError, match="same number"):
        reference.run(data, {"a": np.zeros((1, 4), np.int8), "b": np.zeros((2, 4), np.int8)})


def test_unknown_rules_and_operators_and_missing_tensors():
    data, inputs = network(every_tensor=False)
    with pytest.raises(ValueError, match="rules is 'exact'; use one of 'xnnpack', 'builtin', 'reference'"):
        reference.run(data, inputs, rules="exact")
    with pytest.raises(ValueError, match="operator_index is 99; the file has operators 0..12"):
        reference.step(data, 99, inputs)
    with pytest.raises(ValueError, match="needs tensor 'image_codes'"):
        reference.step(data, 1, inputs)


def test_tensors_named_alike():
    writer = GraphWriter()
    first, second = (writer.tensor("x", (1, 4), TensorType.FLOAT32) for _ in range(2))
    with pytest.raises(ValueError, match="named alike: .'x'."):
        reference.load(writer.finish({"x": first}, {"y": second}))
