"""Pooling, shapes and curves of the reference interpreter against LiteRT's three sets of kernels."""

import numpy as np
import pytest
from small_files import (
    NONE,
    RELU,
    RELU6,
    SAME,
    VALID,
    Net,
    TensorType,
    assert_equal_to_litert,
    options,
    random_codes,
)

from mmx_tf.export import reference

EVERY_CODE = np.arange(-128, 128, dtype=np.int8)[None]


@pytest.mark.parametrize("activation", [NONE, RELU, RELU6])
@pytest.mark.parametrize(
    "padding, kernel, strides", [(SAME, (3, 3), (2, 2)), (VALID, (2, 3), (2, 1)), (SAME, (4, 2), (1, 3))]
)
@pytest.mark.parametrize("kind", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
def test_pooling(kind, padding, kernel, strides, activation):
    net = Net(activation)
    grid = {"scale": net.scale(0.03, 0.1), "zero_point": net.zero_point()}
    source = net.input("image", (11, 9, 19), **grid)
    target = net.tensor("codes", (1, 1, 19), **grid)
    fields = options(
        "Pool2D",
        padding=padding,
        filterHeight=kernel[0],
        filterWidth=kernel[1],
        strideH=strides[0],
        strideW=strides[1],
        fusedActivationFunction=activation,
    )
    data = net.file_of(kind, [source], target, options=fields, version=2)
    assert_equal_to_litert(data, {"image": random_codes(net.rng, (20, 11, 9, 19))})


@pytest.mark.parametrize("kind", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
def test_relu6_whose_bound_lies_between_two_codes(kind):
    net = Net(0)
    # 6 is 1.5 steps: XNNPACK rounds 1.5 + 1 to 2, TFLite 1.5 to 2 and adds 1.
    source = net.input("image", (4, 4, 3), scale=4.0, zero_point=1)
    target = net.tensor("codes", (2, 2, 3), scale=4.0, zero_point=1)
    fields = options(
        "Pool2D",
        padding=VALID,
        filterHeight=2,
        filterWidth=2,
        strideH=2,
        strideW=2,
        fusedActivationFunction=RELU6,
    )
    data = net.file_of(kind, [source], target, options=fields, version=2)
    outputs = assert_equal_to_litert(data, {"image": random_codes(net.rng, (50, 4, 4, 3))})
    highest = {rules: int(outputs[rules]["codes"].max()) for rules in outputs}
    taken = 2 if kind == "MAX_POOL_2D" else 3
    assert highest == {"xnnpack": taken, "builtin": 3, "reference": 3}


def test_pad():
    net = Net(0)
    grid = {"scale": 0.1, "zero_point": 77}
    source = net.input("image", (5, 4, 3), **grid)
    amounts = net.constant("amounts", [[0, 0], [1, 2], [0, 3], [2, 0]], TensorType.INT32)
    target = net.tensor("codes", (8, 7, 5), **grid)
    data = net.file_of("PAD", [source, amounts], target, options=options("Pad"), version=2)
    assert_equal_to_litert(data, {"image": random_codes(net.rng, (3, 5, 4, 3))})


@pytest.mark.parametrize("axis", [1, 3, -1])
def test_concatenation(axis):
    net = Net(0)
    grid = {"scale": 0.1, "zero_point": 77}
    sources = [net.input(name, (5, 4, 3), **grid) for name in "abc"]
    target = net.tensor("codes", (15, 4, 3) if axis == 1 else (5, 4, 9), **grid)
    data = net.file_of(
        "CONCATENATION", sources, target, options=options("Concatenation", axis=axis), version=2
    )
    assert_equal_to_litert(data, {name: random_codes(net.rng, (3, 5, 4, 3)) for name in "abc"})


def test_reshape():
    net = Net(0)
    grid = {"scale": 0.1, "zero_point": 77}
    source = net.input("image", (5, 4, 3), **grid)
    shape = net.constant("shape", [-1, 60], TensorType.INT32)
    target = net.tensor("codes", (60,), **grid)
    fields = options("Reshape", newShape=np.array([-1, 60], np.int32))
    data = net.file_of("RESHAPE", [source, shape], target, options=fields)
    assert_equal_to_litert(data, {"image": random_codes(net.rng, (3, 5, 4, 3))})


@pytest.mark.parametrize(
    ("begin", "end", "strides", "masks", "shape"),
    [
        ([0, 1, 1, 0], [0, 4, 3, 0], [1, 1, 1, 1], (9, 9), (3, 2, 3)),
        ([0, 0, 1, 1], [0, -1, 0, 0], [1, 2, 1, 1], (1, 13), (2, 3, 2)),
    ],
)
def test_strided_slice(begin, end, strides, masks, shape):
    net = Net(0)
    grid = {"scale": 0.1, "zero_point": 77}
    source = net.input("image", (5, 4, 3), **grid)
    bounds = {"begin": begin, "end": end, "strides": strides}
    constants = [net.constant(name, values, TensorType.INT32) for name, values in bounds.items()]
    target = net.tensor("codes", shape, **grid)
    fields = options("StridedSlice", beginMask=masks[0], endMask=masks[1])
    data = net.file_of("STRIDED_SLICE", [source, *constants], target, options=fields, version=2)
    image = random_codes(net.rng, (3, 5, 4, 3))
    outputs = assert_equal_to_litert(data, {"image": image})
    if masks == (9, 9):
        np.testing.assert_array_equal(outputs["xnnpack"]["codes"], image[:, 1:4, 1:3])


def test_arg_max_takes_the_first_of_equal_codes():
    net = Net(0)
    source = net.input("logits", (5,), scale=0.1)
    target = net.writer.tensor("class", (1,), TensorType.INT32, dynamic_batch=True)
    axis = net.constant("axis", np.array(1), TensorType.INT32)
    data = net.file_of(
        "ARG_MAX", [source, axis], target, options=options("ArgMax", outputType=TensorType.INT32), version=2
    )
    codes = [[0] * 5, [-128] * 5, [1, 7, 7, 7, 0], [-5, -9, -5, -128, -5], [0, 0, 0, 0, 127], [3, 2, 1, 3, 0]]
    outputs = assert_equal_to_litert(data, {"logits": np.array(codes, np.int8)})
    for rules in reference.RULES:
        assert outputs[rules]["class"].tolist() == [0, 0, 1, 0, 4, 0]
    wide = Net(1)
    source = wide.input("logits", (1000,), scale=0.1)
    target = wide.writer.tensor("class", (1,), TensorType.INT32, dynamic_batch=True)
    axis = wide.constant("axis", np.array([-1]), TensorType.INT32)
    data = wide.file_of(
        "ARG_MAX", [source, axis], target, options=options("ArgMax", outputType=TensorType.INT32), version=2
    )
    # A thousand codes of 256 values: the largest is there more than once.
    assert_equal_to_litert(data, {"logits": random_codes(wide.rng, (40, 1000))})


@pytest.mark.parametrize("kind", ["HARD_SWISH", "RELU", "RELU6"])
@pytest.mark.parametrize("ratio", [0.02, 0.4, 1.3, 10.0])
def test_curves_on_every_code(kind, ratio):
    for seed in range(40):
        net = Net(seed)
        source = net.input("before", (256,), scale=(scale := net.scale(0.002, 0.5)))
        target = net.tensor("codes", (256,), scale=scale / ratio)
        name = "HardSwish" if kind == "HARD_SWISH" else None
        data = net.file_of(
            kind,
            [source],
            target,
            options=name and options(name),
            version=2 if kind != "HARD_SWISH" else 1,
        )
        assert_equal_to_litert(data, {"before": EVERY_CODE})


def test_logistic_on_every_code():
    for seed in range(40):
        net = Net(seed)
        source = net.input("before", (256,), scale=net.scale(0.002, 0.5))
        target = net.tensor("codes", (256,), scale=1 / 256, zero_point=-128)
        assert_equal_to_litert(net.file_of("LOGISTIC", [source], target, version=2), {"before": EVERY_CODE})


@pytest.mark.parametrize("width", [2, 10, 1000])
def test_softmax(width):
    for seed in range(10):
        net = Net(seed)
        # Many logits on a fine grid make LiteRT's reference kernel abort the process.
        source = net.input("logits", (width,), scale=net.scale(0.05 if width > 500 else 0.005, 2.0))
        target = net.tensor("codes", (width,), scale=1 / 256, zero_point=-128)
        fields = options("Softmax", beta=float(net.rng.choice([1.0, 0.7])))
        data = net.file_of("SOFTMAX", [source], target, options=fields, version=2)
        codes = random_codes(net.rng, (40, width))
        # Rows of neighbouring codes too, whose probabilities are not all 0 or 1.
        codes[20:] = np.clip(net.rng.normal(0, 10, codes[20:].shape), -128, 127)
        assert_equal_to_litert(data, {"logits": codes})


def test_softmax_on_which_the_reference_kernel_aborts():
    net = Net(0)
    source = net.input("logits", (600,), scale=0.1)
    target = net.tensor("codes", (600,), scale=1 / 256, zero_point=-128)
    data = net.file_of("SOFTMAX", [source], target, options=options("Softmax", beta=1.0), version=2)
    equal = {"logits": np.zeros((1, 600), np.int8)}
    with pytest.raises(ValueError, match="sum up to 512"):
        reference.run(data, equal, rules="reference")
    assert_equal_to_litert(data, equal, ("xnnpack", "builtin"))


def test_hard_swish_on_too_fine_an_output_grid():
    net = Net(0)
    source = net.input("before", (256,), scale=0.5)
    target = net.tensor("codes", (256,), scale=0.5 / 200)
    data = net.file_of("HARD_SWISH", [source], target, options=options("HardSwish"))
    with pytest.raises(ValueError, match="128 times"):
        reference.run(data, {"before": EVERY_CODE})


def test_concatenation_of_other_grids_is_refused():
    net = Net(0)
    sources = [net.input(name, (4,), scale=scale) for name, scale in (("a", 0.1), ("b", 0.2))]
    target = net.tensor("codes", (8,), scale=0.1)
    data = net.file_of("CONCATENATION", sources, target, options=options("Concatenation", axis=1), version=2)
    with pytest.raises(ValueError, match="another grid"):
        reference.run(data, {name: np.zeros((1, 4), np.int8) for name in "ab"})
