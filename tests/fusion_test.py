"""The steps that a run and a notebook train with: quantizers have taken over what is in front of them.

Nothing here calls what makes that possible (`mmx_tf.layers.fusion.initialize_before_tracing`): a caller that
forgets it, or a graph in which a quantizer does not find its batch norm, fails.
"""

from collections import Counter

import numpy as np
import pytest
import tf_keras as keras
from traced_steps import computed, steps_of

import mmx_tf
from mmx_tf.layers.batch_norm import FAST_FROM_ELEMENTS
from mmx_tf.layers.quantizers.activation import FUSED_FROM_ELEMENTS
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run import phases
from mmx_tf.workdir.workdir import Workdir

pytestmark = pytest.mark.broad

L = keras.layers
# What computes the output of a batch norm, of a ReLU or of a padding; a quantizer pads what it has quantized.
TAKEN_OVER = ("affine", "FusedBatchNormV3", "Relu", "Relu6", "Pad")
PADDED_CODES = ("depthwise_input_quantizer", "Pad")
NORMS = 3


def float_network():
    """Batch norm in front of a quantizer in three ways: with ReLU6 and padding, with ReLU, alone."""
    inputs = keras.Input((16, 16, 1))
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = L.BatchNormalization(name="stem_bn")(x)
    x = L.ReLU(6.0, name="stem_relu")(x)
    x = L.ZeroPadding2D(1, name="padding")(x)
    x = L.DepthwiseConv2D(3, use_bias=False, name="depthwise")(x)
    x = L.BatchNormalization(name="depthwise_bn")(x)
    x = L.ReLU(name="depthwise_relu")(x)
    x = L.Conv2D(8, 1, use_bias=False, name="project")(x)
    x = L.BatchNormalization(name="project_bn")(x)
    x = L.Conv2D(8, 1, name="last")(x)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, L.Dense(10, name="logits")(x), name="net")


def search_network():
    return mmx_tf.augment(float_network(), bit_widths=(8, 4), target_average_bits=6.0)


def fixed_network():
    """One that has seen no image."""
    search = search_network()
    return mmx_tf.rebuild(search, search.selection_of([1] * len(search.quantizers)))


def compiled(network):
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return network


def told(step) -> tuple[set[tuple[str, str]], Counter]:
    """What quantizers are to take over but the step computes, as (layer, operation), and all operations."""
    found = computed(step)
    left = {(scope.rpartition("/")[2], what) for scope, what in found if what in TAKEN_OVER}
    return left - {PADDED_CODES}, Counter(what for _, what in found)


def assert_search_is_fused(step):
    left, numbers = told(step)
    assert not left
    # A bit-meta step's loop over the branches, and a bit-search step: alpha needs no gradient of the stem.
    assert numbers["_moments"] == numbers["forward"] == 2 * NORMS
    assert numbers["normalized_backward"] == 2 * NORMS - 1


def assert_fixed_is_fused(step):
    left, numbers = told(step)
    assert not left
    assert numbers["_moments"] == numbers["normalized_backward"] == NORMS


def recipe_of(workdir):
    lines = [
        "--float_epochs=1", "--image_size=16", "--batch_size=32", "--steps_per_epoch=1", "--select_epochs=1",
        "--train_epochs=1", "--eval_images=32", f"--workdir={workdir}",
    ]  # fmt: skip
    return Recipe.from_flagfile("\n".join(lines))


def test_the_network_is_large_enough():
    """Small tensors are not worth it, and would pass for fused ones."""
    outputs = [layer.output for layer in float_network().layers if isinstance(layer, L.BatchNormalization)]
    assert len(outputs) == NORMS
    least = max(FAST_FROM_ELEMENTS, FUSED_FROM_ELEMENTS)
    assert all(output.shape[1:].num_elements() >= least for output in outputs)


@pytest.mark.slow
def test_a_run_searches_with_fused_quantizers(digits, tmp_path):
    recipe, search = recipe_of(tmp_path / "run"), search_network()
    steps = steps_of(search)
    phases.train_search(Workdir(recipe), recipe, digits, search)
    assert_search_is_fused(steps[0])


@pytest.mark.slow
def test_a_run_trains_weights_with_fused_quantizers(digits, tmp_path):
    recipe, fixed = recipe_of(tmp_path / "run"), fixed_network()
    steps = steps_of(fixed)
    phases.train_fixed(Workdir(recipe), recipe, digits, fixed)
    assert_fixed_is_fused(steps[0])


def test_fit_searches_with_fused_quantizers(digits):
    search = compiled(search_network())
    search.fit(digits.train(batch_size=32, seed=0).take(1), verbose=0)
    assert_search_is_fused(search.train_function)


def _arrays(images, labels):
    return images, labels


def _generator(images, labels):
    return iter([(images, labels)] * 2), None


@pytest.mark.parametrize("form", [_arrays, _generator])
def test_fit_trains_weights_with_fused_quantizers(digits, form):
    images, labels = next(iter(digits.train(batch_size=32, seed=0)))
    x, y = form(np.asarray(images), np.asarray(labels).astype(np.int64))
    fixed = compiled(fixed_network())
    fixed.fit(x, y, steps_per_epoch=1, verbose=0)
    assert_fixed_is_fused(fixed.train_function)


def test_what_is_traced_before_step_sizes_are_set_is_told(digits):
    """Keras's own `fit`, which sets none: the conditionals that set them read what is in front of them."""
    fixed = compiled(fixed_network())
    fixed.optimizer.build(fixed.trainable_variables)
    keras.Model.fit(fixed, digits.train(batch_size=32, seed=0).take(1), verbose=0)
    left, _ = told(fixed.train_function)
    assert left == {
        *((f"{name}_bn", "affine") for name in ("stem", "depthwise", "project")),
        ("stem_relu", "Relu6"),
        ("padding", "Pad"),
        ("depthwise_relu", "Relu"),
    }
