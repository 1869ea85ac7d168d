"""A .npz file of NumPy: its arrays are found and checked by their headers alone, then read once.

>>> found = check("keywords.npz")            # no numbers are read
>>> found.train.shape, found.evaluation
((24, 49, 10, 1), None)
"""

import dataclasses
import os
import zipfile
import zlib

import numpy as np

from mmx_tf.errors import DataError
from mmx_tf.startup import MEMORY_BYTES

ONE, TRAIN, TEST = ("x", "y"), ("x_train", "y_train"), ("x_test", "y_test")
CLASS_NAMES = "class_names"
NAMES = (*ONE, *TRAIN, *TEST, CLASS_NAMES)
LARGEST_SHARE_OF_MEMORY = 1 / 4
"""Of what the examples take as float32: shuffled batches and the network need theirs."""
BLOCK = 2**20


@dataclasses.dataclass(frozen=True)
class Header:
    """What the file says of one array."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def __str__(self) -> str:
        return f"{self.name} {self.shape}"


@dataclasses.dataclass(frozen=True)
class Headers:
    """The arrays of a file by what they are.

    Attributes:
      train, evaluation: examples; `evaluation` is None where some of `train` have to be held out.
      labels, evaluation_labels: None where the examples are their own labels.
      class_names: None where classes have numbers alone.
    """

    train: Header
    labels: Header | None
    evaluation: Header | None
    evaluation_labels: Header | None
    class_names: Header | None


def check(path: str) -> Headers:
    """The arrays that a file says that it has.

    Raises:
      DataError: for another kind of file, for arrays that are missing, misnamed or no numbers, or for
        not as many labels as examples.
    """
    where = f"--dataset=npz:{path}"
    headers = _headers(os.path.expanduser(path), where)
    unknown = sorted(headers.keys() - set(NAMES))
    x, y = TRAIN if TRAIN[0] in headers else ONE
    listed = ", ".join(map(str, headers.values())) or "no arrays"
    rule = "allowed are x and y, or x_train, y_train, x_test and y_test, and class_names"
    if unknown or x not in headers:
        what = f"no x and no x_train, but {listed}" if x not in headers else f"an array {unknown[0]!r}"
        raise DataError(f"{where} has {what}; {rule}. Save it with np.savez(file, x=..., y=...).")
    others = [name for name in (*ONE, *TEST) if name in headers] if x == "x_train" else []
    mixed = [name for name in (*TRAIN, *TEST) if name in headers] if x == "x" else []
    if mixed or set(others) & set(ONE):
        raise DataError(f"{where} has {listed}: {rule}, not some of both.")
    test_x, test_y = (headers.get(name) for name in TEST)
    found = Headers(headers[x], headers.get(y), test_x, test_y, headers.get(CLASS_NAMES))
    if test_x is None and test_y is not None:
        raise DataError(f"{where} has y_test and no x_test; {rule}.")
    if test_x is not None and (found.labels is None) != (test_y is None):
        raise DataError(f"{where} has labels for one half alone: {listed}.")
    _check_numbers(where, found)
    return found


def read(path: str) -> dict[str, np.ndarray]:
    """The arrays of a file that `check` has found right, by their names.

    Raises:
      DataError: for an array that is damaged or truncated.
    """
    file = os.path.expanduser(path)
    found, name = {}, ""
    try:
        with np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                found[name] = archive[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(
            f"--dataset=npz:{path}: array {name!r} is truncated or damaged ({_one_line(error)}). Save the "
            "file anew."
        ) from error
    return found


def check_finite(where: str, name: str, values: np.ndarray) -> None:
    """Refuses (DataError) numbers of which one is not finite in float32; named with its example."""
    if values.dtype.kind != "f":
        return
    step = max(1, BLOCK // max(1, values[0].size))
    for begin in range(0, len(values), step):
        with np.errstate(over="ignore"):
            block = values[begin : begin + step].astype(np.float32)
        fine = np.isfinite(block).reshape(len(block), -1).all(1)
        if not fine.all():
            raise DataError(
                f"{where}: example {begin + int(np.argmin(fine))} of {name} holds NaN, infinite or too large "
                "numbers; all must be finite in float32."
            )


def _headers(path: str, where: str) -> dict[str, Header]:
    """The headers of all arrays, in the order of the file."""
    try:
        with open(path, "rb") as file:
            begin = file.read(6)
        if begin == np.lib.format.MAGIC_PREFIX:
            raise DataError(
                f"{where} is one array (.npy): save x and y together with np.savez(file, x=..., y=...)."
            )
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): _header(archive, name) for name in names}
    except OSError as error:
        raise DataError(f"{where} cannot be read: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{where} is not a whole .npz file of np.savez ({_one_line(error)}): it may be truncated."
        ) from error


def _header(archive: zipfile.ZipFile, name: str) -> Header:
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(member)
    return Header(name.removesuffix(".npy"), shape, dtype)


def _check_numbers(where: str, found: Headers) -> None:
    examples = [one for one in (found.train, found.evaluation) if one is not None]
    labels = [one for one in (found.labels, found.evaluation_labels) if one is not None]
    for one in (*examples, *labels):
        if one.dtype.kind not in "biuf":
            why = ", which would need pickle: such arrays are never read" if one.dtype.hasobject else ""
            raise DataError(f"{where}: {one.name} is of type {one.dtype}{why}; give an array of numbers.")
    for one in examples:
        if not 2 <= len(one.shape) <= 4 or 0 in one.shape:
            raise DataError(
                f"{where}: {one} is not one of (N, features), (N, length, channels), (N, height, width) "
                "or (N, height, width, channels) with N examples."
            )
    if len({one.shape[1:] for one in examples}) > 1 or len({one.shape[1:] for one in labels}) > 1:
        both = ", ".join(map(str, (*examples, *labels)))
        raise DataError(f"{where}: training and evaluation arrays have different shapes: {both}.")
    for one, label in zip(examples, labels, strict=False):
        if not label.shape or label.shape[0] != one.shape[0]:
            raise DataError(f"{where}: {one} and {label} differ in number: give one label for each example.")
    if found.evaluation is None and found.train.shape[0] < 2:
        raise DataError(f"{where} has one example; at least 2 are needed, one of which is held out.")
    names = found.class_names
    if names is not None and (names.dtype.kind != "U" or len(names.shape) != 1):
        raise DataError(
            f"{where}: class_names has type {names.dtype} and shape {names.shape}; give a list of texts."
        )
    needed = sum(int(np.prod(one.shape)) * (1 if one.dtype == np.uint8 else 4) for one in examples)
    if needed > LARGEST_SHARE_OF_MEMORY * MEMORY_BYTES:
        raise DataError(
            f"{where}: its examples take {needed / 1e9:.1f} GB, and this machine has "
            f"{MEMORY_BYTES / 1e9:.1f} GB of memory, of which they may take a quarter. Give them one by one, "
            "from a function (--dataset=module:NAME:FUNCTION)."
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
