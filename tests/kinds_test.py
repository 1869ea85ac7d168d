"""What is said of a kind of layer in one place is found in all the others: fold, file and messages."""

import pytest
import tf_keras as keras

from mmx_tf.export.reference.kernels import computes
from mmx_tf.export.writing import tflite
from mmx_tf.export.writing.context import WRITERS
from mmx_tf.folding.registry import HANDLERS
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.layers import FORMS, BinaryLayer, IntegerLayer
from mmx_tf.layers.integer.moving import IntegerSlice
from mmx_tf.layers.integer.shapes import IntegerConcatenate, IntegerMaxPool2D, IntegerPad
from mmx_tf.network.kinds import BUILDABLE, KINDS

GRID = Grid(0.1, 3)
IN_CANONICAL = [
    name
    for name, kind in KINDS.items()
    if not (kind.weighted or kind.rewritten or kind.dropped or kind.by_keras)
]


@pytest.mark.parametrize("kind", IN_CANONICAL)
def test_every_kind_of_a_canonical_network_is_folded_in_one_way(kind):
    assert (kind in HANDLERS) or (kind in FORMS)


def test_whatever_is_folded_is_a_kind():
    assert set(HANDLERS) | set(FORMS) <= set(KINDS)


def test_every_integer_layer_that_a_file_may_name_has_a_writer():
    assert tflite.WRITERS is WRITERS
    registered = [
        integer_layer
        for name, integer_layer in keras.saving.get_custom_objects().items()
        if name.startswith("mmx_tf>") and issubclass(integer_layer, IntegerLayer | BinaryLayer)
    ]
    assert len(registered) > 25
    assert [layer.__name__ for layer in registered if layer not in WRITERS] == []


def test_messages_name_what_a_user_can_build_with():
    assert {"Conv2D", "Average", "UpSampling2D", "Conv1D", "PReLU"} <= set(BUILDABLE)
    assert not {"InputLayer", "TFOpLambda", "SlicingOpLambda", "Slice", "RandomFlip"} & set(BUILDABLE)


@pytest.mark.parametrize(
    "layer",
    [
        IntegerPad(grid=GRID, padding=[[0, 1], [2, 3]], name="pad"),
        IntegerSlice(grid=GRID, begin=[0, 1], end=[2, 3], step=[1, 1], name="slice"),
        IntegerMaxPool2D(grid=GRID, pool_size=3, padding="same", name="pool"),
        IntegerConcatenate(grid=GRID, name="join"),
    ],
    ids=lambda layer: layer.name,
)
def test_settings_go_through_the_config(layer):
    twin = type(layer).from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    assert {name: getattr(twin, name) for name in layer.settings} == {
        name: getattr(layer, name) for name in layer.settings
    }


def test_strides_of_a_pooling_are_those_of_its_window_unless_given():
    assert IntegerMaxPool2D(grid=GRID, pool_size=3).strides == (3, 3)
    assert IntegerMaxPool2D(grid=GRID, pool_size=3, strides=(1, 2)).strides == (1, 2)
    assert IntegerMaxPool2D(grid=GRID).strides == (2, 2)


def test_a_setting_that_is_missing_is_named():
    with pytest.raises(TypeError, match="IntegerSlice 'part' is made without end, step."):
        IntegerSlice(grid=GRID, begin=(0, 0), name="part")


def test_an_operator_has_one_kernel_for_its_types():
    with pytest.raises(ValueError, match="PAD on .*INT8.* has a kernel already: .*pad"):
        computes("PAD")(lambda operator, inputs, rules: inputs[0])
