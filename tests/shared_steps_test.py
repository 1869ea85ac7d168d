"""Layers that read one tensor at equal bits, with one step size: quantizer, file and gradient."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter

import mmx_tf
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.metamix.shared_steps import shared_quantizers

pytestmark = pytest.mark.heavy

layers = keras.layers
EQUAL, OTHER = [1, 1, 1, 1], [1, 2, 1, 1]
"""Choices of 8, 4 and 3 bits for main, shortcut, second and expand."""


def two_readers():
    """A block whose input two convolutions read, and one whose input a convolution and an addition read."""
    inputs = keras.Input((16, 16, 1))
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="stem")(inputs)
    main = layers.Conv2D(8, 3, strides=2, padding="same", name="main")(x)
    shortcut = layers.Conv2D(8, 1, strides=2, name="shortcut")(x)
    x = layers.ReLU(name="first_relu")(layers.Add(name="first")([main, shortcut]))
    x = layers.Add(name="add")([x, layers.Conv2D(8, 3, padding="same", name="second")(x)])
    x = layers.ReLU(name="last_relu")(layers.Conv2D(8, 1, name="expand")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(10, name="logits")(x), name="two_readers")


@pytest.fixture(scope="module")
def search(digits):
    keras.utils.set_random_seed(2)
    search = mmx_tf.augment(two_readers(), bit_widths=(8, 4, 3))
    search(next(iter(digits.train(batch_size=64, seed=0)))[0], branch=1)
    return search


def operators(content):
    """How many operators of each kind a file has."""
    return collections.Counter(
        one["op_name"] for one in Interpreter(model_content=content)._get_ops_details()
    )


def fixed_network(search, choice, **options):
    """With its carriers' step sizes set by an image of noise."""
    fixed = mmx_tf.rebuild(search, search.selection_of(choice), **options)
    fixed(np.random.default_rng(0).uniform(-1, 1, (8, 16, 16, 1)).astype(np.float32))
    return fixed


def test_quantizers_of_one_tensor_and_equal_bits_are_told(search):
    def told(choice):
        selection = search.selection_of(choice)
        bits = {f"{one.name}_input_quantizer": one.activation_bits for one in selection.layers}
        return shared_quantizers(search.network, bits)

    assert told(EQUAL) == {"main_input_quantizer": "shortcut_input_quantizer"}  # in Keras's order of layers
    assert told(OTHER) == {}


def test_one_quantizer_takes_the_place_of_two_and_the_carrier_goes(search):
    own, shared = (fixed_network(search, EQUAL, share_step_sizes=share) for share in (False, True))
    names = [
        {one.name for one in net.layers if isinstance(one, ActivationQuantizer)} for net in (own, shared)
    ]
    assert names[0] - names[1] == {"main_input_quantizer", "stem_activation_carrier"}
    assert names[1] <= names[0] and "first_relu_carrier" in names[1]  # an addition reads that one too
    step = shared.get_layer("shortcut_input_quantizer").step_size
    assert step == search.quantizers["shortcut"].step_sizes[1]
    before, after = operators(mmx_tf.convert(own)), operators(mmx_tf.convert(shared))
    assert before["MUL"] - after["MUL"] == 2 and before.total() - after.total() == 2


def test_without_equal_bits_nothing_changes(search):
    own, shared = (fixed_network(search, OTHER, share_step_sizes=share) for share in (False, True))
    assert [layer.name for layer in own.layers] == [layer.name for layer in shared.layers]
    assert mmx_tf.convert(own) == mmx_tf.convert(shared)


def test_the_shared_step_gets_the_gradient_of_both_readers(search):
    """A sum of two readers: its gradient is the sum of what each alone would give."""
    images = np.random.default_rng(1).uniform(-1, 1, (4, 16, 16, 1)).astype(np.float32)

    def gradient(reads):
        """Of a sum over the readers' outputs, of a network without carriers, in full precision."""
        fixed = mmx_tf.rebuild(
            search,
            search.selection_of(EQUAL),
            quantized_weights=False,
            carriers=False,
            share_step_sizes=True,
        )
        outputs = [fixed.get_layer(name).output for name in reads]
        part = keras.Model(fixed.inputs, outputs)
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_sum(y) for y in tf.nest.flatten(part(images))])
        return tape.gradient(loss, fixed.get_layer("shortcut_input_quantizer").step_size).numpy()

    main, shortcut = gradient(["main"]), gradient(["shortcut"])
    assert main and shortcut and main != shortcut
    assert gradient(["main", "shortcut"]) == pytest.approx(main + shortcut, rel=1e-4)


@pytest.mark.parametrize("choice", [EQUAL, OTHER], ids=["equal", "other"])
def test_the_file_equals_the_folded_network(search, choice, digits):
    fixed = fixed_network(search, choice, share_step_sizes=True)
    folded = mmx_tf.fold(fixed)
    report = mmx_tf.verify(folded, mmx_tf.convert(folded), digits.evaluation(batch_size=90))
    assert report.code_disagreement == 0.0 and report.eval_images == 360
    assert [tensor for tensor in report.tensors if tensor.differing] == []


def test_it_goes_on_from_weights_in_full_precision(search, tmp_path):
    start = mmx_tf.rebuild(search, search.selection_of(EQUAL), quantized_weights=False, share_step_sizes=True)
    start.get_layer("shortcut_input_quantizer").set_step_size(0.37)
    fixed = mmx_tf.rebuild(search, search.selection_of(EQUAL), share_step_sizes=True, start=start)
    assert float(fixed.get_layer("shortcut_input_quantizer").step_size) == np.float32(0.37)
    fixed.save(tmp_path / "fixed.keras")
    loaded = keras.models.load_model(tmp_path / "fixed.keras")
    images = np.zeros((1, 16, 16, 1), np.float32)
    np.testing.assert_array_equal(loaded(images).numpy(), fixed(images).numpy())
