"""LSQ weight quantization as tfmot QuantizeConfigs, for tfmot's QuantizeWrapperV2.

>>> config = LsqWeightConfig(bits=4, per_channel=True)
>>> layer = quantize_weights(keras.layers.Conv2D(8, 3), config)
"""

import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import quantize_wrapper

from mmx_tf.layers import strided_pointwise
from mmx_tf.layers.as_written import AsWritten
from mmx_tf.layers.lsq import lsq
from mmx_tf.layers.quantizers.activation import add_step_sizes


class QuantizeWrapperV2(AsWritten, quantize_wrapper.QuantizeWrapperV2):
    """tfmot's wrapper, under tfmot's name: Keras finds the weights in a file by it."""


QuantizeWrapper = QuantizeWrapperV2
# tfmot does not register its wrapper, so that files with it would load inside of its scopes alone.
keras.saving.get_custom_objects()["QuantizeWrapperV2"] = QuantizeWrapper

KERNEL_ATTRIBUTES = {
    "Conv2D": "kernel",
    "Conv2DTranspose": "kernel",
    "DepthwiseConv2D": "depthwise_kernel",
    "Dense": "kernel",
}
"""Layer classes whose weights can be quantized, and the attribute that holds them."""


def kernel_attribute(layer: keras.layers.Layer) -> str | None:
    """Name of the attribute that holds a weighted layer's kernel; None for a layer of another class."""
    return KERNEL_ATTRIBUTES.get(type(layer).__name__)


def step_size_shape(layer: keras.layers.Layer, kernel_shape, *, per_channel: bool) -> tuple[int, ...]:
    """Shape of a kernel's step sizes: () or one per output channel with ones elsewhere."""
    if not per_channel:
        return ()
    channels = channels_shape(layer, kernel_shape)
    return (*([1] * (len(kernel_shape) - len(channels))), *channels)


def channels_shape(layer: keras.layers.Layer, kernel_shape) -> tuple[int, ...]:
    """The last axes of a kernel with its output channels, and 1 for every other axis.

    Kernels are (h, w, in, out) for Conv2D, (h, w, out, in) for Conv2DTranspose, (h, w, channels, multiplier)
    for DepthwiseConv2D and (in, out) for Dense. A number for each channel, in this shape, broadcasts over
    the kernel.
    """
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return tuple(kernel_shape[2:])
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return (kernel_shape[2], 1)
    return tuple(kernel_shape[-1:])


@keras.saving.register_keras_serializable(package="mmx_tf")
class LsqWeightQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
    """Symmetric LSQ quantizer of a weight tensor, codes +-(2^(b-1)-1).

    Attributes:
      bits: bit-width, an integer in 2..8.
      step_shape: shape of the step sizes, or None until the owner sets it (see `LsqWeightConfig`).
      step_size: variable (after build).
    """

    def __init__(self, *, bits: int):
        self.low, self.high = lsq.weight_code_range(bits)
        self.bits = int(bits)
        self.step_shape = ()
        self.step_size = None

    def build(self, tensor_shape, name, layer):
        """Adds the step sizes to the wrapper `layer`; returns them as tfmot expects."""
        self.step_size = add_step_sizes(layer, self.step_shape, f"{name}_step_size")
        return {"step_size": self.step_size}

    def __call__(self, inputs, training, weights, **kwargs):
        """Returns the kernel on its grid; shape unchanged."""
        scale = lsq.gradient_scale(inputs.shape.num_elements(), self.high)
        return lsq.fake_quantize(
            inputs, weights["step_size"], low=self.low, high=self.high, gradient_scale=scale
        )

    def initialize(self, kernel: tf.Tensor) -> None:
        """Sets the step sizes from a kernel by LSQ's rule 2 * mean|w| / sqrt(high)."""
        axes = [axis for axis, length in enumerate(self.step_shape) if length == 1] or None
        self.step_size.assign(lsq.initial_step_size(kernel, high=self.high, axes=axes))

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"bits": self.bits}


@keras.saving.register_keras_serializable(package="mmx_tf")
class LsqWeightConfig(tfmot.quantization.keras.QuantizeConfig):
    """tfmot QuantizeConfig that quantizes the kernel of a layer in `KERNEL_ATTRIBUTES`, nothing else.

    Activations have quantizers of their own in front of the layer, one per consumer.

    Attributes:
      bits: weight bit-width, an integer in 2..8.
      per_channel: one step size per output channel, else one for the tensor.
      quantizer: the `LsqWeightQuantizer`.
      kernel: the full-precision kernel variable (after the wrapper's build).
    """

    def __init__(self, *, bits: int, per_channel: bool):
        self.quantizer = LsqWeightQuantizer(bits=bits)
        self.bits = int(bits)
        self.per_channel = bool(per_channel)
        self.kernel = None

    def get_weights_and_quantizers(self, layer):
        """Returns [(kernel, quantizer)]; called once, by the wrapper's build."""
        self.kernel = getattr(layer, kernel_attribute(layer))
        # Here, because every wrapped layer comes by, also one that was loaded or copied.
        strided_pointwise.avoid_damage_in(layer)
        self.quantizer.step_shape = step_size_shape(layer, self.kernel.shape, per_channel=self.per_channel)
        return [(self.kernel, self.quantizer)]

    def set_quantize_weights(self, layer, quantize_weights):
        """Puts the quantized kernel in the layer's place for it, for one call."""
        setattr(layer, kernel_attribute(layer), quantize_weights[0])

    def get_activations_and_quantizers(self, layer):
        """Returns []: activations are not quantized by the wrapper."""
        return []

    def set_quantize_activations(self, layer, quantize_activations):
        """Does nothing: this layer has no such weights."""

    def get_output_quantizers(self, layer):
        """Returns []: outputs are not quantized by the wrapper."""
        return []

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"bits": self.bits, "per_channel": self.per_channel}


def quantize_weights(layer: keras.layers.Layer, config: LsqWeightConfig) -> keras.layers.Layer:
    """Wraps a weighted layer so that it computes with its kernel on the grid of `config`.

    Raises:
      ValueError: if the layer is not of a class in `KERNEL_ATTRIBUTES`.
    """
    if kernel_attribute(layer) is None:
        raise ValueError(
            f"layer {layer.name!r} of class {type(layer).__name__} has no kernel that can be quantized; "
            f"allowed: {', '.join(KERNEL_ATTRIBUTES)}."
        )
    return QuantizeWrapper(layer, config, dtype="float32")
