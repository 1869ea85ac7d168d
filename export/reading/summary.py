"""What a .tflite holds and costs: its layers, bytes, operators, inputs, outputs, and what its metadata says.

    found = summary(pathlib.Path("model.tflite").read_bytes())
    found.bops, found.file_bytes.weights, found.partitions, found.faults

Everything is counted from the file itself, the metadata names the bits only; where it records figures of its
own, `faults` says whether they differ.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmx_tf.export.reading import metadata as file_metadata
from mmx_tf.export.reading.contents import Tensor, TfliteFile
from mmx_tf.export.reading.file_bytes import FileBytes, file_bytes
from mmx_tf.export.reading.layers import UNCOUNTED, LayerInfo, layer_table
from mmx_tf.export.reading.tflite_file import parse
from mmx_tf.export.running import delegation as delegation_query


@dataclass(frozen=True)
class OperatorCount:
    """How often an operator stands in the file in one version."""

    kind: str
    version: int
    count: int


@dataclass(frozen=True)
class Endpoint:
    """An input or output of the network; scale and zero point are None without quantization."""

    name: str
    type: str
    shape: tuple[int, ...]
    scale: float | None
    zero_point: int | None


@dataclass(frozen=True)
class SignatureInfo:
    """A signature: its key and the names of its inputs and outputs."""

    key: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class FileSummary:
    """A whole file.

    Attributes:
      description: who wrote the file, in its own words.
      layers: the operators of the first subgraph.
      file_bytes: where the bytes go.
      macs, bops: sums over the layers, on one image.
      bits_known: whether the metadata names the bits; else BOPs are counted with those of the tensors' types.
      average_bits: mean activation bits of the layers that are not first or last: "plain", weighted "by_ops"
        and "by_elements" of the input; empty where there are no such layers or their bits are not known.
      uncounted: operators that multiply but for which no MACs are counted.
      partitions: XNNPACK partitions on this machine; None where LiteRT was not asked or cannot load the file.
      delegation_fault: why it cannot.
      operators: kinds and versions with their counts, the most frequent first.
      inputs, outputs, signatures: of the first subgraph.
      subgraphs: number of subgraphs; those after the first are not looked into.
      metadata_names: names of all metadata buffers.
      metadata: the document in the buffer "mmx_tf" without its layers; None without one.
      faults: where metadata and file contradict each other.
    """

    description: str
    layers: tuple[LayerInfo, ...]
    file_bytes: FileBytes
    macs: int
    bops: int
    bits_known: bool
    average_bits: dict[str, float]
    uncounted: tuple[str, ...]
    partitions: int | None
    delegation_fault: str | None
    operators: tuple[OperatorCount, ...]
    inputs: tuple[Endpoint, ...]
    outputs: tuple[Endpoint, ...]
    signatures: tuple[SignatureInfo, ...]
    subgraphs: int
    metadata_names: tuple[str, ...]
    metadata: dict | None
    faults: tuple[str, ...]


def layers(data: bytes, *, delegation: bool = True) -> tuple[LayerInfo, ...]:
    """The layers of the .tflite in `data`, one per operator; arguments and errors as for `summary`."""
    return summary(data, delegation=delegation).layers


def summary(data: bytes, *, delegation: bool = True) -> FileSummary:
    """What the .tflite in `data` holds and costs.

    Args:
      data: the contents of a .tflite.
      delegation: ask LiteRT, in another process, which operators XNNPACK takes on this machine.

    Raises:
      TfliteFileError: `data` is no .tflite or a damaged one.
    """
    return summarize(parse(data), delegation=delegation)


def summarize(file: TfliteFile, *, delegation: bool = True) -> FileSummary:
    """As `summary`, for a file that is read already."""
    recorded = file_metadata.read(file)
    partitions = outside = fault = None
    if delegation:
        try:
            found = delegation_query.query(file.data)
            partitions, outside = found.partitions, frozenset(index for index, _ in found.left_outside)
        except delegation_query.DelegationError as error:
            fault = str(error)
    table = layer_table(file, recorded.bits, outside)
    counts = Counter((operator.kind, operator.version) for operator in file.operators)
    return FileSummary(
        description=file.description,
        layers=table,
        file_bytes=file_bytes(file),
        macs=sum(layer.macs for layer in table),
        bops=sum(layer.bops for layer in table),
        bits_known=recorded.bits is not None,
        average_bits=_average_bits(table),
        uncounted=tuple(sorted(kind for kind in {kind for kind, _ in counts} if _is_uncounted(kind))),
        partitions=partitions,
        delegation_fault=fault,
        operators=tuple(OperatorCount(*key, count) for key, count in counts.most_common()),
        inputs=tuple(map(_endpoint, file.at(file.inputs))),
        outputs=tuple(map(_endpoint, file.at(file.outputs))),
        signatures=tuple(SignatureInfo(key, tuple(i), tuple(o)) for key, i, o in file.signatures),
        subgraphs=file.subgraphs,
        metadata_names=tuple(file.metadata),
        metadata=recorded.document,
        faults=(*recorded.faults, *file_metadata.contradictions(file, recorded, table)),
    )


def _is_uncounted(kind: str) -> bool:
    return any(part in kind for part in UNCOUNTED)


def _endpoint(tensor: Tensor) -> Endpoint:
    return Endpoint(tensor.name, tensor.type, tensor.shape, tensor.scale, tensor.zero_point)


def _average_bits(table: Sequence[LayerInfo]) -> dict[str, float]:
    inner = [layer for layer in table if layer.activation_bits and layer.macs and not layer.end]

    def mean(weight):
        return sum(weight(layer) * layer.activation_bits for layer in inner) / sum(map(weight, inner))

    if not inner or not any(layer.input_elements for layer in inner):
        return {}
    return {
        "plain": mean(lambda layer: 1),
        "by_ops": mean(lambda layer: layer.macs),
        "by_elements": mean(lambda layer: layer.input_elements),
    }
