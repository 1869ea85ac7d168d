"""`python -m export.parity`: the parity certificate (`export.comparing.certificate`) of a finished workdir.

python -m export.parity --workdir=DIR --images=10000 --kernels=xnnpack --json=parity.json
"""

import json
import pathlib
import sys

from mmx_tf import command_line
from mmx_tf.errors import DisagreementError
from mmx_tf.export.atomic import write_atomically
from mmx_tf.export.provenance import commit, provenance
from mmx_tf.export.running import litert

__all__ = ["Certificate", "DisagreementError", "certify", "main", "summary"]  # noqa: F822, some on demand


def __getattr__(name: str):
    """The names of `export.comparing.certificate`; a wrong argument is told before TensorFlow is loaded."""
    if name in __all__:
        from mmx_tf.export.comparing import certificate

        return getattr(certificate, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main(arguments=None) -> int:
    """Certifies the file of a finished workdir again; returns the exit code."""
    parser = command_line.parser("parity", "Compare every operator of a workdir's model.tflite.")
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="a finished workdir")
    parser.add_argument("--images", type=int, metavar="N", help="evaluation images, default: all")
    parser.add_argument(
        "--kernels", default=",".join(litert.KERNELS), metavar="A,B", help="default: all of %(default)s"
    )
    parser.add_argument(
        "--max_disagreement", type=float, metavar="SHARE", help="fail beyond it, under XNNPACK"
    )
    parser.add_argument(
        "--json", type=pathlib.Path, metavar="OUT", help="also write the certificate to this file"
    )
    options = parser.parse_args(arguments)
    if options.images is not None and options.images < 1:
        parser.error(f"--images={options.images}: at least 1 is needed.")
    from mmx_tf import quiet
    from mmx_tf.waiting import busy, images_done, loading_tensorflow
    from mmx_tf.workdir import results
    from mmx_tf.workdir.belonging import check_finished

    quiet.set_up_logging()
    try:
        check_finished(options.workdir, (results.NETWORK, results.FILE))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    commit()  # asked for now: the certificate names the code that this process has begun with
    with loading_tensorflow():
        # Only the command knows of workdirs: the library stands below the rooms that do.
        from mmx_tf.export.comparing.certificate import certify, summary
        from mmx_tf.export.running.noise import provoke_native_noise
        from mmx_tf.run.finished import open_workdir, task_of

        provoke_native_noise()
    try:
        with busy(f"reading {options.workdir}"):
            folded, data, eval_ds = open_workdir(options.workdir)
        with images_done("verifying operators", options.images) as progress:
            certificate = certify(
                folded,
                data,
                eval_ds,
                kernels=tuple(options.kernels.split(",")),
                max_images=options.images,
                task=task_of(options.workdir),
                progress=progress,
            )
        print(summary(certificate))
        if options.json:
            document = {"provenance": provenance()} | certificate.to_json()
            write_atomically(options.json, json.dumps(document, indent=1) + "\n")
        if options.max_disagreement is not None:
            certificate.check(max_disagreement=options.max_disagreement)
    except DisagreementError as error:
        print(error, file=sys.stderr)
        return 3
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
