"""What stands for a tensor while a fixed network is folded, and the error for what cannot be.

It is either *codes* on a known grid, or an operator that is still *pending*: its output grid is that of the
quantizer that consumes it, and activation, batch norm, padding and the like are gathered until then.
"""

import dataclasses
import re

import tf_keras as keras

from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.layers import QuantizeInput
from mmx_tf.network.kinds import BUILDABLE


class FoldError(ValueError):
    """A layer of the fixed network that has no integer form, named with its class and the way out."""

    def __init__(self, layer: keras.layers.Layer, reason: str, *, advice: str | None = None):
        if advice is None:
            advice = f" Build the network with layers that can be: {', '.join(BUILDABLE)}."
        super().__init__(f"Layer {layer.name!r} ({type(layer).__name__}) cannot be folded: {reason}{advice}")


@dataclasses.dataclass
class Codes:
    """A tensor of int8 codes whose grid is known.

    `step_size` is that of training where the file holds the tensor in another `unit` (see `folding.clips`):
    its values are then `unit` times what its grid says. Without it they are what the grid says.
    """

    tensor: object
    grid: Grid
    nonnegative: bool
    bits: int = 8
    step_size: float | None = None

    @property
    def unit(self) -> float:
        """What the grid's numbers have to be multiplied by to be the tensor's values."""
        return 1.0 if self.step_size is None else self.step_size / self.grid.scale

    @property
    def trained_grid(self) -> Grid:
        """The grid in the values' own unit."""
        return self.grid if self.step_size is None else Grid(self.step_size, self.grid.zero_point)


@dataclasses.dataclass
class Pending:
    """An operator whose output grid is not known yet, with what is fused into it or follows on its grid.

    Attributes:
      emit: (output_grid, activation) -> codes tensor.
      source: the layer that the operator is made of; None for the image.
      fuses: whether the operator takes a fused activation.
      nonnegative: whether its values cannot be below zero, whatever is fused.
      cap: what its values are cut off at besides; the highest code of its output stands for it.
      knows_units: whether it can give its output in another unit (see `folding.clips`).
      unit: of its output.
    """

    emit: object
    source: keras.layers.Layer | None
    fuses: bool = True
    nonnegative: bool = False
    activation: str = "linear"
    cap: float | None = None
    knows_units: bool = False
    unit: float = 1.0
    batch_norm: keras.layers.Layer | None = None
    deferred: tuple = ()


class _ImageInput:
    """Emits the quantization of the image on the grid of its one consumer."""

    def __init__(self, image):
        self.image = image

    def __call__(self, output_grid, activation):
        return QuantizeInput(output_grid=output_grid, name=codes_name(self.image))(self.image)


def image(tensor) -> Pending:
    """What stands for the network's input: a quantization that waits for its grid."""
    return Pending(_ImageInput(tensor), None, fuses=False)


def materialize(pending: Pending, grid: Grid):
    """The codes tensor of a pending operator on `grid`."""
    try:
        tensor = pending.emit(grid, pending.activation)
    except FoldError:
        raise
    except ValueError as error:
        # Scales so far apart that XNNPACK has no multiplier for them: training has gone wrong.
        raise FoldError(pending.source or pending.emit.image.node.layer, str(error), advice="") from error
    for make_layer in pending.deferred:
        tensor = make_layer(grid)(tensor)
    return tensor


def on_same_grid(value, make_layer):
    """A layer that commutes with quantization: at once on codes, later on what is still pending."""
    if isinstance(value, Pending):
        value.deferred += (make_layer,)
        return value
    return dataclasses.replace(value, tensor=make_layer(value.grid)(value.tensor))


def codes_of(layer, value) -> Codes:
    """`value` as the codes that `layer` consumes.

    Raises:
      FoldError: if it has no grid.
    """
    if not isinstance(value, Codes):
        raise FoldError(layer, "its input has no grid; rebuild the network with carriers=True.")
    return value


def name_of(tensor) -> str:
    """Name of the layer that makes a symbolic tensor."""
    return tensor.node.layer.name


def codes_name(image) -> str:
    """Name of the layer that quantizes an input.

    Inputs may have any name, layers that are called only one that TensorFlow takes as a scope.
    """
    name = re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", name_of(image))
    return f"{name if re.match('[A-Za-z0-9.]', name) else 'input' + name}_codes"
