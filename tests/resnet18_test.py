"""ResNet-18: layers, shapes, padding and parameters."""

import numpy as np
import pytest
import tf_keras as keras

from mmx_tf import models

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def imagenet():
    return models.build("resnet18", input_shape=(224, 224, 3), num_classes=1000)


def test_layers_and_shapes(imagenet):
    kinds = [type(layer).__name__ for layer in imagenet.layers]
    # A stem, 8 blocks of 2, and 3 shortcuts where the shape changes; the dense layer is the 18th.
    assert kinds.count("Conv2D") == 1 + 16 + 3
    assert (kinds.count("Add"), kinds.count("Dense"), kinds.count("MaxPooling2D")) == (8, 1, 1)
    shapes = {
        "conv1_conv": (112, 112, 64), "pool1_pool": (56, 56, 64), "conv2_block2_out": (56, 56, 64),
        "conv3_block1_0_conv": (28, 28, 128), "conv3_block2_out": (28, 28, 128),
        "conv4_block2_out": (14, 14, 256), "conv5_block2_out": (7, 7, 512),
    }  # fmt: skip
    for name, shape in shapes.items():
        assert imagenet.get_layer(name).output_shape == (None, *shape), name
    assert imagenet.output_shape == (None, 1000)


def test_parameters_by_hand(imagenet):
    # Stem 7*7*3*64; 3x3 kernels: four of 64*64, then per stage one from half the channels and three of its
    # own; shortcuts; classifier with bias.
    kernels = 9408 + 4 * 9 * 64 * 64
    kernels += sum(9 * n * (n // 2) + 3 * 9 * n * n + n * (n // 2) for n in (128, 256, 512))
    classifier = 512 * 1000 + 1000
    # gamma and beta, and as many statistics: 5 norms of 64 channels, 5 of each other stage.
    norms = 5 * (64 + 128 + 256 + 512)
    assert kernels + classifier + 2 * norms == 11_689_512
    assert imagenet.count_params() == 11_689_512 + 2 * norms


def test_every_strided_filter_pads_alike_on_all_sides(imagenet):
    """As in the original; "same" would put the zeros of an even image behind it only."""
    paddings = {"conv1_pad": 3, "pool1_pad": 1}
    paddings |= {f"conv{stage}_block1_1_pad": 1 for stage in (3, 4, 5)}
    found = {layer.name: layer.padding for layer in imagenet.layers if "_pad" in layer.name}
    assert found == {name: ((zeros, zeros),) * 2 for name, zeros in paddings.items()}
    for name in paddings:
        strided = name.replace("conv1_pad", "conv1_conv").replace("pool1_pad", "pool1_pool")
        strided = imagenet.get_layer(strided.replace("_1_pad", "_1_conv"))
        assert (strided.padding, tuple(strided.strides)) == ("valid", (2, 2))


def test_small_images_have_a_small_stem():
    network = models.build("resnet18", input_shape=(32, 32, 3), num_classes=10, width=0.25)
    # 3 * 3 * 3 * 16.
    assert network.get_layer("conv1_conv").count_params() == 432
    assert network.get_layer("conv2_block1_1_conv").input_shape == (None, 32, 32, 16)
    assert network.get_layer("conv5_block2_add").output_shape == (None, 4, 4, 128)
    assert not [layer for layer in network.layers if "pool1" in layer.name or layer.name == "conv1_pad"]


def test_a_block_by_hand():
    """With kernels of 0 in its convolutions a block is ReLU(input), or ReLU of the shortcut."""
    network = models.build("resnet18", input_shape=(16, 16, 1), num_classes=2, width=0.125)
    for layer in network.layers:
        if layer.name.endswith(("_1_conv", "_2_conv")):
            layer.set_weights([np.zeros_like(layer.get_weights()[0])])
    names = ["conv1_relu", "conv2_block2_out", "conv3_block1_0_bn", "conv3_block2_out"]
    probe = keras.Model(network.inputs, [network.get_layer(name).output for name in names])
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 1)).astype(np.float32)
    stem, second, shortcut, third = (values.numpy() for values in probe(images))
    assert stem.max() > 0 and shortcut.min() < 0 < shortcut.max()
    np.testing.assert_array_equal(second, stem)
    np.testing.assert_array_equal(third, np.maximum(shortcut, 0))


def test_keras_publishes_no_weights(imagenet):
    with pytest.raises(models.ModelError, match="no ImageNet weights of ResNet-18.*--float_model=FILE.keras"):
        models.load_imagenet_weights("resnet18", imagenet)
