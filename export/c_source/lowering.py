"""From a file's operators to the steps of a program: what is stored, and what is computed on the way.

    program = lower(load(data))                         # a Program

Fused with the operator that computes a tensor: pointwise functions behind it (lower clips, rescales, gates), if
nobody else reads it; a PAD in front of a convolution; an ADD or SUB behind a convolution whose other operand is
stored already. A rescaled copy of a carrier that stays anyway, for an addition later, is not stored: the
convolution looks up its codes when it reads them.
"""

import numpy as np

from mmx_tf.export.c_source import lowering_kinds, ranges
from mmx_tf.export.c_source.pointwise import CODES, pointwise
from mmx_tf.export.c_source.program import Addition, Program, Read, Step, Stored
from mmx_tf.export.c_source.views import Views

_IMAGE = np.arange(-128, 128)


def lower(graph, *, packed: bool = True, fused: bool = True) -> Program:
    """The program of a `reference.Graph`.

    Args:
      packed: slots as narrow as the codes allow; otherwise all have 8 bits.
      fused: leave tensors out that need not be stored. Otherwise every int8 tensor of the file is stored, for
        comparisons.

    Raises:
      UnsupportedError: the file has what the kernels in C do not have.
    """
    return _Lowering(graph, packed, fused).program()


class _Lowering:
    def __init__(self, graph, packed, fused):
        self.graph, self.packed, self.fused = graph, packed, fused
        lowering_kinds.check(graph)
        self.tables = pointwise(graph)
        self.codes = ranges.ranges(graph, self.tables)
        self.views = Views(graph, self.tables, fused=fused)
        self.steps, self.stored, self.done = [], {}, set()
        self.inputs = []

    def program(self):
        for tensor in self.graph.inputs:
            self._input(tensor)
        for operator in self.graph.operators:
            if operator.index in self.done or operator.index in self.views.folded_pads:
                continue
            name = operator.outputs[0].name
            if name not in self.tables:
                self._operator(operator)
            elif not self.fused and operator.outputs[0].type in CODES and operator.kind != "RESHAPE":
                self.read(name, operator.index)
        outputs = tuple((self._output(tensor), tensor) for tensor in self.graph.outputs)
        return Program(tuple(self.steps), tuple(self.inputs), outputs, self.graph)

    def _input(self, tensor):
        if not self.views.needed(tensor.name):
            return
        shape, table = tuple(tensor.shape[1:]), self.views.only_table(tensor.name)
        image = Stored(tensor.name, shape, -128, 127, 8, "image")
        self.inputs.append((image, tensor))
        if tensor.type == "INT8":
            # The caller's codes have their sign; slots do not.
            raw = Stored(tensor.name, shape, -128, 127, 8)
            self.steps.append(Step("from_codes", None, [Read(image, shape, -128, 127)], raw, (-128, 127)))
            self.stored[self.views.key(tensor.name)] = raw
            return
        # A uint8 pixel is a slot as it stands, whose code is 128 less.
        for key, values in self.views.tables_of(tensor.name).items():
            self.stored[key] = image
            if table is None or not np.array_equal(values, _IMAGE):
                target = self._slots(self.views.name_of(key), shape, values.min(), values.max(), key)
                read = Read(image, shape, -128, 127)
                self.steps.append(Step("map", None, [read], target, (-128, 127), table=values))
                self.stored[key] = target

    def _slots(self, name, shape, low, high, key):
        """A tensor in slots that hold these codes and those of the zeros that windows see around it."""
        for code in self.views.zeros(key):
            low, high = min(int(low), code), max(int(high), code)
        low, high = int(low), int(high)
        return Stored(name, shape, low, high, ranges.slot_bits(low, high) if self.packed else 8)

    def read(self, name, reader) -> Read:
        """How operator `reader` reads a tensor; stores it before, where it is not stored and has to be."""
        shape = self.views.shape(name)
        tensor = self.views.tensor(name)
        if tensor.constant is not None:
            return Read(Stored(name, shape, -128, 127, 8, "constant"), shape, -128, 127)
        key = self.views.key(name)
        if key in self.stored:
            stored = self.stored[key]
            return Read(stored, shape, *self._codes_of(name, stored))
        root = self.stored[self.views.key(self.views.root(name))]
        values = ranges.mapped(self.views.values(name), (root.low, root.high))
        if self.views.is_lazy(name):
            return Read(root, shape, int(values.min()), int(values.max()), values)
        for other, whole in self.views.to_store(name).items():
            values = ranges.mapped(whole, (root.low, root.high))
            target = self._slots(self.views.name_of(other), root.shape, values.min(), values.max(), other)
            read = Read(root, root.shape, root.low, root.high)
            self.steps.append(Step("map", None, [read], target, (root.low, root.high), table=values))
            self.stored[other] = target
        return self.read(name, reader)

    def _codes_of(self, name, stored):
        return self.codes[name] if stored.place == "arena" else (stored.low, stored.high)

    def _operator(self, operator):
        if operator.kind not in lowering_kinds.STEPS:
            raise lowering_kinds.refused(operator, "of two tensors is not written in C, only pointwise ones")
        step = lowering_kinds.STEPS[operator.kind](self, operator)
        self._store(step, operator)
        self.steps.append(step)

    def _store(self, step, operator):
        """Says what the step stores: its tensor, or what is computed of it alone."""
        name = operator.outputs[0].name
        if operator.outputs[0].type == "INT32":
            step.output = Stored(name, self.views.shape(name), 0, 0, 32, "output")
            return
        step.codes = self.codes[name]
        key, table = self.views.key(name), None
        low, high = step.codes
        if step.kind in lowering_kinds.WITH_TABLES and self.fused:
            only = self.views.only_table(name)
            if only is not None and len(only[1]):
                key, table = only[0], ranges.mapped(only[1], step.codes)
                low, high = table.min(), table.max()
        added = self._addition(step, operator, key)
        if added is not None:
            step.table = table
            step.addition, final = Addition(added, *self._other_of(added, name)), added.outputs[0].name
            self.done.add(added.index)
            inner = Step("binary", added, [], None, ())
            self._store(inner, added)
            step.addition_table, step.addition_codes, step.output = inner.table, inner.codes, inner.output
            assert final in self.codes
            return
        step.table = table
        step.output = self._slots(self.views.name_of(key), self.views.shape(name), low, high, key)
        self.stored[key] = step.output

    def _addition(self, step, operator, key):
        """The ADD or SUB that may be computed with this step, or None."""
        if not self.fused or step.kind not in ("conv", "depthwise"):
            return None
        readers = self.views.readers(key)
        if len(readers) != 1:
            return None
        reader = next((other for other in self.graph.operators if other.index == readers[0]), None)
        if (
            reader is None
            or reader.kind not in ("ADD", "SUB")
            or len(self.views.needed(operator.outputs[0].name)) != 1
        ):
            return None
        names = [tensor.name for tensor in reader.inputs]
        own = [name for name in names if self.views.key(name) == key]
        other = [name for name in names if self.views.key(name) != key]
        if len(own) != 1 or self.views.tensor(other[0]).constant is not None:
            return None
        same = (
            self.views.shape(own[0])
            == self.views.shape(other[0])
            == self.views.shape(operator.outputs[0].name)
        )
        known = (
            self.views.key(self.views.root(other[0])) in self.stored
            or self.views.key(other[0]) in self.stored
        )
        if not same or not known:
            return None
        return reader

    def _other_of(self, added, name):
        own = next(i for i, tensor in enumerate(added.inputs) if self.views.root(tensor.name) == name)
        return own, self.read(added.inputs[1 - own].name, added.index)

    def _output(self, tensor):
        if tensor.type == "INT32":
            return next(step.output for step in self.steps if step.output.name == tensor.name)
        return self.read(tensor.name, None)
