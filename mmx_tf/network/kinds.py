"""The Keras layers that a network may have, and the error for one that it may not."""

import tf_keras as keras

WEIGHTED = ("Conv2D", "DepthwiseConv2D", "Dense")
SUPPORTED = (
    "InputLayer", "BatchNormalization", "ReLU", "Activation", "Softmax", "Add", "Multiply", "Concatenate",
    "GlobalAveragePooling2D", "AveragePooling2D", "MaxPooling2D", "ZeroPadding2D", "Cropping2D", "Flatten",
    "Reshape", "Dropout", "Rescaling", "TFOpLambda",
)  # fmt: skip
REWRITTEN = ("SeparableConv2D", "GlobalMaxPooling2D", "Normalization")
BINARY = ("Add", "Multiply")
PER_CHANNEL = ("BatchNormalization", "Normalization", "Rescaling")


class UnsupportedLayerError(ValueError):
    """A layer that cannot be handled, named with its class and the way out."""

    def __init__(self, layer: keras.layers.Layer, reason: str, advice: str):
        super().__init__(f"Layer {layer.name!r} ({type(layer).__name__}) {reason} {advice}")
        self.layer_name = layer.name
