"""A small writer of .tflite flatbuffers: tensors, buffers, operators, one signature, metadata.

    writer = GraphWriter()
    x = writer.tensor("image", (1, 8, 8, 3), TensorType.INT8, quantization=quantization([0.1], [0]))
    y = writer.tensor("codes", (1, 8, 8, 3), TensorType.INT8, quantization=quantization([0.2], [-3]))
    writer.operator(BuiltinOperator.QUANTIZE, [x], [y], version=2)
    data = writer.finish({"image": x}, {"codes": y}, metadata={"note": b"..."})

Everything goes through the object API of the schema that ships with ai-edge-litert, so nothing is merged,
dropped or reordered on the way to the file.
"""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
SIGNATURE = "serving_default"
CONSTANT_ALIGNMENT = 16


def quantization(scales, zero_points, *, axis=None):
    """Quantization parameters of a tensor; `axis`: the quantized dimension of a scale per channel."""
    parameters = schema.QuantizationParametersT()
    parameters.scale = np.asarray(scales, np.float32)
    parameters.zeroPoint = np.asarray(zero_points, np.int64)
    parameters.quantizedDimension = axis or 0
    return parameters


def packed(codes, *, bits):
    """Int codes, flattened -> bytes: 8 // bits codes per byte, the first in the lowest bits, 0 padding.

    bits: 4 or 2, for codes in -8..7 or -2..1; ValueError for codes outside.
    """
    flat = np.asarray(codes).reshape(-1)
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    if flat.min(initial=0) < low or flat.max(initial=0) > high:
        raise ValueError(
            f"codes span {flat.min()}..{flat.max()}; int{bits} holds {low}..{high}. Store as int8."
        )
    count = 8 // bits
    fields = (flat.astype(np.int8).view(np.uint8) & (1 << bits) - 1).astype(np.uint8)
    fields = np.append(fields, np.zeros(-fields.size % count, np.uint8)).reshape(-1, count)
    return np.bitwise_or.reduce(fields << (bits * np.arange(count, dtype=np.uint8)), axis=1).tobytes()


class _Builder(flatbuffers.Builder):
    """Writes equal vectors of numbers once, and aligns constants to 16 bytes, as the schema asks.

    Every tensor has a zero point per channel, nearly all of them 0, and biases repeat the shapes and zero
    points of their layers: on MobileNet-v2 this is 6% of the file. A flatbuffer may refer to a vector often.
    """

    def __init__(self, initial_size):
        super().__init__(initial_size)
        self._vectors = {}

    def CreateNumpyVector(self, x):
        """The offset of the vector x in the file."""
        if x.itemsize == 1:
            self.Prep(CONSTANT_ALIGNMENT, x.nbytes)
            return super().CreateNumpyVector(x)
        key = (x.dtype.str, x.tobytes())
        if key not in self._vectors:
            self._vectors[key] = super().CreateNumpyVector(x)
        return self._vectors[key]


class GraphWriter:
    """Collects one subgraph in execution order; `finish` gives the bytes of the file."""

    def __init__(self, *, description="mmx_tf"):
        self._description = description
        self._tensors, self._operators, self._codes = [], [], {}
        # By convention buffer 0 is the empty one that tensors without constant data point to.
        self._buffers = [schema.BufferT()]

    def tensor(self, name, shape, dtype, *, quantization=None, data=None, dynamic_batch=False):
        """Add a tensor -> its index.

        name: str. shape: ints. dtype: a schema TensorType. data: bytes of a constant. dynamic_batch: the
        first dimension is 1 in the file and -1 in the shape signature, so that a runtime knows that it may be
        resized.
        """
        tensor = schema.TensorT()
        tensor.name, tensor.type = name, dtype
        tensor.shape = np.asarray(shape, np.int32)
        tensor.quantization = quantization
        if dynamic_batch:
            tensor.shapeSignature = np.asarray([-1, *shape[1:]], np.int32)
        if data is not None:
            tensor.buffer = self._buffer(data)
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def operator(self, builtin, inputs, outputs, *, options=None, version=1):
        """Add an operator. builtin: a schema BuiltinOperator. options: an options object of the schema."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((builtin, version), len(self._codes))
        operator.inputs, operator.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)
        if options is not None:
            # The union's tag is named like the options class without its "T".
            tag = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, tag)
            operator.builtinOptions = options
        self._operators.append(operator)

    def tensors_of_type(self, dtype):
        """Names of the tensors of one TensorType, in order."""
        return [tensor.name for tensor in self._tensors if tensor.type == dtype]

    def finish(self, inputs, outputs, *, metadata=None):
        """The bytes of the file.

        inputs, outputs: dict from signature name to tensor index. metadata: dict from name to bytes.
        """
        model = schema.ModelT()
        model.version, model.description = SCHEMA_VERSION, self._description
        model.operatorCodes = [self._operator_code(*key) for key in self._codes]
        graph = schema.SubGraphT()
        graph.name = "main"
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs = np.asarray(list(inputs.values()), np.int32)
        graph.outputs = np.asarray(list(outputs.values()), np.int32)
        model.subgraphs = [graph]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
        signature.inputs = [_tensor_map(*item) for item in inputs.items()]
        signature.outputs = [_tensor_map(*item) for item in outputs.items()]
        model.signatureDefs = [signature]
        model.metadata = [self._metadata(*item) for item in (metadata or {}).items()]
        model.buffers = self._buffers
        builder = _Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _buffer(self, data):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(bytes(data), np.uint8)
        self._buffers.append(buffer)
        return len(self._buffers) - 1

    def _metadata(self, name, data):
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, self._buffer(data)
        return entry

    @staticmethod
    def _operator_code(builtin, version):
        code = schema.OperatorCodeT()
        # Old readers look at the 8-bit field; 127 there means "see the 32-bit one".
        code.deprecatedBuiltinCode = min(builtin, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
        code.builtinCode, code.version = builtin, version
        return code


def _tensor_map(name, index):
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
