"""The members of an mmx_output and an mmx_add: how a step's accumulators become slot codes in C."""

from mmx_tf.export.c_source import rounding
from mmx_tf.export.c_source.rounding import Stage


def output_fields(source, step, number, found, reals, factor, bias, zero_point=None) -> dict:
    """The members of an mmx_output, with the addition and the tables behind.

    Args:
      found, reals: what `rounding` found for the operator.
      factor, bias: by which the accumulator is multiplied, and what is added: int64 [channels].
      zero_point: what is added to the rounded number; None: the output's.
    """
    operator = step.operator
    fields = {"bits": step.output.bits, "factor": factor}
    if found is not None:
        fields |= {"shift": found.shift, "real": "NULL"}
        fields["multiplier"] = source.array("int32_t", f"multipliers_{number}", found.mantissas)
    else:
        fields |= {"shift": 0, "multiplier": "NULL"}
        fields["real"] = source.array("float", f"multipliers_{number}", reals)
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


def _addition_fields(source, step, number, own_base):
    added, other = step.addition, step.addition.read.stored
    fields = rounding.addition_fields(added.operator, added.own, own_base, other.low)
    stage = Stage(added.operator.outputs[0].zero_point, added.codes, added.table, step.output.low)
    fields |= stage.fields() | {"bits": other.bits}
    fields["table"] = source.table(stage.table) if stage.table is not None else "NULL"
    return "&" + source.structure("mmx_add", number, fields)
