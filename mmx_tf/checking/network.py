"""Whether a network can be searched and exported, and on which kernels its file runs, layer by layer.

>>> found = check_network("float.keras")
>>> found.exportable, found.problems
(True, ())
"""

import dataclasses
import os

import numpy as np
import tf_keras as keras
from absl import logging

from mmx_tf.budget.bops import LayerCost
from mmx_tf.checking import forms
from mmx_tf.export.reading.micro_operators import Refusal, refusals
from mmx_tf.export.reading.summary import FileSummary, summarize
from mmx_tf.export.reading.tflite_file import parse
from mmx_tf.files.loading import loaded
from mmx_tf.folding.convert import convert
from mmx_tf.folding.fold import fold
from mmx_tf.folding.pixels import takes_bytes
from mmx_tf.folding.registry import refusal
from mmx_tf.metamix import augment_checks
from mmx_tf.metamix.augment import augment, plan
from mmx_tf.metamix.rebuild import rebuild
from mmx_tf.network import canonical, graph, keras3, subclassed
from mmx_tf.network.kinds import UnsupportedLayerError

CANDIDATES = (8, 4)
"""Bit-widths of the trial; what can be exported does not depend on them."""
WEIGHT_BITS = 4
ENDS = 8
EXAMPLES = 2
"""Random inputs that set the step sizes of the trial."""


@dataclasses.dataclass(frozen=True)
class LayerCheck:
    """One layer of the network as it is searched (`mmx_tf.network.canonical`), or as the user built it.

    Attributes:
      name, kind: of the layer and its class.
      shape: of its output, without the batch.
      cost: what it costs, if it has a kernel that is quantized.
      problem: why it cannot be searched or exported; "" where it can.
    """

    name: str
    kind: str
    shape: tuple
    cost: LayerCost | None = None
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class NetworkCheck:
    """What mmx_tf can do with a network.

    Attributes:
      name: of the network.
      inputs, outputs: shapes with the batch.
      layers: those that are searched where the network can be, else the user's own.
      problems: a sentence for each thing that has to be changed first, with what to do.
      file: what the file of an untrained trial holds, and where it runs; None where there are problems.
      takes_bytes: the layer by which it scales pixels of 0 to 255 itself; "" without such a layer.
      micro: what TensorFlow Lite Micro refuses in that file.
      c_source: that file as C source for microcontrollers (`export.c_source`).
      qonnx: that file as QONNX for FPGA flows (`export.qonnx`).
    """

    name: str
    inputs: tuple[tuple, ...]
    outputs: tuple[tuple, ...]
    layers: tuple[LayerCheck, ...]
    problems: tuple[str, ...] = ()
    file: FileSummary | None = None
    takes_bytes: str = ""
    micro: tuple[Refusal, ...] = ()
    c_source: forms.FormCheck | None = None
    qonnx: forms.FormCheck | None = None

    @property
    def exportable(self) -> bool:
        """Whether the network goes all the way to a file."""
        return not self.problems


def check_network(model: keras.Model | str | os.PathLike) -> NetworkCheck:
    """Checks whether a float network can be searched and exported, without data.

    It looks at every layer, and it exports a network of the same layers that was not searched or trained.

    Args:
      model: float network of tf_keras or Keras 3, or the path of its file.

    Raises:
      TypeError, FileNotFoundError, ValueError: if the file cannot be read (see `mmx_tf.load_model`).
    """
    name = getattr(model, "name", None) or str(model)
    try:
        model = loaded(model)
    except UnsupportedLayerError as error:
        return NetworkCheck(name, (), (), (), (str(error),))
    try:
        model = keras3.as_tf_keras(subclassed.as_functional(model))
    except ValueError as error:
        # What Keras 3 or the user's own Python has no layers of tf_keras for.
        return NetworkCheck(name, (), (), (), (str(error),))
    problems = dict(canonical.problems(model))
    try:
        network, (budget, *_) = _plan(model)
    except ValueError as error:
        name = getattr(error, "layer_name", "")
        problems.setdefault(name, str(error))
        return _described(model, _as_built(model, problems), problems)
    costs = {cost.name: cost for cost in budget.costs}
    problems |= {
        layer.name: f"Layer {layer.name!r} ({type(layer).__name__}): {_reason(layer)}"
        for layer in augment_checks.without_integer_form(network)
    }
    rows = [
        LayerCheck(layer.name, type(layer).__name__, tuple(layer.output_shape[1:]), costs.get(layer.name))
        for layer in (node.layer for node in graph.nodes(network))
    ]
    rows = [dataclasses.replace(row, problem=problems.get(row.name, "")) for row in rows]
    found = _described(model, rows, problems)
    if problems:
        return found
    data = _exported(model)
    file = parse(data)
    return dataclasses.replace(
        found,
        file=summarize(file),
        takes_bytes=takes_bytes(network) if _takes_images(network) else "",
        micro=refusals(file),
        c_source=forms.as_c_source(data),
        qonnx=forms.as_qonnx(data),
    )


def _reason(layer) -> str:
    return refusal(layer) or (
        "it has no integer form yet. Write it with layers that have one, such as convolutions, or move "
        "it out of the network, into the code that prepares the images or reads the outputs."
    )


def _takes_images(network) -> bool:
    return any(len(tensor.shape) == 4 and tensor.shape[-1] in (1, 3) for tensor in network.inputs)


def _plan(model):
    return plan(model, bit_widths=CANDIDATES, weight_bits=WEIGHT_BITS, first_last_bits=ENDS)


def _described(model, rows, problems) -> NetworkCheck:
    return NetworkCheck(
        model.name,
        tuple(tuple(tensor.shape) for tensor in model.inputs or ()),
        tuple(tuple(tensor.shape) for tensor in model.outputs or ()),
        tuple(rows),
        tuple(problems.values()),
    )


def _as_built(model, problems) -> list[LayerCheck]:
    """The rows of the user's own layers."""
    layers = [node.layer for node in graph.nodes(model)] if graph.is_network(model) else model.layers
    return [
        LayerCheck(
            layer.name,
            type(layer).__name__,
            tuple(getattr(layer, "output_shape", None) or ())[1:],
            problem=problems.get(layer.name, ""),
        )
        for layer in layers
    ]


def _exported(model) -> bytes:
    """The file of an untrained trial: step sizes are those of random inputs."""
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # What is warned of here concerns a search.
    try:
        search = augment(
            model, bit_widths=CANDIDATES, weight_bits=WEIGHT_BITS, target_average_bits=max(CANDIDATES)
        )
        random = np.random.default_rng(0)
        inputs = graph.single(
            [
                random.uniform(size=(EXAMPLES, *tensor.shape[1:])).astype(np.float32)
                for tensor in search.network.inputs
            ]
        )
        search(inputs, branch=0)
        fixed = rebuild(search, search.selection_of([0] * len(search.quantizers)))
        fixed(inputs)
        return convert(fold(fixed))
    finally:
        logging.set_verbosity(level)
