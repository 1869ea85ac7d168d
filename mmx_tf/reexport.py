"""Another .tflite of a finished run, with other weights' storage or other ends; nothing is trained.

    python -m mmx_tf.reexport --workdir=W --weight_storage=int4_xnnpack --out=FILE.tflite
    python -m mmx_tf.reexport --workdir=W --input_type=int8 --output_type=class --out=FILE.tflite

What is not given is as the run had it. The file is compared with the folded network before it is written.
Files of the workdir are left as they are. Exit codes: 0 done; 2 for what cannot be written; 3 if more of the
codes differ than --max_disagreement allows, and then nothing is written.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence

from mmx_tf import choices, command_line, exit_codes, quiet
from mmx_tf.errors import DisagreementError, RecipeError
from mmx_tf.exit_codes import ExitCode
from mmx_tf.waiting import loading_tensorflow
from mmx_tf.workdir import results
from mmx_tf.workdir.belonging import check_finished


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the file that the command line asks for; returns the exit code."""
    options = _options(arguments)
    quiet.set_up_logging()
    try:
        _check_folder(options)
        # Only now, since it takes seconds: a wrong argument is told before.
        with loading_tensorflow():
            from mmx_tf.export.running.noise import provoke_native_noise

            provoke_native_noise()
        print(reexport(options), flush=True)
    except exit_codes.ERRORS as error:
        print(error, file=sys.stderr)
        return int(exit_codes.of(error))
    except ValueError as error:
        print(error, file=sys.stderr)
        return int(ExitCode.USAGE)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_line.parser("reexport", "Write another .tflite of a finished run, without training.")
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="a finished workdir")
    parser.add_argument(
        "--out", required=True, type=pathlib.Path, metavar="FILE", help="the file to write; it must not exist"
    )
    for name, allowed, what in (
        ("weight_storage", choices.STORAGES, "how weights are stored"),
        ("input_type", choices.INPUT_TYPES, "what the file takes"),
        ("output_type", choices.OUTPUT_TYPES, "what it gives"),
    ):
        text = f"{what}: {', '.join(allowed)}; default: as the run has it"
        parser.add_argument(f"--{name}", choices=allowed, metavar="NAME", help=text)
    parser.add_argument(
        "--max_disagreement",
        type=float,
        metavar="SHARE",
        help="largest share of an operator's codes, or of the logits', that may differ from the folded "
        "network under XNNPACK, 0 to 1; default: the run's",
    )
    options = parser.parse_args(arguments)
    limit = options.max_disagreement
    if limit is not None and not 0 <= limit <= 1:
        parser.error(f"--max_disagreement={limit:g}: a share of 0 to 1 is needed.")
    if options.out.exists():
        parser.error(f"--out={options.out} is there already: give the name of a new file.")
    if not options.out.parent.is_dir():
        parser.error(f"--out={options.out}: there is no folder {options.out.parent}; make it first.")
    return options


def _check_folder(options: argparse.Namespace) -> None:
    """Refuses (RecipeError) what the file system tells: no finished workdir, a result of it as --out."""
    root = options.workdir
    if options.out.name in results.RESULTS and options.out.parent.resolve() == root.resolve():
        raise RecipeError(f"--out={options.out} is the name of a result of the run itself; give another one.")
    check_finished(root, results.SOURCES)


def reexport(options: argparse.Namespace) -> str:
    """Writes another file of a finished run; returns what is to be told of it.

    Args:
      options: of the command line.

    Raises:
      RecipeError: if the workdir is no finished one or damaged, or the network cannot have such ends.
      DisagreementError: if the file is not what the folded network computes; it is not written.
    """
    from mmx_tf.export.atomic import write_atomically
    from mmx_tf.export.comparing.certificate import certify, summary
    from mmx_tf.export.comparing.trace import Trace
    from mmx_tf.export.comparing.whole_file import verify
    from mmx_tf.folding.convert import convert
    from mmx_tf.folding.fold import fold
    from mmx_tf.metamix.selection import BitSelection
    from mmx_tf.run.export_stage import convert_options
    from mmx_tf.run.finished import open_network
    from mmx_tf.run.run import evaluation, evaluation_images
    from mmx_tf.waiting import images_done

    root = options.workdir
    recipe, data, fixed = open_network(root, needed=results.SOURCES)
    asked = {
        name: value
        for name in ("weight_storage", "input_type", "output_type", "max_disagreement")
        if (value := getattr(options, name)) is not None
    }
    recipe = dataclasses.replace(recipe, **asked)
    _check_input(recipe, fixed)
    images = evaluation(recipe, data)
    folded = fold(fixed, weight_storage=recipe.weight_storage)
    target = BitSelection.load(root / results.SELECTION).target_bops
    content = convert(folded, target_bops=target, **convert_options(recipe, data.class_names))
    trace = Trace(folded)
    count = evaluation_images(recipe, data)
    with images_done("verifying the file", count) as progress:
        report = verify(folded, content, images, task=recipe.told_task, trace=trace, progress=progress)
    with images_done("verifying operators", min(count, recipe.parity_images)) as progress:
        certificate = certify(
            folded,
            content,
            images,
            kernels=("xnnpack",),
            max_images=recipe.parity_images,
            task=recipe.told_task,
            progress=progress,
            trace=trace,
        )
    told = [
        summary(certificate),
        f"code disagreement of the outputs on {report.eval_images:,} images: {report.code_disagreement:.4%}",
        *(f"{name}: {json.dumps(values)}" for name, values in report.metrics.items()),
    ]
    if report.code_disagreement > recipe.max_disagreement:
        raise DisagreementError(
            f"{report.code_disagreement:.4%} of the outputs' codes differ from the folded network's, more "
            f"than --max_disagreement={recipe.max_disagreement:g}. {options.out} is not written."
        )
    try:
        certificate.check(max_disagreement=recipe.max_disagreement)
    except DisagreementError as error:
        raise DisagreementError(f"{error} {options.out} is not written.") from None
    write_atomically(options.out, content)
    ends = [f"weights {recipe.weight_storage}", f"output {recipe.output_type}"]
    ends += [f"input {recipe.input_type}"] if recipe.input_type else []
    return "\n".join([*told, f"{options.out}: {len(content):,} bytes, {', '.join(ends)}"])


def _check_input(recipe, fixed) -> None:
    """A network that was trained on pixels takes pixels, as in `mmx_tf.run.pipeline`."""
    from mmx_tf.layers.quantizers.pixels import PixelQuantizer

    if recipe.input_type == "float32" and any(isinstance(layer, PixelQuantizer) for layer in fixed.layers):
        raise RecipeError(
            "--input_type=float32, but the run has been trained on pixels: use one of uint8 (pixels), int8 "
            "(pixels less 128), or train with --input_type=float32 in another --workdir."
        )


if __name__ == "__main__":
    sys.exit(main())
