"""What Vela says of a compiled file, as numbers with units.

found = read(folder, "network", configuration)      # after Vela has run in the folder
"""

import csv
import pathlib
from dataclasses import dataclass

from mmx_tf.export.reading import tflite_file
from mmx_tf.export.vela.configurations import Configuration, VelaError

NPU_OPERATOR = "CUSTOM ethos-u"
"""The operator of a compiled file that holds all that the NPU computes in one go."""
_KIB = 1024


@dataclass(frozen=True)
class CpuOperator:
    """An operator that Vela leaves to the CPU: `kind` as in the schema ("SOFTMAX"), `name` of its output."""

    kind: str
    name: str


@dataclass(frozen=True)
class OperatorCycles:
    """An operator on the NPU. One of the file may become several, and a fused one takes no cycles of its own.

    Attributes:
      kind: Vela's name of the file's operator ("Mean").
      npu_kind: what the NPU computes for it ("DepthwiseConv2D").
      name: of its output tensor.
      cycles: all that it takes, memory included.
      npu_cycles: of the NPU alone.
      macs: multiply-accumulates.
    """

    kind: str
    npu_kind: str
    name: str
    cycles: int
    npu_cycles: int
    macs: int


@dataclass(frozen=True)
class Estimate:
    """Vela's estimate of one inference of one image; no NPU has been run.

    Attributes:
      configuration: what the file was compiled for.
      clock_hz: of the NPU, as the system configuration has it.
      cycles: the NPU's clock cycles of one inference, waiting for memory included, without CPU operators.
      npu_cycles: those in which the NPU would be done if memories were infinitely fast.
      latency_seconds: `cycles` over `clock_hz`.
      sram_bytes, dram_bytes, on_chip_flash_bytes, off_chip_flash_bytes: what the network takes of each
        memory. The memory mode says whether packed weights and commands lie in flash or in DRAM.
      weight_bytes: all weights as the file has them.
      packed_weight_bytes: the same as the NPU reads them, compressed.
      macs: multiply-accumulates on the NPU.
      operators: number of operators in the file.
      cpu_operators: those that are left on the CPU; empty if the NPU does everything.
      operator_cycles: the operators on the NPU in their order.
    """

    configuration: Configuration
    clock_hz: float
    cycles: int
    npu_cycles: int
    latency_seconds: float
    sram_bytes: int
    dram_bytes: int
    on_chip_flash_bytes: int
    off_chip_flash_bytes: int
    weight_bytes: int
    packed_weight_bytes: int
    macs: int
    operators: int
    cpu_operators: tuple[CpuOperator, ...]
    operator_cycles: tuple[OperatorCycles, ...]


def read(
    folder: pathlib.Path, name: str, configuration: Configuration, *, operators: int, compiled: bytes
) -> Estimate:
    """The estimate from the tables that Vela wrote into `folder` for `name`.tflite.

    Args:
      folder: Vela's --output-dir.
      name: of the network's file, without its ending.
      configuration: what it was compiled for.
      operators: how many the network's file has.
      compiled: bytes of the compiled file.

    Raises:
      VelaError: a table lacks a column, as another version of Vela may write it.
    """
    try:
        with open(folder / f"{name}_summary_{configuration.system_config}.csv", newline="") as file:
            (row,) = csv.DictReader(file)
        cycles = int(float(row["cycles_total"]))
        clock = float(row["core_clock"])
        return Estimate(
            configuration=configuration,
            clock_hz=clock,
            cycles=cycles,
            npu_cycles=int(float(row["cycles_npu"])),
            latency_seconds=cycles / clock,
            **{
                f"{memory}_bytes": round(float(row[f"{memory}_memory_used"]) * _KIB)
                for memory in ("sram", "dram", "on_chip_flash", "off_chip_flash")
            },
            weight_bytes=int(row["total_original_weights"]),
            packed_weight_bytes=int(row["total_npu_encoded_weights"]),
            macs=int(row["nn_macs"]),
            operators=operators,
            cpu_operators=left_on_cpu(compiled),
            operator_cycles=_operator_cycles(folder / f"{name}_per-layer.csv"),
        )
    except (OSError, KeyError, ValueError) as error:
        raise VelaError(f"Vela's tables are not those of a version that is known here: {error}.") from error


def left_on_cpu(compiled: bytes) -> tuple[CpuOperator, ...]:
    """The operators of a compiled file that are not the NPU's; raises `TfliteFileError` for no .tflite."""
    file = tflite_file.parse(compiled)
    return tuple(
        CpuOperator(operator.kind, file.tensors[operator.outputs[0]].name if operator.outputs else "")
        for operator in file.operators
        if operator.kind != NPU_OPERATOR
    )


def _operator_cycles(path: pathlib.Path) -> tuple[OperatorCycles, ...]:
    # Names are not quoted there and may hold commas; they come last.
    header, *lines = path.read_text().splitlines()
    columns = header.split(",")
    rows = (dict(zip(columns, line.split(",", len(columns) - 1), strict=True)) for line in lines)
    return tuple(
        OperatorCycles(
            kind=row["Original Operator"],
            npu_kind=row["NNG Operator"],
            name=row["Name"],
            cycles=int(row["Op Cycles"]),
            npu_cycles=int(row["NPU"]),
            macs=int(row["MAC Count"]),
        )
        for row in rows
        if row["Target"] == "NPU"
    )
