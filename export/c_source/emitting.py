"""Steps as C: the structure that each kernel takes, its constants, and the call.

source = Source(graph)
emit(source, step, number, weight_bits=(2, 4, 8))
source.arrays, source.structures                    # what the template writes
"""

from mmx_tf.export.c_source import emitting_elements, emitting_moves
from mmx_tf.export.c_source.emitting_windows import weighted
from mmx_tf.export.c_source.source import Source


def emit(source: Source, step, number: int, *, weight_bits: tuple[int, ...]) -> None:
    """Adds the constants and the structure of a step.

    Args:
      step: a `program.Step` that knows its scratch memory.
      number: of the step.
      weight_bits: the widths in which weights may be stored.

    Raises:
      UnsupportedError: its numbers do not fit into the kernels' integers, or XNNPACK does not take it.
    """
    step.number = number
    if step.kind in ("conv", "depthwise"):
        weighted(source, step, number, weight_bits)
    else:
        _EMITTERS[step.kind](source, step, number)


_EMITTERS = {
    "argmax": emitting_moves.argmax,
    "average_pool": emitting_elements.pool,
    "bilinear": emitting_moves.bilinear,
    "binary": emitting_elements.binary,
    "from_codes": emitting_moves.from_codes,
    "map": emitting_moves.map_codes,
    "max_pool": emitting_elements.pool,
    "mean": emitting_elements.mean,
    "move": emitting_moves.move,
    "softmax": emitting_moves.softmax,
}
