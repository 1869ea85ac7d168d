"""Does the file compute what the folded model computes? Judged by running it in LiteRT under XNNPACK.

    report = verify(folded, data, eval_ds)
    report.code_disagreement, report.top1_agreement          # 0.0, 1.0 when every code is equal
    report.tensors[0]                                        # the same, tensor by tensor

From the command line, on a finished workdir: python -m export.verify --workdir=DIR
"""

import argparse
import dataclasses
import json
import pathlib
import sys

import numpy as np
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter

from export import litert
from export.partitions import delegated_ops
from export.tflite import convert
from layers.integer_layers import Dequantize, QuantizeInput
from layers.integer_weighted_layers import WeightedLayer


@dataclasses.dataclass(frozen=True)
class TensorParity:
    """Codes of one tensor in the folded model and in the file.

    Attributes:
      name: the tensor's name, that of the folded layer that produces it.
      codes: number of codes compared.
      differing: number of codes that differ.
      largest_difference: largest absolute difference of two codes.
      distinct: number of different codes that the tensor took in the file.
    """

    name: str
    codes: int
    differing: int
    largest_difference: int
    distinct: int


@dataclasses.dataclass(frozen=True)
class VerificationReport:
    """What `verify` found; all fractions are over the same images.

    Attributes:
      eval_images: number of images.
      folded_top1, tflite_top1: accuracy of the folded model and of the file.
      top1_agreement: share of images on which both name the same class.
      code_disagreement: share of logit codes that differ.
      tensors: every tensor of the file on the first images (`traced_images` of them).
      traced_images: number of images that `tensors` was counted on.
      partitions: XNNPACK partitions of the file on this machine.
      left_outside: operators that XNNPACK does not take, as (index, name).
    """

    eval_images: int
    folded_top1: float
    tflite_top1: float
    top1_agreement: float
    code_disagreement: float
    tensors: tuple[TensorParity, ...]
    traced_images: int
    partitions: int
    left_outside: tuple

    def to_json(self) -> dict:
        """The report as plain JSON values."""
        return dataclasses.asdict(self)


def verify(folded: keras.Model, data: bytes, eval_ds, *, traced_images: int = 128) -> VerificationReport:
    """Compares a folded model with its file on evaluation images.

    Args:
      folded: model made by `mmx_tf.fold`, with one logits output.
      data: what `convert` made of it, with int8 output.
      eval_ds: batches of (float images, integer labels), as the network was trained on.
      traced_images: images on which every tensor is compared, not only the logits.

    Raises:
      ValueError: if there are no images, or the file's input or output does not fit the folded model.
    """
    final = _final_codes(folded)
    entry = next(layer for layer in folded.layers if isinstance(layer, QuantizeInput))
    both = keras.Model(folded.inputs, [entry.output, final.input])
    runner = _Runner(data, entry.output_grid, final.input_grid)
    correct_folded = correct_file = agreeing = differing = images = codes = 0
    first_images = []
    for batch, labels in eval_ds:
        labels = np.asarray(labels).reshape(-1)
        input_codes, expected = (np.asarray(codes) for codes in both.predict_on_batch(batch))
        found = runner(np.asarray(batch), input_codes)
        if sum(map(len, first_images)) < traced_images:
            first_images.append(np.asarray(batch))
        differing += int(np.sum(expected != found))
        codes += found.size
        images += len(labels)
        agreeing += int(np.sum(expected.argmax(-1) == found.argmax(-1)))
        correct_folded += int(np.sum(expected.argmax(-1) == labels))
        correct_file += int(np.sum(found.argmax(-1) == labels))
    if images == 0:
        raise ValueError("eval_ds has no images; give at least one batch of (images, labels).")
    delegation = delegated_ops(data)
    traced = np.concatenate(first_images)[:traced_images]
    return VerificationReport(
        eval_images=images,
        folded_top1=correct_folded / images,
        tflite_top1=correct_file / images,
        top1_agreement=agreeing / images,
        code_disagreement=differing / codes,
        tensors=tensor_parities(folded, traced),
        traced_images=len(traced),
        partitions=delegation.partitions,
        left_outside=delegation.left_outside,
    )


def tensor_parities(folded: keras.Model, images: np.ndarray) -> tuple[TensorParity, ...]:
    """Compares every tensor of a folded model with LiteRT's.

    XNNPACK keeps tensors inside a partition to itself, so the model is converted once more with every tensor
    as an output; the operators are the same.

    Args:
      folded: model made by `mmx_tf.fold`.
      images: (N, height, width, channels) float images.
    """
    entry = next(layer for layer in folded.layers if isinstance(layer, QuantizeInput))
    layers = [
        layer
        for layer in folded.layers
        if hasattr(layer, "output_grid") and not isinstance(layer, QuantizeInput)
    ]
    exposed = keras.Model(folded.inputs, [entry.output, *(layer.output for layer in layers)])
    storage = {"int4"} & {layer.weight_storage for layer in layers if isinstance(layer, WeightedLayer)}
    outputs_only = keras.Model(folded.inputs, exposed.outputs[1:])
    data = convert(outputs_only, weight_storage=storage.pop() if storage else "int8", input_type="int8")
    input_codes, *expected = exposed.predict(images, verbose=0, batch_size=64)
    name = Interpreter(model_content=data).get_input_details()[0]["name"]
    found = litert.run(data, {name: input_codes.astype(np.int8)}, batch_size=64)
    return tuple(_parity(layer.name, codes, found) for layer, codes in zip(layers, expected, strict=True))


def _parity(name, expected, found) -> TensorParity:
    codes = found[name].astype(np.int32)
    difference = np.abs(expected.astype(np.int32) - codes)
    return TensorParity(
        name=name,
        codes=int(codes.size),
        differing=int(np.count_nonzero(difference)),
        largest_difference=int(difference.max()),
        distinct=len(np.unique(codes)),
    )


class _Runner:
    """Runs a file on float images or their input codes, whatever its input type, and returns logit codes."""

    def __init__(self, data, input_grid, output_grid):
        self.interpreter = Interpreter(model_content=data)
        (self.input,) = self.interpreter.get_input_details()
        (self.output,) = self.interpreter.get_output_details()
        shift = 128 if self.input["dtype"] == np.uint8 else 0
        if self.input["dtype"] != np.float32:
            scale, zero_point = self.input["quantization"]
            if (np.float32(scale), zero_point - shift) != (
                np.float32(input_grid.scale),
                input_grid.zero_point,
            ):
                raise ValueError(
                    f"the file's input has scale {scale} and zero point {zero_point}, the folded model has "
                    f"{input_grid}: the file was made from another model."
                )
        scale, zero_point = self.output["quantization"]
        if (np.float32(scale), zero_point) != (np.float32(output_grid.scale), output_grid.zero_point):
            raise ValueError(
                f"the file's output has scale {scale} and zero point {zero_point}, the folded model has "
                f"{output_grid}: the file was made from another model, or with float32 output."
            )
        self.shift = shift
        self.batch_shape = None

    def __call__(self, images, input_codes):
        value = images.astype(np.float32)
        if self.input["dtype"] != np.float32:
            value = (input_codes + self.shift).astype(self.input["dtype"])
        if value.shape != self.batch_shape:
            self.interpreter.resize_tensor_input(self.input["index"], value.shape)
            self.interpreter.allocate_tensors()
            self.batch_shape = value.shape
        self.interpreter.set_tensor(self.input["index"], value)
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output["index"]).astype(np.int32)


def _final_codes(folded) -> Dequantize:
    layers = [tensor.node.layer for tensor in folded.outputs]
    if len(layers) != 1 or not isinstance(layers[0], Dequantize):
        raise ValueError(
            f"model {folded.name!r} ends with {[type(layer).__name__ for layer in layers]}; verify takes a "
            "model made by mmx_tf.fold with one logits output."
        )
    return layers[0]


def main(arguments=None) -> int:
    """Verifies the file of a finished workdir again, prints the report as JSON, returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare a workdir's model.tflite with its folded model.")
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="a finished workdir")
    workdir = parser.parse_args(arguments).workdir
    # The command stands above the library: the workdir's recipe and data are not known in export.
    from mmx_tf import quiet
    from mmx_tf.pipeline import open_workdir

    quiet.set_up_logging()
    quiet.provoke_native_noise()
    try:
        folded, data, eval_ds = open_workdir(workdir)
        report = verify(folded, data, eval_ds)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(report.to_json(), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
