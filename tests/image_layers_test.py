"""Transposed and grouped convolutions, resizing, slices, differences: from Keras to an exact file."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import calibrated

import mmx_tf
from mmx_tf.budget.bops import layer_costs
from mmx_tf.export import inspect
from mmx_tf.export.comparing.certificate import certify
from mmx_tf.export.reference import RULES
from mmx_tf.folding.fold import FoldError, check_foldable
from mmx_tf.network.canonical import UnsupportedLayerError, canonicalize

pytestmark = pytest.mark.broad

L = keras.layers


def bn_relu(x):
    return L.ReLU()(L.BatchNormalization()(x))


def transposed(x):
    """Windows above, at and below their strides; a batch norm, a fused activation, none."""
    x = bn_relu(L.Conv2DTranspose(5, 3, 2, padding="same", use_bias=False, name="up")(L.MaxPooling2D(4)(x)))
    x = L.Conv2DTranspose(4, (1, 3), 2, padding="same", activation="relu6", name="gaps")(x)
    y = L.Conv2DTranspose(4, 1, (2, 3), padding="same", name="pixels")(L.MaxPooling2D(4)(x))
    y = L.Conv2DTranspose(6, (3, 4), (3, 1), output_padding=(1, 0), activation="relu", name="valid")(y)
    z = L.Conv2DTranspose(6, 5, 2, padding="same", output_padding=(1, 1), name="padded")(L.Conv2D(5, 3)(x))
    return L.Concatenate()([L.GlobalAveragePooling2D()(y), L.GlobalAveragePooling2D()(z)])


def nearest(x):
    x = L.UpSampling2D((2, 3), name="up")(L.Conv2D(8, 3, 3, activation="relu")(x))
    x = L.Conv2D(5, 3, activation="relu")(x)
    # 8 and 7 are joined in two steps.
    x = L.Conv2D(5, 3, 3)(L.UpSampling2D((1, 8), name="wide")(L.UpSampling2D((3, 1), name="high")(x)))
    return L.GlobalAveragePooling2D()(L.Resizing(16, 7 * 34, "nearest", name="resized")(x))


def other_nearest(x):
    x = L.Conv2D(5, 3)(L.Resizing(25, 16, "nearest", name="larger")(L.Conv2D(5, 3)(x)))
    return L.GlobalAveragePooling2D()(tf.image.resize(x, (9, 11), method="nearest"))


def bilinear(x):
    y = L.UpSampling2D(2, interpolation="bilinear", name="up")(L.Conv2D(6, 3, 2, activation="relu")(x))
    y = tf.image.resize(L.Conv2D(6, 3)(y), [9, 11]) + L.Resizing(9, 11, name="resized")(x)
    y = tf.compat.v1.image.resize_bilinear(y, (5, 8), align_corners=True)
    return L.GlobalAveragePooling2D()(L.Conv2D(5, 3)(y))


def differences(x):
    y = L.Conv2D(6, 1, name="y")(x)
    a = L.ReLU()(L.Subtract(name="a")([y, x]))
    b = L.Conv2D(6, 1)(x - y)
    c = L.Average(name="c")([a, b])
    d = L.ReLU(6.0)(L.Average(name="d")([a, y, L.MaxPooling2D(3, 1, padding="same")(x), c]))
    return L.GlobalAveragePooling2D()(L.Conv2D(5, 3)(c) + L.Conv2D(5, 3)(d))


def extremes(x):
    y, z = L.Conv2D(6, 1)(x), L.Conv2D(6, 3, padding="same")(x)
    a = L.Maximum(name="largest")([x, y, z])
    b = L.ReLU()(tf.minimum(y, tf.maximum(x, z)))
    c = L.Minimum(name="smallest")([a, L.Conv2D(6, 1)(b)])
    return L.GlobalAveragePooling2D()(L.Conv2D(5, 3)(c))


def moved(x):
    y = L.Permute((2, 3, 1), name="permuted")(L.Conv2D(6, 1)(x))
    y = tf.transpose(L.Conv2D(6, 3, padding="same")(y), (0, 3, 1, 2))
    z = x[:, ::2, 1:-1] - L.Conv2D(6, 1)(x)[:, 1::2, :14]
    z = L.Concatenate()([z[..., :2], z[..., 3:], z[:, :, :, 1:2]])
    w = L.Reshape((16, 6, 1))(x[:, 3])[:, ::3, None, ..., 0][:, :, 0]
    w = tf.strided_slice(x, [0, 1, 0, 0], [0, 12, 16, 5], [1, 2, 3, 1], begin_mask=1, end_mask=1)
    w = tf.slice(w, [0, 1, 0, 1], [-1, 3, -1, 4])
    joined = [L.GlobalAveragePooling2D()(L.Conv2D(5, 3)(value)) for value in (y, z, w)]
    return L.Concatenate()(joined)


def channel_steps(x):
    return L.GlobalAveragePooling2D()(L.Conv2D(5, 3)(x[..., ::2]))


def pooled(x):
    y = L.AveragePooling2D((3, 2), (2, 1), name="windows")(x)
    gate = L.AveragePooling2D((14, 15), (14, 5), name="image")(L.Conv2D(6, (3, 2))(x))
    y = L.Multiply()([y, L.Conv2D(6, 1, activation="sigmoid")(gate)])
    return L.GlobalAveragePooling2D()(L.Conv2D(5, 3)(y))


def padded_pooling(x):
    return L.GlobalAveragePooling2D()(L.Conv2D(5, 3)(L.AveragePooling2D((3, 4), (2, 1), padding="same")(x)))


def groups(x):
    x = L.Conv2D(12, 3, groups=2, activation="relu", name="two")(x)
    x = bn_relu(L.Conv2D(9, 1, groups=3, strides=2, use_bias=False, name="pointwise")(x))
    return L.GlobalAveragePooling2D()(L.Conv2D(18, 3, groups=9, activation="relu6", name="channels")(x))


OUTSIDE = {
    "other_nearest": ["RESIZE_NEAREST_NEIGHBOR"] * 2,
    "channel_steps": ["STRIDED_SLICE"],
    "padded_pooling": ["AVERAGE_POOL_2D"],
}
BODIES = (
    transposed, nearest, other_nearest, bilinear, differences, extremes, moved, channel_steps, pooled,
    padded_pooling, groups,
)  # fmt: skip


def network(body):
    keras.utils.set_random_seed(8)
    inputs = keras.Input((16, 16, 1))
    x = L.Conv2D(6, 3, padding="same", activation="relu", name="first")(inputs)
    return keras.Model(inputs, L.Dense(10, name="logits")(body(x)), name=body.__name__)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_networks_are_exact(body, digits):
    float_network = network(body)
    images = np.concatenate([images for images, _ in digits.evaluation(batch_size=90)])[:64]
    np.testing.assert_allclose(
        canonicalize(float_network)(images), float_network(images), rtol=1e-4, atol=1e-5
    )
    fixed = calibrated(float_network, digits)
    folded = mmx_tf.fold(fixed)
    data = mmx_tf.convert(folded, input_type="int8")
    report = mmx_tf.verify(folded, data, digits.evaluation(batch_size=90))
    assert [tensor for tensor in report.tensors if tensor.differing] == []
    assert (report.code_disagreement, report.top1_agreement, report.eval_images) == (0.0, 1.0, 360)
    outside = OUTSIDE.get(body.__name__, [])
    assert [kind for _, kind in report.left_outside] == outside and report.partitions == 1 + len(outside)
    # Every operator's rounding is known, in LiteRT's other kernels too.
    certificate = certify(
        folded, data, digits.evaluation(batch_size=90), kernels=RULES, max_images=(90, 30, 8)
    )
    assert certificate.runtimes["xnnpack"].differing == 0 and not certificate.unable
    for runtime in certificate.runtimes.values():
        assert all(operator.rules for operator in runtime.operators)
    summary = inspect.summary(data)
    assert summary.faults == ()
    ones = mmx_tf.count_bops(float_network, weight_bits=1, activation_bits=1, first_last_bits=1)
    assert sum(layer.macs for layer in summary.layers) == ones


def test_the_canonical_network_has_one_form_of_each():
    kinds = {
        body.__name__: [type(layer).__name__ for layer in canonicalize(network(body)).layers]
        for body in BODIES
    }
    assert kinds["nearest"].count("NearestResize") == 4
    assert kinds["bilinear"].count("BilinearResize") == 4
    assert kinds["extremes"].count("Maximum") == 3 and kinds["extremes"].count("Minimum") == 2
    assert kinds["differences"].count("ScaledAdd") == 2 and kinds["differences"].count("Subtract") == 2
    assert kinds["moved"].count("Permute") == 2 and kinds["moved"].count("Slice") == 7
    assert kinds["pooled"].count("GlobalAveragePooling2D") == 2
    # One group a channel.
    assert kinds["groups"].count("DepthwiseConv2D") == 1 and kinds["groups"].count("Conv2D") == 3
    for names in kinds.values():
        assert not {"UpSampling2D", "Resizing", "Average", "TFOpLambda", "SlicingOpLambda"} & set(names)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda x: x[:2], "of the batch"),
        (lambda x: x[None], "in front of the batch"),
        (lambda x: x[:, ::-1], "in steps of -1"),
        (lambda x: x[:, 3:3], "from 3 to 3"),
        (lambda x: x[:, tf.reduce_sum(tf.cast(x, tf.int32))], "slice that cannot be handled"),
    ],
)
def test_slices_that_are_refused(body, reason):
    inputs = keras.Input((16, 16, 1))
    with pytest.raises(UnsupportedLayerError, match=rf"getitem.*SlicingOpLambda.*{reason}.*whole batches"):
        canonicalize(keras.Model(inputs, body(inputs)))


def test_a_dilated_transposed_convolution_is_refused():
    def dilated(x):
        return L.GlobalAveragePooling2D()(L.Conv2DTranspose(3, 3, dilation_rate=2, name="odd")(x))

    with pytest.raises(FoldError, match="'odd' .Conv2DTranspose.*has none: use .*allow_unexportable"):
        mmx_tf.augment(network(dilated), bit_widths=(8, 4))
    search = mmx_tf.augment(network(dilated), bit_widths=(8, 4), allow_unexportable=True)
    with pytest.raises(FoldError, match=r"'odd' .*dilation_rate=.2, 2.*TRANSPOSE_CONV has none"):
        check_foldable(mmx_tf.rebuild(search, search.selection_of([0])))


def test_operations_by_hand():
    """Each of 4x4 pixels takes a whole kernel of 3x3; a filter of 5 groups has a fifth of the channels."""
    inputs = keras.Input((4, 4, 6))
    x = L.Conv2DTranspose(5, 3, 2, name="up")(inputs)
    x = L.Conv2D(10, 1, groups=5, name="groups")(x)
    model = keras.Model(inputs, L.Dense(2, name="end")(L.GlobalAveragePooling2D()(x)))
    costs = {cost.name: cost for cost in layer_costs(canonicalize(model))}
    # One group a channel has become depthwise.
    assert [cost.kind for cost in costs.values()] == ["transposed", "depthwise", "dense"]
    assert costs["up"].macs == 4 * 4 * 3 * 3 * 5 * 6 and costs["up"].weights == 270
    assert costs["groups"].macs == 9 * 9 * 10 and costs["groups"].weights == 10
    assert costs["up"].input_elements == 96
    # First and last at 8 bits, the middle at 3 and 2.
    bops = costs["up"].macs * 64 + costs["groups"].macs * 3 * 2 + 20 * 64
    assert mmx_tf.count_bops(model, activation_bits=3, weight_bits=2) == bops
    two = keras.Sequential([keras.Input((4, 4, 6)), L.Conv2D(4, (3, 2), groups=2, name="two"), L.Flatten()])
    (cost,) = layer_costs(canonicalize(two))
    assert (cost.kind, cost.macs, cost.weights) == ("conv", 2 * 3 * 72, 3 * 2 * 3 * 4)


def test_channels_of_a_transposed_convolution_keep_their_batch_norm():
    """At 8 bits the folded network is close to the fixed one, whatever sign and size the batch norm gives."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(6, 3, padding="same", name="first")(inputs)
    x = L.BatchNormalization(name="bn")(L.Conv2DTranspose(5, 3, 2, padding="same", name="up")(x))
    model = keras.Model(inputs, L.Conv2D(4, 1, name="last")(x))
    rng = np.random.default_rng(0)
    gamma = np.array([-3.0, 0.1, 1.0, -0.5, 8.0])
    model.get_layer("bn").set_weights([gamma, *rng.normal(size=(2, 5)), rng.uniform(0.5, 2.0, 5)])
    search = mmx_tf.augment(model, bit_widths=(8, 4), weight_bits=8)
    images = rng.normal(size=(32, 8, 8, 3)).astype(np.float32)
    search(images, branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([0]))
    config = next(layer for layer in fixed.layers if layer.name.endswith("up")).quantize_config
    assert config.quantizer.step_size.shape == (1, 1, 5, 1)
    fixed(images)
    expected = fixed.predict(images, verbose=0)
    found = mmx_tf.fold(fixed).predict(images, verbose=0)
    assert np.abs(found - expected).mean() < 0.02 * np.abs(expected).mean()
    assert np.abs(model.predict(images, verbose=0) - expected).mean() < 0.1 * np.abs(expected).mean()


@pytest.mark.slow
def test_weight_bits_of_transposed_and_grouped_convolutions_are_searched(digits):
    def body(x):
        x = L.Conv2DTranspose(6, 2, 2, activation="relu", name="up")(L.Conv2D(8, 3, 2, name="down")(x))
        return L.GlobalAveragePooling2D()(L.Conv2D(8, 3, groups=2, activation="relu", name="groups")(x))

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    search = mmx_tf.augment(
        network(body), bit_widths=(8, 4), weight_bits=(8, 4), target_bytes=4_800,
        convert_options={"weight_storage": "int4"},
    )  # fmt: skip
    search.compile(optimizer="sgd", loss=loss)
    search.fit(digits.train(batch_size=64, seed=0).take(3), epochs=2, verbose=0)
    shapes = {name: quantizer.step_shape for name, quantizer in search.weight_quantizers.items()}
    assert shapes == {"down": (1, 1, 1, 8), "up": (1, 1, 6, 1), "groups": (1, 1, 1, 8)}
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fixed.compile(optimizer="sgd", loss=loss)
    fixed.fit(digits.train(batch_size=64, seed=0).take(3), verbose=0)
    folded = mmx_tf.fold(fixed, weight_storage="int4")
    containers = {layer.name: layer.container for layer in folded.layers if hasattr(layer, "container")}
    assert containers["up"] == "int8"
    assert len(mmx_tf.convert(folded, weight_storage="int4")) <= 4_800
    exact = mmx_tf.fold(fixed)
    report = mmx_tf.verify(exact, mmx_tf.convert(exact, input_type="int8"), digits.evaluation(batch_size=90))
    assert (report.code_disagreement, report.partitions, report.left_outside) == (0.0, 1, ())


def test_the_folded_graph_trains_with_the_biases_of_transposed_convolutions(digits):
    fixed = calibrated(network(transposed), digits)
    images = next(iter(digits.evaluation(batch_size=64)))[0]
    folded, on_graph = mmx_tf.fold(fixed), mmx_tf.fold_for_training(fixed)
    for name in ("up", "gaps", "valid", "padded"):
        rounding = next(layer for layer in on_graph.layers if layer.name == f"{name}_bias_rounding")
        np.testing.assert_array_equal(rounding.folded_bias().codes, folded.get_layer(name).bias_codes)
    found = on_graph.predict(images, verbose=0)
    assert np.mean(found == folded.predict(images, verbose=0)) > 0.95
