"""What TensorFlow Lite Micro makes of a workdir's network, in each storage of its weights.

    python -m mmx_tf.train --flagfile=quick.flags
    python -m benchmarks.micro --workdir=runs/quick --json=results/export/micro.json

All evaluation images go through Micro's own interpreter (`micro_interpreter`, portable kernels) and through
LiteRT's reference kernels, and are compared with the folded network, which is what was trained.
"""

import pathlib
import sys

import numpy as np

import mmx_tf
from benchmarks import command_line, measuring, micro_interpreter
from mmx_tf.choices import STORAGES
from mmx_tf.export.comparing.trace import Trace
from mmx_tf.export.comparing.unpacked import unpacked
from mmx_tf.export.running import litert
from mmx_tf.run.finished import open_workdir

MODULE = "benchmarks.micro"


def measured(fixed, weight_storage: str, images: np.ndarray, pixels: np.ndarray, labels: np.ndarray) -> dict:
    """The figures of one storage.

    Args:
      fixed: a network made by `rebuild`.
      weight_storage: one of `STORAGES`.
      images: float [N, H, W, C], as the network takes them.
      pixels: uint8, the same images as the file takes them.
      labels: [N].
    """
    folded = mmx_tf.fold(fixed, weight_storage=weight_storage)
    data = mmx_tf.convert(folded, weight_storage=weight_storage)
    trace = Trace(folded)
    codes = trace(images)[trace.ends[0].final]
    found = {
        "weight_storage": weight_storage,
        "file_bytes": len(data),
        "images": len(labels),
        "folded_top1": float(np.mean(codes.argmax(1) == labels)),
    }
    (answer,) = micro_interpreter.run([(data, [pixels])])
    if answer.outputs is None:
        return found | {"refused": answer.refusal.splitlines()[0]}
    (micro,) = answer.outputs
    (name,) = litert.Runner(data).inputs
    (reference,) = litert.run(unpacked(data), {name: pixels}, kernels="reference").values()
    return found | {
        "micro_top1": float(np.mean(micro.argmax(1) == labels)),
        "arena_bytes": answer.arena_bytes,
        "logit_codes": micro.size,
        "codes_unlike_folded": int(np.count_nonzero(micro != codes)),
        "classes_unlike_folded": int(np.count_nonzero(micro.argmax(1) != codes.argmax(1))),
        "codes_unlike_reference_kernels": int(np.count_nonzero(micro != reference)),
        "classes_unlike_reference_kernels": int(np.count_nonzero(micro.argmax(1) != reference.argmax(1))),
    }


def main() -> int:
    """Runs every storage, prints the figures; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__)
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="a finished workdir of pixels")
    options = parser.parse_args()
    _, _, evaluation = open_workdir(options.workdir)
    fixed = mmx_tf.load_model(options.workdir / "fixed_model.keras")
    images, labels = (np.concatenate(parts) for parts in zip(*evaluation, strict=True))
    pixels = np.rint((images + 1) * 127.5).astype(np.uint8)
    results = []
    for weight_storage in STORAGES:
        results.append(measured(fixed, weight_storage, images, pixels, labels))
        print(*(f"{key} {value}" for key, value in results[-1].items()), sep="\n    ", flush=True)
    if options.json:
        command = command_line.command(MODULE, options, workdir="W")
        measuring.write_json(options.json, measuring.document(command, results=results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
