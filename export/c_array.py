"""A .tflite as a C++ array, for microcontrollers: TensorFlow Lite Micro has no file system to load it from.

    python -m export.c_array model.tflite --out=firmware/src           # model_data.cc and model_data.h

    const tflite::Model* model = tflite::GetModel(model_data);         // in the application
    tflite::MicroMutableOpResolver<8> resolver;
    resolver.AddAdd();                                                 // the calls stand in model_data.h

The header names the operators that the application must register, the grids of inputs and outputs, and the
SHA-256 of the .tflite, so that a firmware can be traced to its file. Imports no TensorFlow. Exit code 2: the
file is no .tflite, or a damaged one, or has what Micro refuses (`export.reading.micro_operators`), the name
is no C identifier, or the folder cannot be written.
"""

import hashlib
import os
import pathlib
import sys
from collections.abc import Sequence

from mmx_tf import command_line
from mmx_tf.export.atomic import write_atomically
from mmx_tf.export.identifiers import check_name
from mmx_tf.export.reading import tflite_file
from mmx_tf.export.reading.contents import Tensor, TfliteFile
from mmx_tf.export.reading.micro_operators import Refusal, refusals, resolver_method

_BYTES_A_LINE = 12
_SHOWN_TENSORS = 3
_HEXADECIMAL = [f"0x{value:02x}" for value in range(256)]


class MicroError(ValueError):
    """A file that TensorFlow Lite Micro would refuse: `refusals`; the message has a line for each reason."""

    def __init__(self, refusals: Sequence[Refusal]):
        self.refusals = tuple(refusals)
        super().__init__("\n".join(_alike(self.refusals)))


def sources(file: TfliteFile, *, name: str = "model_data", source: str = "a .tflite") -> tuple[str, str]:
    """The C++ text of a file.

    Args:
      file: the contents of a .tflite.
      name: the array's name; the files are to be `name`.cc and `name`.h, the length is `name`_length.
      source: what the header says that the array was made from.

    Returns:
      The text of the .cc file and of the .h file.

    Raises:
      ValueError: `name` is no C identifier that a program may define.
      MicroError: the file has what TensorFlow Lite Micro refuses.
    """
    check_name(name)
    refused = refusals(file)
    if refused:
        raise MicroError(refused)
    guard = f"{name.upper().rstrip('_')}_H_"
    digest = hashlib.sha256(file.data).hexdigest()
    comment = "".join(f"// {line}".rstrip() + "\n" for line in _description(file, name, source, digest))
    header = (
        f"{comment}\n#ifndef {guard}\n#define {guard}\n\n"
        f"constexpr unsigned int {name}_length = {len(file.data)};\n"
        f"extern const unsigned char {name}[{name}_length];\n\n#endif  // {guard}\n"
    )
    lines = (file.data[start : start + _BYTES_A_LINE] for start in range(0, len(file.data), _BYTES_A_LINE))
    values = "".join(f"    {', '.join(map(_HEXADECIMAL.__getitem__, line))},\n" for line in lines)
    # Flatbuffers are read in place, and their vectors are aligned relative to the beginning.
    definition = (
        f'// The bytes of {_quoted(source)}, SHA-256 {digest}.\n\n#include "{name}.h"\n\n'
        f"alignas(16) const unsigned char {name}[{name}_length] = {{\n{values}}};\n"
    )
    return definition, header


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = command_line.parser("c_array", "Write a .tflite as a C++ array.")
    parser.add_argument("file", metavar="FILE.tflite")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder of the two files, made where missing"
    )
    parser.add_argument(
        "--name", default="model_data", help="of the array and the files, default: model_data"
    )
    options = parser.parse_args(arguments)
    try:
        check_name(options.name)
        file = tflite_file.read(options.file)
        definition, header = sources(file, name=options.name, source=os.path.basename(options.file))
        folder = pathlib.Path(options.out)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{options.name}.cc", definition)
        write_atomically(folder / f"{options.name}.h", header)
    except OSError as error:
        print(f"{error.filename or options.out}: {(error.strerror or str(error)).lower()}.", file=sys.stderr)
        return 2
    except MicroError as error:
        for line in str(error).splitlines():
            print(f"{options.file}: {line}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{folder / options.name}.cc, .h: {len(file.data):,} bytes as {options.name}")
    return 0


def _kinds(file: TfliteFile) -> list[str]:
    return sorted({operator.kind for operator in file.operators})


def _alike(refused: Sequence[Refusal]) -> list[str]:
    """A line for all refusals with one reason."""
    groups = {}
    for refusal in refused:
        groups.setdefault((refusal.kind, refusal.reason, refusal.instead), []).append(refusal.tensor)
    lines = []
    for (kind, reason, instead), tensors in groups.items():
        shown = ", ".join(map(_quoted, tensors[:_SHOWN_TENSORS]))
        more = f" and {len(tensors) - _SHOWN_TENSORS} more" if len(tensors) > _SHOWN_TENSORS else ""
        lines.append(f"TensorFlow Lite Micro refuses {_ascii(kind)} {reason}: {shown}{more}; {instead}.")
    return lines


def _description(file, name, source, digest) -> list[str]:
    kinds = _kinds(file)
    lines = [
        f"{_quoted(source)} for TensorFlow Lite Micro: {len(file.data)} bytes in the array {name}.",
        f"SHA-256 {digest}",
        "",
        "Operators:",
        "",
        f"    tflite::MicroMutableOpResolver<{len(kinds)}> resolver;",
        *(f"    resolver.{resolver_method(kind)}();" for kind in kinds),
    ]
    for title, indices in (("Inputs", file.inputs), ("Outputs", file.outputs)):
        lines += ["", f"{title} (real value = scale * (code - zero point)):"]
        lines += [f"    {_tensor(file.tensors[index])}" for index in indices]
    return lines


def _tensor(tensor: Tensor) -> str:
    shape = ", ".join(map(str, tensor.shape))
    grid = "no scale" if tensor.scale is None else f"scale {tensor.scale!r}, zero point {tensor.zero_point}"
    return f"{_quoted(tensor.name)}: {tensor.type} [{shape}], {grid}"


def _quoted(name: str) -> str:
    """In quotes and in ASCII: no name ends a comment, continues it on the next line, or opens another one."""
    return '"' + _ascii(name).replace('"', "'") + '"'


def _ascii(name: str) -> str:
    return name.encode("unicode_escape").decode()


if __name__ == "__main__":
    sys.exit(main())
