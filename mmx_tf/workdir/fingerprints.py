"""What a run was given, so that it never goes on with something else under the same name.

    inputs = of_inputs(recipe, data)               # when a run begins; kept in its checkpoints/state.json
    changes(recipe, inputs, of_inputs(recipe, data))        # later: [] or what is another one now, in words

A file is known by its SHA-256, a SavedModel folder by those of its files; Keras's ImageNet weights by that
of the loaded numbers; a dataset by its version, its classes, and the names and sizes of its files, which are
listed and not read. So an image that is replaced by another one of the same size under the same name goes
unnoticed.
"""

import hashlib
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from mmx_tf.errors import DataError
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.recipe.rules import FLOAT_TEACHER, IMAGENET_WEIGHTS

if TYPE_CHECKING:  # they load TensorFlow, and files are told apart without it
    import tf_keras as keras

    from mmx_tf.data.examples import Examples
    from mmx_tf.data.source import Split

FILES = {"float_model": IMAGENET_WEIGHTS, "teacher": FLOAT_TEACHER, "bit_selection": "", "cost_table": ""}
"""Flags that name a file, and the word that means something else there."""
_SPLITS = {"train": "training", "evaluation": "evaluation"}
_SHOWN_DIGITS = 12

Inputs = dict[str, dict]


def sha256_of(path: str | os.PathLike) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError as the file system does."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_inputs(recipe: Recipe, data: "Examples", network: "keras.Model | None" = None) -> Inputs:
    """Flag -> what tells its input from another one: the files that flags name, and the dataset.

    Args:
      recipe, data: of the run.
      network: the float network, once it is loaded; --float_model=imagenet is left out without it.

    Raises:
      DataError: if a file of the dataset has gone.
      OSError: if another file cannot be read.
    """
    found = of_files(recipe)
    if network is not None and recipe.float_model == IMAGENET_WEIGHTS:
        found["float_model"] = of_weights(network)
    return found | {"dataset": of_data(data)}


def of_files(recipe: Recipe) -> Inputs:
    """Flag -> what tells its file from another one. Raises OSError if a file cannot be read."""
    given = {flag: getattr(recipe, flag) for flag, word in FILES.items() if getattr(recipe, flag) != word}
    return {flag: of_file(path) for flag, path in given.items() if path}


def of_file(path: str | os.PathLike) -> dict:
    """`sha256` and `bytes` of a file, or of all files of a folder with their names."""
    if not os.path.isdir(path):
        return {"sha256": sha256_of(path), "bytes": os.path.getsize(path)}
    root = pathlib.Path(path)
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return {
        "sha256": _sha256_of_lines(f"{sha256_of(file)} {file.relative_to(root)}" for file in files),
        "bytes": sum(file.stat().st_size for file in files),
    }


def of_weights(model: "keras.Model") -> dict:
    """`sha256` and `bytes` of a network's numbers, in the order of its layers."""
    weights = model.get_weights()
    found = hashlib.sha256()
    for weight in weights:
        found.update(f"{weight.dtype}{weight.shape}".encode())
        found.update(weight.tobytes())
    return {"sha256": found.hexdigest(), "bytes": sum(weight.nbytes for weight in weights)}


def of_data(data: "Examples") -> dict:
    """A dataset's `version` (where it has one), `classes`, and for each of both splits what `of_split` gives.

    Raises:
      DataError: if a file has gone since it was listed.
    """
    import tensorflow as tf

    source = data.source
    names = _sha256_of_lines(source.class_names)
    found = {"version": source.version, "classes": len(source.class_names), "class_names": names}
    splits = {name: getattr(source, name) for name in (*_SPLITS, "validation")}
    try:
        return found | {name: of_split(split) for name, split in splits.items() if split is not None}
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"--dataset={source.name} cannot be read: {error}.") from error


def of_split(split: "Split") -> dict:
    """`images`, and of their files the number (`files`), the `bytes`, and a `sha256` of names and sizes.

    Of a part of a split also its `rows`.
    """
    files = sorted(split.files())
    return {
        "images": split.count,
        "files": len(files),
        "bytes": sum(size for _, size in files),
        "sha256": _sha256_of_lines(f"{size} {name}" for name, size in files),
        **({"rows": split.rows} if split.rows else {}),
    }


def changes(recipe: Recipe, before: Mapping, now: Mapping) -> list[str]:
    """What of a run's input is not what it was, each in words; what only one of both knows does not count."""
    found = []
    for flag in now:
        ours, theirs = now[flag], before.get(flag)
        if not isinstance(theirs, Mapping) or all(theirs[key] == ours[key] for key in ours if key in theirs):
            continue
        name = f"--{flag}={getattr(recipe, flag)}"
        if flag == "dataset":
            found.append(f"{name}: {'; '.join(_data_changes(theirs, ours))}")
        else:
            what = "the folder is" if os.path.isdir(getattr(recipe, flag)) else "the file is"
            what = "the weights are" if getattr(recipe, flag) == FILES[flag] else what
            both = f"{_file_text(theirs)} then, {_file_text(ours)} now"
            found.append(f"{name}: {what} not what this run began with: {both}")
    return found


def _data_changes(before: Mapping, now: Mapping) -> list[str]:
    found = []
    if before.get("version") != now["version"]:
        found.append(f"it was {before.get('version')} when this run began and is {now['version']} now")
    for split, images in _SPLITS.items():
        ours, theirs = now[split], before.get(split, {})
        if ours == theirs:
            continue
        then, today = (_split_text(one.get(split, {}), one.get("classes", 0)) for one in (before, now))
        if then == today:
            found.append(f"the names or sizes of the files of its {today[0]} {images} images have changed")
        else:
            had = f"it had {then[0]} {images} images {then[1]} when this run began"
            found.append(f"{had} and has {' '.join(today)} now")
    if not found and before.get("validation") != now.get("validation"):
        found.append("the images that are held out for validation have changed")
    if not found:
        found.append(f"the names of its {now['classes']} classes have changed")
    return found


def _split_text(split: Mapping, classes: int) -> tuple[str, str]:
    return f"{split.get('images', 0):,}", f"in {classes:,} classes ({split.get('bytes', 0):,} bytes)"


def _file_text(found: Mapping) -> str:
    return f"SHA-256 {str(found.get('sha256'))[:_SHOWN_DIGITS]}... ({found.get('bytes', 0):,} bytes)"


def _sha256_of_lines(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")).hexdigest()
