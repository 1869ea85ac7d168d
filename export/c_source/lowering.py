"""From a file's operators to the steps of a program: what is stored, and what is computed on the way.

    lowering = Lowering(load(data))
    program = lowering.program()                        # a Program
    program.other_ways                                  # what of it can be stored in another way

Fused with the operator that computes a tensor: pointwise functions behind it (lower clips, rescales,
gates), if nobody else reads it; a PAD in front of a convolution; an ADD or SUB behind a convolution whose
other operand is stored already. A rescaled copy of a carrier that stays anyway, for an addition later, is not
stored: the convolution looks up its codes when it reads them.

What takes the fewest bytes depends on what lives at the same time, so two things may be asked for otherwise:
that a sum whose readers see fewer codes is stored whole, which fits over its other operand, and narrowed
behind; and that a convolution looks up codes although they are stored for somebody else.
"""

import numpy as np

from mmx_tf.export.c_source import lowering_kinds, ranges
from mmx_tf.export.c_source.checking import check
from mmx_tf.export.c_source.pointwise import CODES, pointwise
from mmx_tf.export.c_source.program import Addition, Program, Read, Step, Stored, Way
from mmx_tf.export.c_source.views import Views

_IMAGE = np.arange(-128, 128)


class Lowering:
    """The programs of a `reference.Graph`.

    Args:
      packed: slots as narrow as the codes allow; otherwise all have 8 bits.
      fused: leave tensors out that need not be stored. Otherwise every int8 tensor of the file is stored, for
        comparisons.

    Raises:
      UnsupportedError: the file has what the kernels in C do not have.
    """

    def __init__(self, graph, *, packed: bool = True, fused: bool = True):
        self.graph, self.packed, self.fused = graph, packed, fused
        check(graph)
        self.tables = pointwise(graph)
        self.codes = ranges.ranges(graph, self.tables)
        self.views = Views(graph, self.tables, fused=fused)
        self.operators = {operator.index: operator for operator in graph.operators}

    def program(self, ways: frozenset[Way] = frozenset()) -> Program:
        """The program in which these ways of storing are taken in place of the usual ones.

        Raises:
          UnsupportedError: an operator has what the kernels in C do not have.
        """
        self.steps, self.stored, self.done = [], {}, set()
        self.inputs, self.ways, self.other_ways = [], ways, set()
        self.reader = -1
        for tensor in self.graph.inputs:
            self._input(tensor)
        for operator in self.graph.operators:
            if operator.index in self.done or operator.index in self.views.folded_pads:
                continue
            name = operator.outputs[0].name
            if name not in self.tables:
                self._operator(operator)
            elif not self.fused and operator.outputs[0].type in CODES and operator.kind != "RESHAPE":
                self.read(name)
        outputs = tuple((self._output(tensor), tensor) for tensor in self.graph.outputs)
        return Program(tuple(self.steps), tuple(self.inputs), outputs, self.graph, frozenset(self.other_ways))

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

    def read(self, name) -> Read:
        """How a tensor is read; it is stored before, where it is not stored and has to be."""
        shape = self.views.shape(name)
        tensor = self.views.tensor(name)
        if tensor.constant is not None:
            return Read(Stored(name, shape, -128, 127, 8, "constant"), shape, -128, 127)
        key = self.views.key(name)
        looked_up = self._is_looked_up(name)
        if key in self.stored and not looked_up:
            stored = self.stored[key]
            return Read(stored, shape, *self._codes_of(name, stored))
        root = self.stored[self.views.key(self.views.root(name))]
        if looked_up:
            values = ranges.mapped(self.views.values(name), (root.low, root.high))
            return Read(root, shape, int(values.min()), int(values.max()), values)
        for other, whole in self.views.to_store(name).items():
            values = ranges.mapped(whole, (root.low, root.high))
            target = self._slots(self.views.name_of(other), root.shape, values.min(), values.max(), other)
            read = Read(root, root.shape, root.low, root.high)
            self.steps.append(Step("map", None, [read], target, (root.low, root.high), table=values))
            self.stored[other] = target
        return self.read(name)

    def _is_looked_up(self, name):
        """Whether the operator at work looks up a view's codes in its root."""
        if self.views.is_lazy(name):
            return True
        if self.views.key(self.views.root(name)) not in self.stored:
            return False
        return self.views.may_look_up(name, self.reader) and self._is_asked_for("look up", self.reader)

    def _is_asked_for(self, what, index):
        """Whether something is stored in another way than usual, which is offered so."""
        way = Way(what, index)
        self.other_ways.add(way)
        return way in self.ways

    def _codes_of(self, name, stored):
        return self.codes[name] if stored.place == "arena" else (stored.low, stored.high)

    def _operator(self, operator):
        if operator.kind not in lowering_kinds.STEPS:
            raise lowering_kinds.refused(operator, "of two tensors is not written in C, only pointwise ones")
        lowering_kinds.check_rounding(operator)
        self.reader = operator.index
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
        key, step.table = self._kept(step.kind, operator)
        added = self._addition(step, key)
        if added is not None:
            lowering_kinds.check_rounding(added)
            own = next(i for i, tensor in enumerate(added.inputs) if self.views.key(tensor.name) == key)
            read = self.read(added.inputs[1 - own].name)
            self.done.add(added.index)
            key, table = self._kept("binary", added)
            if self._may_be_whole(added, table, read) and self._is_asked_for("store whole", added.index):
                key, table = self.views.key(added.outputs[0].name), None
            codes, name = self.codes[added.outputs[0].name], added.outputs[0].name
            step.addition = Addition(added, own, read, codes, table)
        else:
            codes, table = step.codes, step.table
        low, high = codes if table is None else (table.min(), table.max())
        step.output = self._slots(self.views.name_of(key), self.views.shape(name), low, high, key)
        self.stored[key] = step.output

    def _may_be_whole(self, operator, table, other):
        """Whether a sum whose readers see narrower codes would fit over its other operand."""
        if table is None or not self.packed:
            return False
        whole = ranges.slot_bits(*self.codes[operator.outputs[0].name])
        return ranges.slot_bits(int(table.min()), int(table.max())) < whole == other.stored.bits

    def _kept(self, kind, operator):
        """(view, table) of an operator's output that is stored."""
        name = operator.outputs[0].name
        only = self.views.only_table(name) if kind in lowering_kinds.WITH_TABLES and self.fused else None
        if only is None:
            return self.views.key(name), None
        return only[0], ranges.mapped(only[1], self.codes[name])

    def _addition(self, step, key):
        """The ADD or SUB that may be computed with this step, or None."""
        readers = self.views.readers(key)
        alone = len(readers) == 1 and len(self.views.needed(key[0])) == 1
        if not self.fused or step.kind not in ("conv", "depthwise") or not alone:
            return None
        reader = self.operators.get(readers[0])
        if reader is None or reader.kind not in ("ADD", "SUB"):
            return None
        others = [tensor for tensor in reader.inputs if self.views.key(tensor.name) != key]
        if len(others) != 1 or others[0].constant is not None:
            return None
        shapes = {self.views.shape(tensor.name) for tensor in (*reader.inputs, step.operator.outputs[0])}
        known = self.views.key(self.views.root(others[0].name)), self.views.key(others[0].name)
        return reader if len(shapes) == 1 and any(one in self.stored for one in known) else None

    def _output(self, tensor):
        if tensor.type == "INT32":
            return next(step.output for step in self.steps if step.output.name == tensor.name)
        return self.read(tensor.name)
