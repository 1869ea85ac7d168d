"""Times of a file's operators out of the times of the kernels that LiteRT ran for them.

A delegate runs kernels of its own: XNNPACK fuses operators (a PAD and the convolution behind it, a MUL
between grids and its QUANTIZE) and adds small kernels, and reports only its kernels' names. Both follow the
order of the file, so they are aligned by what each kernel can compute.

    operators = [FileOperator(0, "PAD", "pad"), FileOperator(1, "CONV_2D", "conv")]
    (time,) = operator_times([Kernel("Convolution (NHWC, QC8) IGEMM", None, 1.5)], operators)
    time.operators, time.kind, time.output                  # (0, 1), "PAD+CONV_2D", "conv"
"""

import dataclasses
from collections.abc import Sequence

# What XNNPACK calls its kernels, by operator; others carry the operator's own name or compute a function of
# one value from a table ("Unary"). A 1x1 convolution runs as a fully connected layer.
_CONVOLUTION = ("Convolution", "Fully Connected")
_KERNELS = {
    "CONV_2D": _CONVOLUTION,
    "DEPTHWISE_CONV_2D": _CONVOLUTION,
    "TRANSPOSE_CONV": ("Deconvolution",),
    "FULLY_CONNECTED": ("Fully Connected", "Matrix Multiply"),
    "MUL": ("Multiply", "Unary"),
    "SUB": ("Subtract", "Unary"),
    "QUANTIZE": ("Convert", "Unary", "Quantize", "Copy"),
    "DEQUANTIZE": ("Convert", "Unary", "Copy"),
    "MEAN": ("Mean", "Global Average Pool"),
    "AVERAGE_POOL_2D": ("Average Pool",),
    "MAX_POOL_2D": ("Max Pool",),
    "PAD": ("Pad",),
    "RESHAPE": ("Reshape", "Copy"),
    "CONCATENATION": ("Concat", "Copy"),
    "RELU": ("Clamp", "ReLU", "Unary"),
    "RELU6": ("Clamp", "ReLU", "Unary"),
    "LOGISTIC": ("Sigmoid", "Unary"),
    "RESIZE_BILINEAR": ("Resize Bilinear",),
    "STRIDED_SLICE": ("Slice", "Copy"),
}


@dataclasses.dataclass(frozen=True)
class FileOperator:
    """An operator of a file: place in the file, builtin kind, name of its first output (None: none)."""

    index: int
    kind: str
    output: str | None


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel that LiteRT ran: its name, the file operator that it is (None: a delegate's), milliseconds."""

    name: str
    operator: int | None
    median_ms: float


@dataclasses.dataclass(frozen=True)
class OperatorTime:
    """Time of one kernel in the order of execution.

    `operators` are the file's operators that it computes, `kind` their kinds and `output` the name of what it
    writes; empty, the kernel's name and None where the runtime does not tell. `share` is of the sum of all.
    """

    index: int
    operators: tuple[int, ...]
    kind: str
    kernel: str
    output: str | None
    median_ms: float
    share: float
    delegated: bool


def operator_times(
    kernels: Sequence[Kernel], operators: Sequence[FileOperator] | None
) -> tuple[OperatorTime, ...]:
    """One `OperatorTime` per kernel; without `operators` (None) the delegate's stay anonymous."""
    by_index = {operator.index: operator for operator in operators or ()}
    outside = {kernel.operator for kernel in kernels}
    inside = [operator for operator in by_index.values() if operator.index not in outside]
    computed = iter(_aligned([kernel.name for kernel in kernels if kernel.operator is None], inside))
    total = sum(kernel.median_ms for kernel in kernels)
    times = []
    for index, kernel in enumerate(kernels):
        if kernel.operator is None:
            own = next(computed)
        else:
            own = tuple(filter(None, [by_index.get(kernel.operator)]))
        times.append(
            OperatorTime(
                index=index,
                operators=tuple(operator.index for operator in own),
                kind="+".join(operator.kind for operator in own) or kernel.name,
                kernel=kernel.name,
                output=own[-1].output if own else None,
                median_ms=kernel.median_ms,
                share=kernel.median_ms / total if total else 0.0,
                delegated=kernel.operator is None,
            )
        )
    return tuple(times)


def _aligned(names: Sequence[str], operators: Sequence[FileOperator]) -> list[tuple[FileOperator, ...]]:
    """The operators that each kernel computes, by the longest common subsequence of the two lists."""
    # longest[i][j]: pairs to be had from names[i:] and operators[j:].
    longest = [[0] * (len(operators) + 1) for _ in range(len(names) + 1)]
    for i in reversed(range(len(names))):
        for j in reversed(range(len(operators))):
            skip = max(longest[i + 1][j], longest[i][j + 1])
            longest[i][j] = (
                max(skip, 1 + longest[i + 1][j + 1]) if _computes(names[i], operators[j]) else skip
            )
    owners: dict[int, int] = {}
    i = j = 0
    while i < len(names) and j < len(operators):
        if _computes(names[i], operators[j]) and longest[i][j] == 1 + longest[i + 1][j + 1]:
            owners[j] = i
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    groups: list[list[FileOperator]] = [[] for _ in names]
    for j, operator in enumerate(operators):
        before = next((owners[k] for k in range(j, -1, -1) if k in owners), None)
        after = next((owners[k] for k in range(j, len(operators)) if k in owners), None)
        # An operator without a kernel is part of its producer's, a PAD of the convolution's behind it.
        first, second = (after, before) if operator.kind == "PAD" else (before, after)
        owner = second if first is None else first
        if owner is not None:
            groups[owner].append(operator)
    return [tuple(group) for group in groups]


def _computes(name: str, operator: FileOperator) -> bool:
    words = _KERNELS.get(operator.kind) or (operator.kind.replace("_", " ").title(), "Unary")
    return any(word in name for word in words)
