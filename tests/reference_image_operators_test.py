"""Operators on images of the reference interpreter against LiteRT's three sets of kernels."""

import numpy as np
import pytest
from small_files import (
    NONE,
    RELU,
    RELU6,
    RESOLVERS,
    SAME,
    VALID,
    Net,
    TensorType,
    assert_equal_to_litert,
    options,
    random_codes,
    run_litert,
)

from mmx_tf.export import reference
from mmx_tf.export.running import litert
from mmx_tf.export.running.partitions import delegated_ops

GRID = {"scale": 0.1, "zero_point": -7}
# Window, strides, padding, output size of an input of 5x4 pixels.
TRANSPOSED = [
    ((3, 3), (2, 2), SAME, (10, 8)),
    ((3, 3), (2, 2), VALID, (11, 9)),
    ((2, 2), (2, 2), SAME, (10, 8)),
    ((4, 5), (2, 3), SAME, (10, 12)),
    ((1, 3), (1, 1), SAME, (5, 4)),
    ((1, 2), (3, 2), VALID, (15, 8)),
    # Sizes that Keras's output_padding chooses.
    ((3, 3), (2, 2), SAME, (9, 7)),
    ((5, 3), (3, 2), VALID, (19, 10)),
]


def transposed(window, strides, padding, size, *, seed=0, batch=3, activation=NONE, per_channel=True):
    """(data, inputs) of a TRANSPOSE_CONV whose accumulators spread over the output grid."""
    net, (channels, filters) = Net(seed), (6, 9)
    source_scale = net.scale(0.01, 0.1)
    source = net.input("image", (5, 4, channels), scale=source_scale)
    weights, bias, scales = net.weights(
        "w", (filters, *window, channels), axis=0, source_scale=source_scale, per_channel=per_channel
    )
    shape = net.constant("shape", np.array([batch, *size, filters]), TensorType.INT32)
    spread = np.sqrt(np.prod(window) * channels) * 74 * 127 / np.sqrt(3)
    target = net.tensor("codes", (*size, filters), scale=source_scale * float(np.mean(scales)) * spread / 40)
    fields = {"padding": padding, "fusedActivationFunction": activation}
    fields |= {"strideH": strides[0], "strideW": strides[1]}
    data = net.file_of(
        "TRANSPOSE_CONV",
        [shape, weights, source, bias],
        target,
        options=options("TransposeConv", **fields),
        version=4,
    )
    return data, {"image": random_codes(net.rng, (batch, 5, 4, channels))}


@pytest.mark.parametrize("activation", [NONE, RELU, RELU6])
@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolutions(case, activation):
    data, inputs = transposed(*case, seed=activation, activation=activation)
    assert_equal_to_litert(data, inputs)
    assert delegated_ops(data).partitions == 1


def test_transposed_convolutions_with_one_scale():
    assert_equal_to_litert(*transposed(*TRANSPOSED[0], per_channel=False))


def test_rounding_of_transposed_convolutions_can_be_told_apart():
    differing = np.zeros(3)
    for seed in range(20):
        outputs = assert_equal_to_litert(*transposed(*TRANSPOSED[3], seed=seed, batch=8))
        even, up, away = (outputs[rules]["codes"].astype(int) for rules in reference.RULES)
        pairs = ((even, up), (up, away), (even, away))
        assert max(np.abs(one - other).max() for one, other in pairs) <= 1
        differing += [np.count_nonzero(one != other) for one, other in pairs]
    assert differing.all()


def test_windows_with_gaps_and_padding_are_left_to_the_builtin_kernel():
    data, inputs = transposed((1, 3), (2, 2), SAME, (10, 8), batch=2)
    outputs = assert_equal_to_litert(data, inputs)
    assert delegated_ops(data).partitions == 0
    assert np.array_equal(outputs["xnnpack"]["codes"], outputs["builtin"]["codes"])


def test_a_size_from_which_no_convolution_comes_is_named():
    data, inputs = transposed((3, 3), (2, 2), SAME, (13, 8))
    with pytest.raises(ValueError, match="input of .5, 4. pixels and an output of .13, 8."):
        reference.run(data, inputs)


@pytest.mark.parametrize("kernels", litert.KERNELS)
def test_a_runner_gives_a_transposed_convolution_any_batch(kernels):
    """LiteRT's own kernels take the batch that the file names, and no other."""
    data, inputs = transposed(*TRANSPOSED[0], batch=1)
    image = random_codes(np.random.default_rng(0), (7, 5, 4, 6))
    if kernels != "xnnpack":
        with pytest.raises(RuntimeError, match="SizeOfDimension"):
            run_litert(data, {"image": image}, kernels)
    found = litert.run(data, {"image": image}, batch_size=3, kernels=kernels)["codes"]
    single = np.concatenate([run_litert(data, {"image": part[None]}, kernels)["codes"] for part in image])
    np.testing.assert_array_equal(found, single)
    assert inputs["image"].shape[0] == 1 and data == bytes(data)


def resized(kind, size, places, *, image=(5, 4, 6), seed=0, batch=3):
    net = Net(seed)
    source = net.input("image", image, **GRID)
    target_size = net.constant("size", np.array(size), TensorType.INT32)
    target = net.tensor("codes", (*size, image[2]), **GRID)
    name = "ResizeBilinear" if kind == "RESIZE_BILINEAR" else "ResizeNearestNeighbor"
    fields = options(name, alignCorners=places == "corners", halfPixelCenters=places == "centers")
    data = net.file_of(kind, [source, target_size], target, options=fields, version=3)
    return data, {"image": random_codes(net.rng, (batch, *image))}


@pytest.mark.parametrize("places", ["centers", "corners", "edges"])
@pytest.mark.parametrize("kind", ["RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"])
def test_resizing(kind, places):
    rng = np.random.default_rng(0)
    for seed in range(12):
        size = tuple(int(length) for length in rng.integers(1, 40, 2))
        image = tuple(int(length) for length in rng.integers(1, 20, 3))
        data, inputs = resized(kind, size, places, image=image, seed=seed)
        assert_equal_to_litert(data, inputs)
        assert delegated_ops(data).partitions == (kind == "RESIZE_BILINEAR")


def test_mixed_pixels_by_hand():
    data, _ = resized("RESIZE_BILINEAR", (1, 4), "centers", image=(1, 2, 1))
    # A quarter and three quarters of the way from 0 to 100, to 2 and to -2, whose halves tell rules apart.
    image = np.int8([[0, 100], [0, 2], [0, -2]]).reshape(3, 1, 2, 1)
    outputs = assert_equal_to_litert(data, {"image": image})
    codes = {rules: outputs[rules]["codes"].reshape(3, 4).tolist() for rules in RESOLVERS}
    assert codes["xnnpack"] == [[0, 25, 75, 100], [0, 1, 2, 2], [0, 0, -1, -2]]
    assert codes["builtin"] == codes["reference"] == [[0, 25, 75, 100], [0, 1, 2, 2], [0, -1, -2, -2]]


@pytest.mark.parametrize("axes", [(0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1, 3)])
def test_transposition(axes):
    net, image = Net(0), (5, 4, 6)
    source = net.input("image", image, **GRID)
    target = net.tensor("codes", [image[axis - 1] for axis in axes[1:]], **GRID)
    permutation = net.constant("axes", np.array(axes), TensorType.INT32)
    data = net.file_of("TRANSPOSE", [source, permutation], target, options=options("Transpose"), version=2)
    codes = random_codes(net.rng, (3, *image))
    outputs = assert_equal_to_litert(data, {"image": codes})
    np.testing.assert_array_equal(outputs["xnnpack"]["codes"], codes.transpose(axes))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("groups", [2, 3, 6])
@pytest.mark.parametrize("window", [(3, 3), (1, 1)])
def test_convolutions_of_groups(window, groups, bits):
    net, (channels, filters) = Net(groups), (6, 12)
    dtype = TensorType.INT4 if bits == 4 else TensorType.INT8
    source = net.input("image", (9, 7, channels), scale=0.05)
    weights, bias, scales = net.weights(
        "w", (filters, *window, channels // groups), axis=0, source_scale=0.05, bits=bits, dtype=dtype
    )
    spread = np.sqrt(np.prod(window) * channels / groups) * 74 * 2 ** (bits - 1) / np.sqrt(3)
    target = net.tensor("codes", (1, 1, filters), scale=0.05 * float(np.mean(scales)) * spread / 40)
    fields = options("Conv2D", strideH=2, strideW=1, padding=SAME)
    data = net.file_of("CONV_2D", [source, weights, bias], target, options=fields, version=7)
    assert_equal_to_litert(data, {"image": random_codes(net.rng, (5, 9, 7, channels))})
    assert delegated_ops(data).partitions == (bits == 8)
