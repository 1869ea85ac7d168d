"""The memory of a program: lifetimes of its stored tensors, what may be written in place, and the plan."""

from mmx_tf.export.c_source.memory_plan import Block, Plan, Rows, arrange


def plan_of(program) -> Plan:
    """The memory plan of a `Program` whose steps know their scratch memory."""
    blocks, in_place, into = blocks_of(program)
    return arrange(blocks, in_place=in_place, into=into)


def blocks_of(program) -> tuple[list[Block], dict[str, str], dict[str, tuple[str, Rows]]]:
    """What a plan arranges: the blocks, which one may be written over which, and which one into which.

    A block is named as the tensor, or as `scratch_name` says.
    """
    last = {}
    for number, step in enumerate(program.steps):
        for stored in step.sources():
            last[stored.name] = number
    for read, _ in program.outputs:
        stored = getattr(read, "stored", read)
        last[stored.name] = len(program.steps)
    blocks, in_place, into = [], {}, {}
    for number, step in enumerate(program.steps):
        output = step.output
        if output.place == "arena":
            blocks.append(Block(output.name, output.bytes, number, last.get(output.name, number)))
            over = [stored for stored in _replaceable(step) if last[stored.name] == number]
            if over:
                in_place[output.name] = over[0].name
            source, rows = step.reads[0].stored, _rows(step)
            if rows is not None and last.get(source.name) == number and source.place == "arena":
                into[output.name] = source.name, rows
        if step.scratch:
            blocks.append(Block(scratch_name(step), step.scratch, number, number))
    return blocks, in_place, into


def scratch_name(step) -> str:
    """The block of a step's scratch memory."""
    return f"scratch {step.number}"


def _replaceable(step):
    """Inputs that a step reads element by element, in front of what it writes."""
    if step.kind in ("map", "binary"):
        reads, narrower = step.reads, True
    elif step.addition is not None:
        # Channels of two places are written in turns, so that narrower slots would overtake.
        reads, narrower = [step.addition.read], False
    else:
        return
    inputs = [read.stored for read in step.reads] if step.addition is not None else []
    for read in reads:
        stored, output = read.stored, step.output
        fits = output.bits <= stored.bits if narrower else output.bits == stored.bits
        if stored.place == "arena" and stored.count == output.count and fits and stored not in inputs:
            yield stored


def _rows(step):
    """How a step goes over its input, if it does so row by row (see mmx_kernels.h); otherwise None."""
    window = step.details.get("window")
    if step.kind not in ("conv", "depthwise", "max_pool", "average_pool") or window is None:
        return None
    height, width, _ = step.output.shape
    if step.operator.kind == "TRANSPOSE_CONV" or _is_grouped(step):
        return None
    if step.addition is not None and step.addition.read.stored is step.reads[0].stored:
        return None
    return Rows(height, width, step.reads[0].shape[0], window.strides[0], window.before[0] + step.padding[0])


def _is_grouped(step):
    """Whether a convolution goes over its input once for each group."""
    return step.operator.kind == "CONV_2D" and step.operator.inputs[1].shape[3] != step.reads[0].shape[2]
