"""What a file takes on a microcontroller, packed and with 8 bits everywhere, for reports and summaries.

facts = memory_facts(data)
facts["packed"]["ram_bytes"], facts["int8"]["live_bytes"]
"""

from mmx_tf.export.c_source.errors import UnsupportedError
from mmx_tf.export.c_source.writer import WIDTHS, c_source


def memory_facts(data: bytes) -> dict:
    """RAM and flash of the C source of a .tflite, as a document for JSON.

    Args:
      data: the contents of the file.

    Returns:
      {"packed": ..., "int8": ...}, each with `ram_bytes` of the arena, `flash_bytes` of the constants,
      `live_bytes` at each step, `steps` (the tensor that each computes), `peak` (the tensors that are live
      at the fullest step, the largest first) and `wide` (those of them that are stored in 8 bits). Or
      {"refused": reason} for a file that cannot become C source.
    """
    try:
        return {width: _facts(c_source(data, activations=width, weights=width)) for width in WIDTHS}
    except UnsupportedError as error:
        return {"refused": str(error)}


def _facts(made) -> dict:
    plan = made.plan
    steps = [step.output.name for step in made.program.steps]
    bits = {step.output.name: step.output.bits for step in made.program.steps}
    peak = [block.name for block in plan.live_at(plan.peak)]
    return {
        "ram_bytes": plan.bytes,
        "flash_bytes": made.flash_bytes,
        # Behind the last step the outputs are live alone.
        "live_bytes": list(plan.live[: len(steps)]),
        "steps": steps,
        "peak": peak,
        "wide": [name for name in peak if bits.get(name) == 8],
    }
