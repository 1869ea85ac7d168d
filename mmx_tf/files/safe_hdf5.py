"""HDF5 files of a stranger, read so that nothing but the file's own numbers is read.

h5py runs no code of a file. But a link in it, a virtual dataset or one with external storage is read from
other files, whose paths the file names. Keras writes none of these, so they are refused.

    >>> with opened("network.h5") as file:       # raises UnsafeFileError, or gives an h5py.File
    ...     sorted(file.attrs)
    ['backend', 'keras_version', 'model_config']
"""

import contextlib
import os
from collections.abc import Iterator

import h5py

from mmx_tf.files.safe_config import UnsafeFileError

_SLACK = 2**20
_MOST_COMPRESSED = 1100
"""zlib packs 1032 equal bytes into one."""


@contextlib.contextmanager
def opened(source, name: str = "") -> Iterator[h5py.File]:
    """An HDF5 file that is open for reading and has been checked.

    Args:
      source: a path, or a binary file object.
      name: what messages call it; the path, if it is not given.

    Raises:
      UnsafeFileError: names the part that is read from elsewhere, or that cannot be as large as it says.
      OSError: or others of `mmx_tf.formats.paths.DAMAGE`, for a damaged file.
    """
    with h5py.File(source, "r") as file:
        _check(file, name or repr(os.fspath(source)))
        yield file


def _check(file: h5py.File, name: str) -> None:
    seen, groups = set(), [file]
    while groups:
        group = groups.pop()
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise UnsafeFileError(
                    f"{name} has a link at {group.name}/{key}, which may lead to another file; it is not "
                    "followed."
                )
            member = group[key]
            place = h5py.h5o.get_info(member.id).addr
            if place in seen:
                continue
            seen.add(place)
            if isinstance(member, h5py.Group):
                groups.append(member)
            elif isinstance(member, h5py.Dataset):
                _check_dataset(member, name)


def _check_dataset(dataset: h5py.Dataset, name: str) -> None:
    if dataset.is_virtual or dataset.external:
        raise UnsafeFileError(
            f"{name} has numbers at {dataset.name} that are in other files; they are not read."
        )
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > _MOST_COMPRESSED * stored + _SLACK:
        raise UnsafeFileError(
            f"{name} says that {dataset.name} has {dataset.nbytes:,} bytes, and holds {stored:,} of it."
        )
