"""The folded twin: close to the fixed network, equal to the file, for every kind of layer."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert import schema_py_generated as schema
from metadata_buffers import read_metadata
from networks import calibrated, fine_tuned, pretrained, small_network

import mmx_tf
from mmx_tf.folding.fold import FoldError, check_foldable
from mmx_tf.folding.weights import folded_weights
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.layers import IntegerLayer
from mmx_tf.layers.integer.weighted import IntegerAffine, WeightedLayer
from mmx_tf.layers.quantizers.weights import LsqWeightConfig, quantize_weights

INT8, INT4, INT2 = schema.TensorType.INT8, schema.TensorType.INT4, schema.TensorType.INT2
CHOICES = {"mixed": [1, 2, 0], "three": [2, 2, 2], "eight": [0, 0, 0]}


@pytest.fixture(scope="module")
def trained(digits):
    """A float network that has learnt something, so that its logits are no ties."""
    return pretrained(digits)


def check_exact(fixed, digits, *, weight_storage="int8"):
    """Folds, converts, verifies; every code of every tensor must be equal -> (folded, bytes, report)."""
    folded = mmx_tf.fold(fixed, weight_storage=weight_storage)
    content = mmx_tf.convert(folded, weight_storage=weight_storage, input_type="int8")
    report = mmx_tf.verify(folded, content, digits.evaluation(batch_size=90))
    assert [tensor for tensor in report.tensors if tensor.differing] == []
    assert report.code_disagreement == 0.0 and report.top1_agreement == 1.0
    assert report.eval_images == 360
    return folded, content, report


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_file_equals_folded_and_folded_is_close_to_fixed(digits, trained, choice):
    fixed = fine_tuned(trained, digits, choice=choice, steps=22)
    folded, _, report = check_exact(fixed, digits)
    assert (report.partitions, report.left_outside) == (1, ())
    evaluation = digits.evaluation(batch_size=90)
    images = np.concatenate([images for images, _ in evaluation])
    expected, found = fixed.predict(images, verbose=0), folded.predict(images, verbose=0)
    # Low bits amplify every code that the rounding of a bias or of a float32 sum flips, so the two agree in
    # what they know, not image by image.
    labels = np.concatenate([labels for _, labels in evaluation])
    accuracies = [(logits.argmax(1) == labels).mean() for logits in (expected, found)]
    assert min(accuracies) > 0.2 and abs(accuracies[0] - accuracies[1]) <= 0.03
    assert np.abs(expected - found).mean() < 0.1 * np.abs(expected).mean()


def test_searched_inputs_take_at_most_two_to_the_b_codes(digits):
    fixed = calibrated(small_network(), digits, choice=CHOICES["mixed"])
    folded, _, report = check_exact(fixed, digits)
    distinct = {tensor.name: tensor.distinct for tensor in report.tensors}
    bits = {layer.name: layer.activation_bits for layer in folded.layers if isinstance(layer, WeightedLayer)}
    assert bits == {"stem": 8, "depthwise": 4, "project": 3, "expand": 8, "logits": 8}
    for name in ("depthwise", "project"):
        source = folded.get_layer(name).input.node.layer.name
        assert 2 < distinct[source] <= 2 ** bits[name]


@pytest.mark.parametrize("weight_bits", [8, 4, 3, 2])
def test_weight_bits_and_int4_storage(digits, weight_bits):
    fixed = calibrated(small_network(), digits, weight_bits=weight_bits)
    folded, content, _ = check_exact(fixed, digits)
    highest, k = 2 ** (weight_bits - 1) - 1, 127 // (2 ** (weight_bits - 1) - 1)
    codes = folded.get_layer("project").weight_codes.numpy()
    assert np.all(codes % k == 0) and np.abs(codes // k).max() <= highest
    if weight_bits <= 4:
        small = mmx_tf.convert(mmx_tf.fold(fixed, weight_storage="int4"), weight_storage="int4")
        assert _weight_types(small) == {
            "stem": INT8,
            "depthwise": INT4,
            "project": INT4,
            "expand": INT4,
            "logits": INT8,
        }
        with pytest.raises(ValueError, match="folded for 'int8'"):
            mmx_tf.convert(folded, weight_storage="int4")
        # What XNNPACK takes is packed, and every code is still the folded model's.
        _, fast, report = check_exact(fixed, digits, weight_storage="int4_xnnpack")
        packed = {"project": INT4, "expand": INT4}
        assert _weight_types(fast) == {"stem": INT8, "depthwise": INT8, "logits": INT8} | packed
        assert report.partitions == 1


def test_two_bit_weights_ride_in_int2_where_xnnpack_takes_them(digits):
    fixed = calibrated(other_layers("swish_and_squeeze_excite"), digits, weight_bits=2)
    _, content, report = check_exact(fixed, digits, weight_storage="int4_xnnpack")
    packed = {"reduce": INT2, "gate": INT2}
    assert _weight_types(content) == dict.fromkeys(("first", "swish", "last", "logits"), INT8) | packed
    assert report.partitions == 1


def _weight_types(content):
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names = {tensor.name.decode(): tensor.type for tensor in model.subgraphs[0].tensors}
    return {name.removesuffix("/weights"): kind for name, kind in names.items() if name.endswith("/weights")}


def other_layers(kind):
    """A network around one kind of layer."""
    keras.utils.set_random_seed(8)
    layers = keras.layers
    inputs = keras.Input((16, 16, 1))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(inputs)
    if kind == "concatenate":
        x = layers.Concatenate(name="join")(
            [layers.Conv2D(4, 1, name="a")(x), layers.Conv2D(3, 1, name="b")(x)]
        )
    elif kind == "average_pooling":
        x = layers.AveragePooling2D(3, strides=2, padding="same", name="padded")(x)
        x = layers.AveragePooling2D(2, strides=1, name="windows")(layers.Conv2D(6, 1, name="a")(x))
        x = layers.MaxPooling2D(1, strides=2, name="subsampled")(x)
    elif kind == "max_pooling_padding_flatten":
        x = layers.ZeroPadding2D(((1, 0), (0, 1)), name="pad")(layers.MaxPooling2D(name="max")(x))
        x = layers.Dropout(0.2, name="drop")(layers.Flatten(name="flatten")(x))
        x = layers.Dense(12, use_bias=False, name="hidden")(x)
        x = layers.BatchNormalization(name="hidden_bn")(x)
        return keras.Model(inputs, layers.Dense(10, name="logits")(layers.ReLU(name="hidden_relu")(x)))
    elif kind == "separable":
        x = layers.SeparableConv2D(8, 3, strides=2, activation="relu", depth_multiplier=2, name="separable")(
            x
        )
    elif kind == "residual_downsample":
        left = layers.Conv2D(8, 3, strides=2, padding="same", name="left")(x)
        left = layers.Conv2D(8, 3, padding="same", name="left2")(layers.ReLU(name="left_relu")(left))
        x = layers.ReLU(name="sum_relu")(
            layers.Add(name="join")([left, layers.Conv2D(8, 1, 2, name="down")(x)])
        )
    elif kind == "batch_norm_and_relu_alone":
        left = layers.ReLU(name="relu1")(layers.BatchNormalization(name="bn1")(x))
        left = layers.Conv2D(6, 3, padding="same", name="branch")(left)
        x = layers.BatchNormalization(name="bn2")(layers.Add(name="join")([left, x]))
        x = layers.ReLU(6.0, name="relu2")(layers.MaxPooling2D(name="max")(x))
        x = layers.BatchNormalization(name="bn3")(x)
        x = layers.BatchNormalization(name="bn4")(layers.Concatenate(name="cat")([x, x]))
    elif kind == "multiply":
        gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
        gate = layers.ReLU(6.0, name="gate_relu")(layers.Conv2D(6, 1, name="gate")(gate))
        x = layers.ReLU(name="product_relu")(layers.Multiply(name="join")([x, gate]))
        x = layers.Multiply(name="square")([x, layers.Conv2D(6, 1, name="linear")(x)])
    elif kind == "dense_on_images_and_batch_norm_on_vectors":
        x = layers.Dense(5, activation="relu", name="dense")(x)
        x = layers.Flatten(name="flatten")(layers.MaxPooling2D(4, name="max")(x))
        x = layers.BatchNormalization(name="flat_bn")(x)
        x = layers.BatchNormalization(scale=False, name="bn")(
            layers.Dense(9, activation="relu6", name="h")(x)
        )
        return keras.Model(inputs, layers.Dense(10, name="logits")(x))
    elif kind == "operators":
        y = tf.nn.relu6(layers.Conv2D(6, 1, name="a")(x) + x)
        x = tf.concat([y, tf.nn.relu(layers.Conv2D(3, 1, name="b")(y))], axis=-1)
        x = layers.Conv2D(8, 3, name="last")(x)
        return keras.Model(inputs, layers.Dense(10, name="logits")(tf.reduce_mean(x, [1, 2])))
    elif kind == "swish_and_squeeze_excite":
        x = layers.Conv2D(8, 3, activation="swish", name="swish")(x)
        gate = layers.GlobalAveragePooling2D(name="squeeze")(x)
        gate = layers.Conv2D(4, 1, activation="swish", name="reduce")(layers.Reshape((1, 1, 8))(gate))
        x = layers.Multiply(name="excite")([x, layers.Conv2D(8, 1, activation="sigmoid", name="gate")(gate)])
    elif kind == "hard_swish_and_squeeze_excite":
        x = layers.BatchNormalization(name="bn")(layers.Conv2D(8, 3, name="c")(x))
        x = layers.Multiply(name="hard_swish")([x, tf.nn.relu6(x + 3.0) * (1 / 6)])
        gate = layers.Conv2D(8, 1, name="gate")(layers.GlobalAveragePooling2D(keepdims=True, name="s")(x))
        x = layers.Multiply(name="excite")([x, layers.ReLU(6.0)(gate + 3.0) / 6.0])
        # A gate that feeds a layer, and one on vectors.
        x = layers.Conv2D(8, 1, activation="hard_sigmoid", name="gated")(x)
        x = layers.Dense(12, activation="hard_sigmoid", name="h")(layers.GlobalAveragePooling2D()(x))
        return keras.Model(inputs, layers.Dense(10, name="logits")(x))
    elif kind == "gates_are_joined":
        y = layers.Conv2D(6, 1, activation="sigmoid", name="gate")(x)
        y = layers.Concatenate(name="join")([x, y, layers.Activation("hard_sigmoid")(y * 4.0 - 2.0)])
        # A vector as the gate of an image, as tutorials write squeeze-excite.
        gate = layers.Dense(18, activation="sigmoid", name="d")(layers.GlobalAveragePooling2D()(y))
        x = layers.Multiply(name="excite")([gate, y])
    elif kind == "crop_rescale_global_max":
        x = layers.Cropping2D(((1, 2), (0, 3)), name="crop")(layers.ZeroPadding2D(2, name="pad")(x))
        x = layers.Rescaling([1.0, -2.0, 0.5, 1.5, 1.0, 0.1], offset=0.25, name="rescaling")(x)
        x = layers.Conv2D(9, 3, activation="relu", name="c")(tf.nn.relu(x * 3.0 - 0.5))
        return keras.Model(inputs, layers.Dense(10, name="logits")(layers.GlobalMaxPooling2D(name="m")(x)))
    elif kind == "rescaling_reshape_softmax":
        inputs = keras.Input((16, 16, 1))
        x = layers.Conv2D(6, 3, strides=2, activation="relu6", name="first")(
            layers.Rescaling(0.5, 0.1)(inputs)
        )
        x = layers.Reshape((-1,), name="reshape")(x)
        return keras.Model(
            inputs, layers.Dense(10, activation="softmax", name="scores")(layers.Dense(8, name="h")(x))
        )
    x = layers.Conv2D(
        7, 2, dilation_rate=2 if kind != "average_pooling" else 1, activation="relu6", name="last"
    )(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(10, name="logits")(x))


KINDS = (
    "concatenate", "average_pooling", "max_pooling_padding_flatten", "separable", "residual_downsample",
    "batch_norm_and_relu_alone", "multiply", "dense_on_images_and_batch_norm_on_vectors", "operators",
    "swish_and_squeeze_excite", "hard_swish_and_squeeze_excite", "crop_rescale_global_max",
    "gates_are_joined",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer_is_exact(digits, kind):
    check_exact(calibrated(other_layers(kind), digits), digits)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (keras.layers.ReLU(4.0, 0.1, 1.0, name="odd"), "'odd' .ReLU.*threshold=1 and negative_slope=0.1"),
        (keras.layers.Softmax(axis=1, name="odd"), "'odd' .Softmax.*of axis 1"),
        (lambda x: tf.sin(x), "math.sin.*TFOpLambda.*no integer operator"),
    ],
)
def test_what_has_no_integer_form_is_named_with_the_reason(digits, layer, reason, caplog):
    inputs = keras.Input((16, 16, 1))
    x = layer(keras.layers.Conv2D(4, 3, name="first")(inputs))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(x))
    network = keras.Model(inputs, keras.layers.Dense(10)(x))
    with pytest.raises(FoldError, match="cannot be folded.*allow_unexportable"):
        mmx_tf.augment(network, bit_widths=(8, 4))
    with caplog.at_level("WARNING"):
        search = mmx_tf.augment(network, bit_widths=(8, 4), allow_unexportable=True)
    assert "has no integer form yet" in caplog.text
    with pytest.raises(FoldError, match=reason):
        check_foldable(mmx_tf.rebuild(search, search.selection_of([0])))


def test_rescaling_and_final_softmax(digits):
    """The image's rescaling stays in front of the file; the largest logit is the largest probability."""
    network = other_layers("rescaling_reshape_softmax")
    search = mmx_tf.augment(network, bit_widths=(8, 4))
    images = next(iter(digits.evaluation(batch_size=64)))[0]
    search(images, branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([0]))
    probabilities = fixed.predict(images, verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    folded, _, _ = check_exact(fixed, digits)
    agreement = folded.predict(images, verbose=0).argmax(1) == probabilities.argmax(1)
    assert agreement.mean() >= 0.95


def test_folded_model_saves_and_loads(digits, tmp_path):
    folded = mmx_tf.fold(calibrated(small_network(), digits))
    folded.save(tmp_path / "folded.keras")
    loaded = mmx_tf.load_model(tmp_path / "folded.keras")
    images = next(iter(digits.evaluation(batch_size=32)))[0]
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), folded.predict(images, verbose=0))
    assert mmx_tf.convert(loaded) == mmx_tf.convert(folded)


def test_fixed_model_is_folded_by_convert_and_bits_are_in_the_metadata(digits):
    fixed = calibrated(small_network(), digits, choice=CHOICES["mixed"])
    content = mmx_tf.convert(fixed)
    assert content == mmx_tf.convert(mmx_tf.fold(fixed))
    document = json.loads(read_metadata(content)["mmx_tf"])
    assert [layer["activation_bits"] for layer in document["layers"]] == [8, 4, 3, 8, 8]
    assert [layer["kind"] for layer in document["layers"]] == ["conv", "depthwise", "conv", "conv", "dense"]
    # MACs x activation bits x weight bits, by hand.
    bops = 3456 * 64 + 3456 * 4 * 4 + 2304 * 3 * 4 + 3072 * 8 * 4 + 80 * 64
    assert document["bops"] == bops and document["version"] == mmx_tf.__version__
    assert "labels" not in document and "target_bops" not in document
    more = mmx_tf.convert(fixed, labels=[f"digit {i}" for i in range(10)], target_bops=500_000)
    document = json.loads(read_metadata(more)["mmx_tf"])
    assert document["labels"][3] == "digit 3" and document["target_bops"] == 500_000
    with pytest.raises(ValueError, match="3 labels are given for 10 classes"):
        mmx_tf.convert(fixed, labels=["a", "b", "c"])


def test_no_carriers_or_float_layers_are_errors_that_name_the_layer(digits):
    search = mmx_tf.augment(small_network(), bit_widths=(8, 4))
    images = next(iter(digits.evaluation(batch_size=8)))[0]
    search(images, branch=0)
    with pytest.raises(FoldError, match="'add' .Add."):
        mmx_tf.fold(mmx_tf.rebuild(search, search.selection_of([0, 0, 0]), carriers=False))


def test_batch_norm_is_folded_by_hand():
    """One channel of gamma -2, one of gamma 0: signs go into the codes, a dead channel keeps its bias."""
    config = LsqWeightConfig(bits=4, per_channel=True)
    wrapper = quantize_weights(keras.layers.Conv2D(2, 1, name="conv"), config)
    wrapper.build((None, 4, 4, 1))
    config.kernel.assign([[[[0.3, 0.5]]]])
    config.quantizer.step_size.assign([[[[0.1, 0.25]]]])
    wrapper.layer.bias.assign([1.0, -1.0])
    norm = keras.layers.BatchNormalization(epsilon=0.0)
    norm.build((None, 4, 4, 2))
    norm.set_weights([np.array(v, np.float32) for v in ([-2.0, 0.0], [0.5, 0.75], [0.2, 0.0], [4.0, 1.0])])
    weights = folded_weights(wrapper, norm, Grid(0.05, 0), weight_storage="int8")
    # Channel 0: factor -2 / 2 = -1, code 3 -> -3 * 18 on scale 0.1 / 18; bias 0.5 - (1 - 0.2) = -0.3.
    assert weights.weight_codes[0, 0, 0, 0] == -54
    assert weights.weight_scales[0] == pytest.approx(0.1 / 18)
    assert weights.bias_codes[0] == round(-0.3 / (0.05 * 0.1 / 18))
    # Channel 1: factor 0, so it is its bias 0.75 alone.
    assert weights.weight_codes[0, 0, 0, 1] == 0
    assert weights.bias_codes[1] * 0.05 * float(weights.weight_scales[1]) == pytest.approx(0.75, rel=1e-4)


def test_folded_layers_are_all_integer(digits):
    folded = mmx_tf.fold(calibrated(small_network(), digits))
    codes = keras.Model(
        folded.inputs, [layer.output for layer in folded.layers if isinstance(layer, IntegerLayer)]
    )
    images = next(iter(digits.evaluation(batch_size=16)))[0]
    for tensor in codes.predict(images, verbose=0):
        np.testing.assert_array_equal(tensor, np.rint(tensor))
        assert tensor.min() >= -128 and tensor.max() <= 127


def test_a_rescaling_behind_a_padding_is_in_the_file(digits):
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Rescaling(2.0, offset=1.0, name="rescaling")(keras.layers.ZeroPadding2D()(inputs))
    x = keras.layers.Conv2D(4, 3, name="middle")(keras.layers.Conv2D(4, 3, activation="relu")(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    network = keras.Model(inputs, keras.layers.Dense(10)(x))
    folded, _, _ = check_exact(calibrated(network, digits), digits)
    assert isinstance(folded.get_layer("rescaling"), IntegerAffine)


def test_fold_and_convert_say_what_they_take():
    search = mmx_tf.augment(small_network(), bit_widths=(8, 4))
    for wrong, following in ((search, "mmx_tf.rebuild"), (small_network(), "mmx_tf.augment")):
        kind = type(wrong).__name__
        with pytest.raises(ValueError, match=f"fold got {kind} .*made by mmx_tf.rebuild.*{following}"):
            mmx_tf.fold(wrong)
        with pytest.raises(ValueError, match=f"convert got {kind} .*made by mmx_tf.fold.*{following}"):
            mmx_tf.convert(wrong)


def test_a_network_that_has_seen_no_image_and_an_unknown_storage_are_refused():
    search = mmx_tf.augment(small_network(), bit_widths=(8, 4))
    fixed = mmx_tf.rebuild(search, search.selection_of([0, 0, 0]))
    with pytest.raises(FoldError, match="has seen no image"):
        mmx_tf.fold(fixed)
    with pytest.raises(ValueError, match="weight_storage is 'int3'; use one of int8, int4, int4_xnnpack"):
        mmx_tf.fold(fixed, weight_storage="int3")
