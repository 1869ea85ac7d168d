"""What a path is that somebody gives as a network, by what it holds and not by its name.

>>> format_of("float.keras"), format_of("exported/")
('keras', 'saved_model')

Only beginnings of files are read here, and lists of names; nothing is built.
"""

import json
import os
import zipfile
import zlib

from mmx_tf.formats.refused import CONTENTS, HDF5, SUFFIXES, TAKEN, FormatError, refusal

DAMAGE = (
    OSError, EOFError, ValueError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What `zipfile`, `json` and `h5py` raise for a file that is damaged."""

_BEGINNING = 512


def format_of(path: str) -> str:
    """The format of a network's file or folder: "keras", "keras3", "h5" or "saved_model".

    Raises:
      FileNotFoundError: if nothing is there.
      FormatError: for anything else; says what it is, and what to give.
    """
    if not os.path.exists(path):
        if os.path.exists(f"{path}.index"):
            raise refusal("prefix", path)
        raise FileNotFoundError(f"there is no file {path!r}.")
    return _format_of_folder(path) if os.path.isdir(path) else _format_of_file(path)


def _format_of_folder(path: str) -> str:
    try:
        names = set(os.listdir(path))
    except OSError as error:
        raise FormatError(f"{path!r} cannot be read: {error}.") from error
    if {"saved_model.pb", "keras_metadata.pb"} & names:
        return "saved_model"
    if {"config.json", "model.weights.h5"} <= names:
        raise refusal("unpacked", path)
    if "checkpoint" in names:
        raise refusal("checkpoint", path)
    if "model.json" in names:
        raise refusal("tfjs", os.path.join(path, "model.json"))
    for name in sorted(names):
        if os.path.exists(os.path.join(path, name, "saved_model.pb")):
            raise FormatError(
                f"{path!r} is a folder with a SavedModel in it: give {os.path.join(path, name)!r}."
            )
    raise FormatError(f"{path!r} is a folder, but no SavedModel: it has no saved_model.pb. {TAKEN}")


def _format_of_file(path: str) -> str:
    try:
        with open(path, "rb") as file:
            beginning = file.read(_BEGINNING)
    except OSError as error:
        raise FormatError(f"{path!r} cannot be read: {error}.") from error
    if beginning.startswith(HDF5):
        return "h5"
    for what, place, content in CONTENTS:
        if beginning[place:].startswith(content):
            raise refusal(what, path)
    name = os.path.basename(path).lower()
    if beginning.startswith(b"PK"):
        return _format_of_archive(path, name)
    if name in ("saved_model.pb", "keras_metadata.pb", "variables.index"):
        folder = os.path.dirname(os.path.abspath(path))
        folder = os.path.dirname(folder) if name == "variables.index" else folder
        if os.path.exists(os.path.join(folder, "saved_model.pb")):
            raise FormatError(f"{path!r} is a part of a SavedModel: give its folder, {folder!r}.")
    if name.endswith(".keras"):
        return "keras"  # A damaged one, whose reader says so.
    if name.endswith(".json") and _is_tfjs(path):
        raise refusal("tfjs", path)
    for what, suffixes in SUFFIXES.items():
        if name.endswith(suffixes) or (what == "checkpoint" and ".data-0" in name):
            raise refusal(what, path)
    raise FormatError(f"{path!r} is not a file of a network in a known format. {TAKEN}")


def _format_of_archive(path: str, name: str) -> str:
    """The format of a zip archive: what it holds tells a .keras file from PyTorch's and a packed folder."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in members else {}
    except DAMAGE:
        members, metadata = [], {}
    inside = [member.rpartition("/")[2] for member in members]
    if "config.json" not in members:
        if "data.pkl" in inside:
            raise refusal("torch", path)
        if "saved_model.pb" in inside:
            raise refusal("packed", path)
    if name.endswith(".keras"):
        version = metadata.get("keras_version") if isinstance(metadata, dict) else None
        return "keras3" if str(version).startswith("3") else "keras"
    if "config.json" in members:
        raise refusal("renamed", path)
    for what, suffixes in SUFFIXES.items():
        if name.endswith(suffixes):
            raise refusal(what, path)
    raise FormatError(f"{path!r} is an archive that holds no network in a known format. {TAKEN}")


def _is_tfjs(path: str) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except DAMAGE:
        return False
    return isinstance(content, dict) and "modelTopology" in content
