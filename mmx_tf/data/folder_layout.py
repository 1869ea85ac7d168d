"""Which files of a folder of images are for training, for judging epochs, and for evaluation.

photos/cat/1.jpg, photos/dog/1.png              one image in ten of every class is for evaluation
photos/train/cat/1.jpg, photos/test/cat/1.jpg   `test`, or `val` where there is no `test`
photos/train, photos/val, photos/test           epochs are judged on `val`, the run on `test`
"""

import dataclasses
from pathlib import Path

import numpy as np

from mmx_tf.errors import DataError
from mmx_tf.notation import some

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
TEST, VALIDATION = ("test",), ("validation", "val", "valid")
EVALUATION_SHARE = 0.1

Files = dict[str, list[Path]]
"""Class -> its files."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """The files of a folder.

    Attributes:
      train, evaluation: files by class.
      validation: the same, on which epochs are judged; None without a folder of them.
      folders: part -> the subfolder that it is; empty where the files of evaluation are taken out of those of
        training here.
      skipped: files that are no images by their names, hidden ones left out.
    """

    train: Files
    evaluation: Files
    validation: Files | None
    folders: dict[str, str]
    skipped: list[Path]

    @property
    def parts(self) -> dict[str, Files]:
        """Part -> its files by class, training first."""
        found = {"train": self.train, "evaluation": self.evaluation, "validation": self.validation}
        return {name: files for name, files in found.items() if files is not None}

    def told(self, name: str) -> str:
        """What is used for what, in a sentence."""
        counts = {part: sum(map(len, files.values())) for part, files in self.parts.items()}
        said = {"train": "for training", "evaluation": "for evaluation", "validation": "to judge epochs on"}
        texts = [
            f"{counts[part]:,} images {said[part]}"
            + (f" ({self.folders[part]}/)" if part in self.folders else "")
            for part in counts
        ]
        held = "" if "evaluation" in self.folders else f": one in {1 / EVALUATION_SHARE:.0f} of every class"
        again = held and ", the same in every run, since there is no folder test/"
        return f"{name}: {len(self.train)} classes, {', '.join(texts)}{held}{again}"

    @property
    def skipped_told(self) -> str:
        """How many files are left out, and the first of them by name; '' where none is."""
        if not self.skipped:
            return ""
        count = len(self.skipped)
        are = "1 file is no image by its name" if count == 1 else f"{count:,} files are no images by name"
        return f"{are} ({', '.join(SUFFIXES)}) and left out: {some([str(path) for path in self.skipped], 5)}"


def layout_of(root: Path) -> Layout:
    """The layout of a folder.

    Raises:
        DataError: for a folder that cannot be read, has nothing to train on, or has a class without enough
            images.
    """
    train = root / "train"
    test, validation = (
        next((root / name for name in names if (root / name).is_dir()), None) for names in (TEST, VALIDATION)
    )
    skipped: list[Path] = []
    if not train.is_dir():
        _refuse_parts_without_train(root)
        return Layout(*_held_out(root, _class_files(root, skipped)), None, {}, skipped)
    folders = {"train": train, "evaluation": test or validation}
    if test and validation:
        folders["validation"] = validation
    files = {part: _class_files(path, skipped) for part, path in folders.items() if path}
    names = {part: path.name for part, path in folders.items() if path}
    if "evaluation" not in files:
        return Layout(*_held_out(train, files["train"]), None, names, skipped)
    for part, path in folders.items():
        if set(files[part]) != set(files["train"]):
            raise DataError(
                f"Training and {part} images in {root} do not have the same classes; only one of train and "
                f"{path.name} has {', '.join(sorted(set(files['train']) ^ set(files[part])))}. Give both the "
                "same class folders."
            )
    return Layout(files["train"], files["evaluation"], files.get("validation"), names, skipped)


def _refuse_parts_without_train(root: Path) -> None:
    """Refuses (DataError) class folders of which one has the name of a part: most likely they are parts."""
    names = [folder.name for folder in _folders(root)]
    if {name.lower() for name in names}.isdisjoint({*TEST, *VALIDATION}):
        return
    raise DataError(
        f"The folder {root} has {some(names, 8)}, but no train: put the training images into "
        f"{root / 'train'}, a subfolder for each class. Beside train/ it may have val/ (or valid/, "
        "validation/), to judge epochs on, and test/, for evaluation; no class can have one of these names."
    )


def _held_out(root: Path, whole: Files) -> tuple[Files, Files]:
    """(files for training, files for evaluation)."""
    train, evaluation = {}, {}
    for name, files in whole.items():
        if len(files) < 2:
            raise DataError(
                f"The class folder {root / name} has only {len(files)} image; it needs at least 2, one of "
                "which is kept for evaluation."
            )
        order = np.random.default_rng(0).permutation(len(files))
        count = max(1, round(EVALUATION_SHARE * len(files)))
        evaluation[name] = [files[index] for index in sorted(order[:count])]
        train[name] = [files[index] for index in sorted(order[count:])]
    return train, evaluation


def _class_files(folder: Path, skipped: list[Path]) -> Files:
    """Sorted image files of each class folder, classes in alphabetical order, hidden folders left out.

    Files that are no images by their names are added to `skipped`.
    """
    classes = _folders(folder)
    try:
        every = {entry.name: sorted(entry.rglob("*")) for entry in classes}
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    found = {}
    for name, paths in every.items():
        found[name] = [path for path in paths if path.suffix.lower() in SUFFIXES]
        others = (path for path in paths if path.suffix.lower() not in SUFFIXES and path.name[0] != ".")
        skipped += [path for path in others if not path.is_dir()]
        if not found[name]:
            raise DataError(
                f"The class folder {folder / name} has no image ({', '.join(SUFFIXES)}); fill it or remove "
                "it."
            )
    return found


def _folders(root: Path) -> list[Path]:
    """The folders in a folder, in alphabetical order, hidden ones left out."""
    try:
        return sorted(entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        raise DataError(f"The folder {root} cannot be read: {error.strerror}.") from error
