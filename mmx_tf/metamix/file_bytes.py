"""A budget in bytes of the .tflite: what a layer's weights take at each of their bit-widths, and all else.

The bytes of weights follow from how they are stored (`layers.integer.storage`): with packed storage two or
four codes of at most 4 bits share a byte. What else is in the file (biases, scales, operators, names,
metadata, the weights of first and last layers) hardly depends on the bits. It is measured: a file is written
of the network as it stands, and its searched weights are taken off. The choice of that file has the most
operators that a choice can have (clips of few activation bits, convolutions of unpacked weights), so that
what is counted is never less than the file.

>>> costs = costs_in_bytes(search, {"weight_storage": "int4_xnnpack"})
>>> costs.of([0, 0, 0]) >= costs.of([1, 1, 1])     # at least the bytes of the choice's file, and little more
True
"""

from collections.abc import Mapping, Sequence

from mmx_tf.choices import STORAGES
from mmx_tf.folding.bias import layer_container
from mmx_tf.folding.convert import convert
from mmx_tf.layers.integer.storage import CODES_PER_BYTE, check_storage
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.multi_branch_weights import kernel_of
from mmx_tf.metamix.rebuild import rebuild
from mmx_tf.metamix.search import SearchModel, quantizer_name
from mmx_tf.recipe.candidate_costs import CandidateCosts

UNIT = "bytes"
ALIGNMENT = 16
"""What the place of a buffer in the file is a multiple of; padding in front of it depends on its size."""
PACKED = tuple(storage for storage in STORAGES if storage != "int8")


def costs_in_bytes(search: SearchModel, convert_options: Mapping) -> CandidateCosts:
    """The bytes of the file as a cost.

    Args:
      search: a search of weight bits; it is left untouched.
      convert_options: arguments of `mmx_tf.convert` that the file will be made with, `weight_storage` first
        of all, and what else is in the file, such as `labels`.

    Raises:
      ValueError: for options that are no mapping, a storage outside `PACKED`, without which weights
        of all widths take one byte, and values that `convert` refuses.
      TypeError: for an option that `convert` does not have.
      FoldError: for a network that cannot be exported.
    """
    check_options(convert_options)
    storage = convert_options.get("weight_storage", "int8")
    check_storage(storage)
    if storage not in PACKED:
        raise ValueError(
            f"target_bytes with weight_storage {storage!r}, in which weights of all bit-widths take one "
            f"byte: give convert_options={{'weight_storage': ...}} with one of "
            f"{', '.join(map(repr, PACKED))}, and the same to fold and convert."
        )
    budget = search.budget
    table = tuple(
        tuple(_weight_bytes(search.network.get_layer(cost.name), bits, storage) for bits, _ in budget.pairs)
        for cost in budget.searched
    )
    largest = budget.pairs.index((max(budget.weight_bit_widths), min(budget.bit_widths)))
    measured = len(TrialFiles(search, [largest] * len(table), convert_options).file())
    # Weights of other sizes, and the metadata with other figures, may be padded otherwise.
    padding = ALIGNMENT * (len(table) + 1)
    return CandidateCosts(UNIT, table, measured - sum(row[largest] for row in table) + padding)


def check_options(convert_options: Mapping) -> None:
    """Refuses (ValueError) anything but a dict of arguments."""
    if not isinstance(convert_options, Mapping):
        raise ValueError(
            f"convert_options={convert_options!r}: a dict of convert's arguments, such as "
            "{'weight_storage': 'int4_xnnpack'}."
        )


def _weight_bytes(layer, bits: int, storage: str) -> int:
    kernel = kernel_of(layer)
    container = layer_container(layer, kernel.shape, bits, storage)
    return -(-kernel.shape.num_elements() // CODES_PER_BYTE[container])


class TrialFiles:
    """Files of a search network as it stands, with step sizes of no meaning.

    Attributes:
      search: it is left untouched.
      convert_options: arguments of `mmx_tf.convert`.
    """

    def __init__(self, search: SearchModel, choice: Sequence[int], convert_options: Mapping):
        """Rebuilds the network at a choice: the candidate's index for every searched layer."""
        self.search, self.convert_options = search, convert_options
        self._fixed = rebuild(search, search.selection_of(choice))
        quantizers = [layer for layer in self._fixed.layers if isinstance(layer, ActivationQuantizer)]
        # Equal grids, as those of quantizers that have seen no image, would spare operators between them.
        self._steps = {quantizer.name: 0.05 * 1.01**index for index, quantizer in enumerate(quantizers)}
        for quantizer in quantizers:
            quantizer.set_step_size(self._steps[quantizer.name])

    def file(self) -> bytes:
        """The file of the network as it is now."""
        return convert(self._fixed, **self.convert_options)

    def with_activation_bits(self, bits: Sequence[int]) -> bytes:
        """The file with other bits of the L searched layers' inputs; rebuilding takes five times as long."""
        for cost, of_layer in zip(self.search.budget.searched, bits, strict=True):
            quantizer = self._fixed.get_layer(quantizer_name(cost.name))
            quantizer.set_bits(of_layer)
            # All widths cover about the range of 8 bits: in a small part of it two grids give equal codes.
            quantizer.set_step_size(self._steps[quantizer.name] * 2.0 ** (8 - of_layer))
        return self.file()
