"""Who reads which tensor, and which of them are functions of one that is stored.

A view is a tensor as its readers see it: a root (what an operator computes) and a table of its codes. Tensors
with equal tables, such as a reshaped one, are one view.
"""

import numpy as np

from mmx_tf.export.c_source.pointwise import CODES

_END = 10**9
_PADDED = ("CONV_2D", "DEPTHWISE_CONV_2D")
_LOOKS_UP = frozenset(["CONV_2D", "FULLY_CONNECTED"])
_SEES_ZEROS = (*_PADDED, "TRANSPOSE_CONV")


class Views:
    """The views of a graph.

    Args:
      graph: a `reference.Graph`.
      tables: its pointwise tensors.
      fused: whether tensors may be left out.
    """

    def __init__(self, graph, tables, *, fused):
        self._tensors = {tensor.name: tensor for tensor in graph.tensors}
        self._tables, self._fused = tables, fused
        self.folded_pads = _foldable_pads(graph, tables) if fused else {}
        self._pads = {graph.operators[index].outputs[0].name: index for index in self.folded_pads}
        self._operators = graph.operators
        self._readers, self._zeros, self._names, self._values = {}, {}, {}, {}
        for operator in graph.operators:
            if operator.index in self.folded_pads:
                continue
            if operator.outputs[0].name in tables and (fused or not self._stores(operator)):
                continue
            if operator.outputs[0].name in tables:
                # Stored though it is a function of another tensor.
                self._note(tables[operator.outputs[0].name].root, operator)
                self._note(operator.outputs[0].name, operator)
                continue
            for tensor in operator.inputs:
                if tensor is not None and tensor.constant is None:
                    self._note(self.before_pad(tensor.name), operator)
        for tensor in graph.outputs:
            if tensor.type in CODES:
                self._note(tensor.name, None)

    def _stores(self, operator):
        return operator.outputs[0].type in CODES and operator.kind != "RESHAPE"

    def _note(self, name, operator):
        key = self.key(name)
        self._readers.setdefault(key, []).append(_END if operator is None else operator.index)
        self._names.setdefault(key, name)
        self._values[key] = self.values(name)
        if operator is not None and operator.kind in _SEES_ZEROS:
            self._zeros.setdefault(key, set()).add(self._tensors[name].zero_point)

    def before_pad(self, name):
        """The tensor in front of a PAD that a convolution takes over; otherwise the tensor itself."""
        index = self._pads.get(name)
        return name if index is None else self._operators[index].inputs[0].name

    def pad_of(self, name) -> int:
        """The index of the PAD that makes a tensor and that a convolution takes over."""
        return self._pads[name]

    def tensor(self, name):
        """The file's tensor."""
        return self._tensors[name]

    def shape(self, name) -> tuple:
        """Its shape without the batch; a constant's whole shape."""
        tensor = self._tensors[name]
        return tuple(tensor.shape if tensor.constant is not None else tensor.shape[1:])

    def root(self, name) -> str:
        """The tensor of which it is a function, or itself."""
        return self._tables[name].root if name in self._tables else name

    def values(self, name) -> np.ndarray:
        """[256], its code for each code of the root."""
        return self._tables[name].values if name in self._tables else CODES[self._tensors[name].type]

    def key(self, name) -> tuple:
        """What names of one view have in common."""
        return self.root(name), self.values(name).tobytes()

    def name_of(self, key) -> str:
        """The tensor that the view's first reader asks for."""
        return self._names.get(key, key[0])

    def readers(self, key) -> list:
        """Indices of the operators that read a view, one for each time; 10^9 for an output of the file."""
        return self._readers.get(key, [])

    def needed(self, root) -> list:
        """The views of a root that are read."""
        return [key for key in self._readers if key[0] == root]

    def tables_of(self, root) -> dict:
        """Views of a root -> their tables."""
        return {key: self._values[key] for key in self.needed(root)}

    def only_table(self, root):
        """(view, table) if all who read a root's views read one."""
        keys = self.needed(root)
        return (keys[0], self._values[keys[0]]) if len(keys) == 1 else None

    def zeros(self, key) -> set:
        """Codes of the real zeros that windows see around a view."""
        return self._zeros.get(key, set())

    def is_lazy(self, name) -> bool:
        """Whether a view's readers look up its codes in the root, which stays longer than they read."""
        key, root = self.key(name), self.key(self.root(name))
        kinds = {self._operators[i].kind if i < _END else None for i in self.readers(key)}
        last = max(self.readers(root), default=-1)
        return self._fused and kinds <= _LOOKS_UP and last > max(self.readers(key))

    def may_look_up(self, name, reader: int) -> bool:
        """Whether one operator can look up a view's codes in the root, which stays longer than that."""
        last = max(self.readers(self.key(self.root(name))), default=-1)
        kind = self._operators[reader].kind if reader >= 0 else None
        # What is its own root has no table.
        own = self.key(name) == self.key(self.root(name))
        return self._fused and kind in _LOOKS_UP and last > reader and not own

    def to_store(self, name) -> dict:
        """Views -> tables, of what is stored when a view is asked for: all of its root, if that goes."""
        root = self.root(name)
        if self._fused and not self.readers(self.key(root)):
            return self.tables_of(root)
        return {self.key(name): self.values(name)}


def _foldable_pads(graph, tables):
    """Indices of the PADs whose only reader is a convolution: index -> index of the reader."""
    outputs = {tensor.name for tensor in graph.outputs}
    result = {}
    for operator in graph.operators:
        if operator.kind != "PAD":
            continue
        name = operator.outputs[0].name
        readers = [
            other for other in graph.operators for tensor in other.inputs if tensor and tensor.name == name
        ]
        amounts = operator.inputs[1].constant
        spatial = amounts is not None and amounts.shape == (4, 2) and not amounts[[0, 3]].any()
        one = len(readers) == 1 and readers[0].kind in _PADDED and name not in outputs
        if one and spatial and (amounts >= 0).all():
            result[operator.index] = readers[0].index
    return result
