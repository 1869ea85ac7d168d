"""Small float networks that the tests share."""

import tf_keras as keras


def small_network(batch_norm=True):
    """Five weighted layers on 16x16 digits, with a depthwise layer, a residual and batch norm."""
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False, name="stem")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.8, name="stem_bn")(x) if batch_norm else x
    x = shortcut = keras.layers.ReLU(6.0, name="stem_relu")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = keras.layers.BatchNormalization(momentum=0.8, name="depthwise_bn")(x) if batch_norm else x
    x = keras.layers.ReLU(6.0, name="depthwise_relu")(x)
    x = keras.layers.Conv2D(6, 1, name="project")(x)
    x = keras.layers.Add(name="add")([x, shortcut])
    x = keras.layers.Conv2D(8, 1, name="expand")(x)
    x = keras.layers.ReLU(name="expand_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="logits")(x), name="small")
