"""`python -m export.verify`: does a finished workdir's file compute what its folded model computes?

python -m export.verify --workdir=DIR            # the report (`mmx_tf.verify`) as JSON
"""

import json
import pathlib
import sys

from mmx_tf import command_line

__all__ = ["TensorParity", "VerificationReport", "main", "verify"]  # noqa: F822, the others on demand


def __getattr__(name: str):
    """The names of `export.comparing.whole_file`; a wrong argument is told before TensorFlow is loaded."""
    if name in __all__:
        from mmx_tf.export.comparing import whole_file

        return getattr(whole_file, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main(arguments=None) -> int:
    """Verifies the file of a finished workdir again, prints the report as JSON, returns the exit code."""
    parser = command_line.parser("verify", "Compare a workdir's model.tflite with its folded model.")
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="a finished workdir")
    workdir = parser.parse_args(arguments).workdir
    from mmx_tf import quiet
    from mmx_tf.waiting import busy, images_done, loading_tensorflow
    from mmx_tf.workdir import results
    from mmx_tf.workdir.belonging import check_finished

    quiet.set_up_logging()
    try:
        check_finished(workdir, (results.NETWORK, results.FILE))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    with loading_tensorflow():
        # Only the command knows of workdirs: the library stands below the rooms that do.
        from mmx_tf.export.comparing.whole_file import verify
        from mmx_tf.export.running.noise import provoke_native_noise
        from mmx_tf.run.finished import open_workdir, task_of

        provoke_native_noise()
    try:
        with busy(f"reading {workdir}"):
            folded, data, eval_ds = open_workdir(workdir)
        with images_done("verifying the file") as progress:
            report = verify(folded, data, eval_ds, task=task_of(workdir), progress=progress)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(report.to_json(), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
