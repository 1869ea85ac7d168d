"""The zip archive that a .keras file is: two JSON files and the weights as HDF5.

>>> config = json_of("float.keras", "config.json")
>>> with readable("float.keras", config) as path:       # as today's Keras writes it
...     keras.models.load_model(path).output_shape
(None, 10)
"""

import contextlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator

from mmx_tf.files import old_names, safe_hdf5
from mmx_tf.files.safe_config import UnsafeFileError

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MEMBERS = ("metadata.json", CONFIG, WEIGHTS)


def json_of(path: str, member: str):
    """A JSON member of the archive, as data. Raises one of `mmx_tf.formats.paths.DAMAGE`."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(member))


def check(path: str) -> None:
    """Refuses a file with more in it than a network has, or with weights that lie in other files.

    Raises:
      UnsafeFileError: names it.
      OSError: or others of `mmx_tf.formats.paths.DAMAGE`, for a damaged file.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member not in MEMBERS:
                raise UnsafeFileError(f"{path!r} holds {member!r}, which is no part of a .keras file.")
        with safe_hdf5.opened(io.BytesIO(archive.read(WEIGHTS)), f"{WEIGHTS} of {path!r}"):
            pass


@contextlib.contextmanager
def readable(path: str, config: dict) -> Iterator[str]:
    """A path at which Keras can read the file with this config; the file's own where nothing has to change.

    Args:
      path: of a file that `check` has looked at.
      config: what it has as config.json, under the names of today's Keras.
    """
    with zipfile.ZipFile(path) as archive:
        same = json.loads(archive.read(CONFIG)) == config
        members = {name: archive.read(name) for name in archive.namelist()}
    with safe_hdf5.opened(io.BytesIO(members[WEIGHTS]), f"{WEIGHTS} of {path!r}") as weights:
        if old_names.has_old_paths(weights):
            same, members[WEIGHTS] = False, old_names.with_new_paths(weights)
    if same:
        yield path
        return
    members[CONFIG] = json.dumps(config)
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "network.keras")
        with zipfile.ZipFile(copy, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        yield copy
