"""How a tensor's codes stand in the QONNX graph: which integers, in how many bits, in which layout.

    stored = stored_as(tensor, low=112, high=127, bits=4)
    stored.offset, stored.datatype                      # 112, "UINT4": the graph has code - 112
    onnx_shape((1, 8, 8, 3))                            # (1, 3, 8, 8)

The graph has a code minus an offset. That is the zero point wherever the codes fit into their bits then, so
that real 0 is 0 and a convolution pads with it for free; elsewhere the lowest code. Inputs of the file are
left as they are, pixels as pixels. Images are channels first, as qonnx and FINN have them.
"""

from dataclasses import dataclass

import numpy as np

_CHANNELS_FIRST = (0, 3, 1, 2)
_CHANNELS_LAST = (0, 2, 3, 1)
_LEAST_BITS = 2
"""QONNX reads a signed integer of one bit as -1 and 1."""


@dataclass(frozen=True)
class Stored:
    """The integers of a tensor of codes.

    Attributes:
      low, high: lowest and highest code of the file's tensor.
      offset: what is taken off a code.
      bits, signed: of the integers.
      zero: the integer that stands for real 0; it need not be among them.
    """

    low: int
    high: int
    offset: int
    bits: int
    signed: bool
    zero: int

    @property
    def datatype(self) -> str:
        """QONNX's name, such as "UINT4"."""
        return f"{'' if self.signed else 'U'}INT{self.bits}"

    @property
    def type_range(self) -> tuple[int, int]:
        """The lowest and the highest integer of the data type."""
        return (-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1) if self.signed else (0, 2**self.bits - 1)

    @property
    def span(self) -> tuple[int, int]:
        """The lowest and the highest integer that there is."""
        return self.low - self.offset, self.high - self.offset


def stored_as(tensor, low: int, high: int, *, bits: int = 0, raw: bool = False) -> Stored:
    """How the graph has a tensor whose codes are low..high.

    Args:
      tensor: of a `reference.Graph`.
      low, high: its lowest and highest code.
      bits: what its readers say that it has; more where the codes need more.
      raw: the codes as they are, as the caller of the graph gives them.
    """
    zero_point = tensor.zero_point
    if raw:
        return Stored(low, high, 0, max(8, bits), tensor.type == "INT8", zero_point)
    needed = max(_LEAST_BITS, bits, int(high - low).bit_length())
    for offset, signed in ((zero_point, False), (zero_point, True), (low, False)):
        stored = Stored(low, high, offset, needed, signed, zero_point - offset)
        (first, last), (lowest, highest) = stored.span, stored.type_range
        if lowest <= first and last <= highest:
            return stored
    raise AssertionError("codes above the lowest one fit into the bits of their number")


def integer_bits(low: int, high: int) -> int:
    """The bits of the smallest signed integer that holds low..high."""
    # ~n of a negative n is -n - 1: -128 needs as many bits as 127.
    return max(_LEAST_BITS, *(1 + int(end if end >= 0 else ~end).bit_length() for end in (low, high)))


def signed_type(low: int, high: int) -> str:
    """QONNX's name of the smallest signed integer that holds low..high."""
    return f"INT{integer_bits(int(low), int(high))}"


def layout(rank: int) -> tuple[int, ...]:
    """Which axis of the file's tensor is each axis of the graph's."""
    return _CHANNELS_FIRST if rank == 4 else tuple(range(rank))


def onnx_shape(shape) -> tuple[int, ...]:
    """The shape in the graph of a tensor of the file."""
    return tuple(shape[axis] for axis in layout(len(shape)))


def onnx_axis(axis: int, rank: int) -> int:
    """The axis in the graph of an axis of the file's tensor."""
    return layout(rank).index(axis % rank)


def to_onnx(values: np.ndarray) -> np.ndarray:
    """An array in the file's layout -> in the graph's."""
    return values.transpose(layout(values.ndim))


def from_onnx(values: np.ndarray) -> np.ndarray:
    """An array in the graph's layout -> in the file's."""
    return values.transpose(_CHANNELS_LAST) if values.ndim == 4 else values
