"""The members of an mmx_output and an mmx_add: how a step's accumulators become slot codes in C."""

import numpy as np

from mmx_tf.export.c_source import rounding
from mmx_tf.export.c_source.rounding import Stage


def output_fields(source, step, number, found, reals, factor, bias, zero_point=None) -> dict:
    """The members of an mmx_output, with the addition and the tables behind.

    Args:
      found, reals: what `rounding` found for the operator; float32 [channels].
      factor, bias: by which the accumulator is multiplied, and what is added: int64 [channels].
      zero_point: what is added to the rounded number; None: the output's.
    """
    operator = step.operator
    fields = {"bits": step.output.bits, "factor": factor, "real": "NULL"}
    fields["shift"] = found.shift if found is not None else 0
    fields["multiplier"] = source.array("int32_t", f"multipliers_{number}", _multipliers(found, reals))
    fields["bias"] = source.array("int32_t", f"bias_{number}", bias)
    base = step.output.low
    if step.addition is not None:
        base = step.codes[0] if step.table is None else int(step.table.min())
        fields["add"] = _addition_fields(source, step, number, base)
    else:
        fields["add"] = "NULL"
    zero_point = operator.outputs[0].zero_point if zero_point is None else zero_point
    stage = Stage(zero_point, step.codes, step.table, base)
    fields |= stage.shifted_fields(fields["shift"])
    fields["table"] = source.table(stage.table) if stage.table is not None else "NULL"
    return fields


def _multipliers(found, reals):
    """int32 [channels]: mantissas; where none fits the real multiplier, whose sign tells it from them."""
    if found is None:
        return (-reals).view(np.int32)
    # A power of two; sums are that much larger.
    reals = -reals / np.float32(found.scale)
    return np.where(found.fits, found.mantissas, reals.astype(np.float32).view(np.int32))


def _addition_fields(source, step, number, own_base):
    added, other = step.addition, step.addition.read.stored
    fields = rounding.addition_fields(added.operator, added.own, own_base, other.low)
    stage = Stage(added.operator.outputs[0].zero_point, added.codes, added.table, step.output.low)
    fields |= stage.fields() | {"bits": other.bits}
    fields["table"] = source.table(stage.table) if stage.table is not None else "NULL"
    return "&" + source.structure("mmx_add", number, fields)
