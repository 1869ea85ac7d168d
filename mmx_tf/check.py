"""Whether a Keras network can be searched and exported, and where its file runs, without data.

    python -m mmx_tf.check float.keras
    python -m mmx_tf.check float.h5 other.keras

Every layer is looked at, and an untrained trial is exported. Exit code 0: all of the networks can go all the
way; 1: one of them cannot, and what is to be changed is told; 2: a file cannot be read.
"""

import sys
from collections.abc import Sequence

from mmx_tf import command_line, quiet
from mmx_tf.formats.paths import format_of

CANNOT, UNREADABLE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks the files of the command line; returns the exit code."""
    parser = command_line.parser("check", __doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE", help="a trained float network of Keras")
    files = parser.parse_args(arguments).files
    quiet.set_up_logging()
    code = 0
    for place, path in enumerate(files):
        try:
            format_of(path)
            said, exportable = _checked(path)
        except (OSError, TypeError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            code = UNREADABLE
            continue
        print(("\n" if place else "") + said, flush=True)
        code = max(code, 0 if exportable else CANNOT)
    return code


def _checked(path: str) -> tuple[str, bool]:
    """What is said of a file's network, and whether it can be exported."""
    # They load TensorFlow, which takes seconds: not for a path that its beginning refuses.
    from mmx_tf.checking.network import check_network
    from mmx_tf.checking.text import text
    from mmx_tf.export.running.noise import provoke_native_noise

    provoke_native_noise()
    found = check_network(path)
    return text(found, path), found.exportable


if __name__ == "__main__":
    sys.exit(main())
