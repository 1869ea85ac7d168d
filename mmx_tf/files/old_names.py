"""Files of earlier versions of Keras 2 by the names that tf_keras, which reads them here, has for the same.

Keras 2.12 to 2.15, part of TensorFlow, lived in `keras.src` or `keras` itself. Keras 2.12 wrote a number of
a ReLU as an array; it and 2.13 wrote weights in the order of checkpoints, where a layer with weights counts
twice, and on Windows with backslashes:

    keras.src.engine.functional                                  tf_keras.src.engine.functional
    _layer_checkpoint_dependencies\\conv2d_2                      layers/conv2d_1
"""

import io
import re

import h5py

from mmx_tf.files.safe_config import KERAS_MODULES

# TensorFlow 1.13 to 2.0 told two versions of the class apart so.
CLASSES = {"BatchNormalizationV1": "BatchNormalization", "BatchNormalizationV2": "BatchNormalization"}
_LAYERS, _OLD_LAYERS = "layers", "_layer_checkpoint_dependencies"
_VARIABLES = "vars"
_NUMBER = "__numpy__"


def renamed(config):
    """A config, as `json` reads it, with modules and classes by their names in tf_keras."""
    if isinstance(config, list):
        return [renamed(value) for value in config]
    if not isinstance(config, dict):
        return config
    kind, module, inner = (config.get(key) for key in ("class_name", "module", "config"))
    if kind == _NUMBER and isinstance(inner, dict) and isinstance(inner.get("value"), int | float):
        return inner["value"]
    result = {key: renamed(value) for key, value in config.items()}
    if isinstance(kind, str) and kind in CLASSES:
        result["class_name"] = CLASSES[kind]
    if isinstance(kind, str) and isinstance(module, str):
        result["module"] = _module(module)
    return result


def _module(module: str) -> str:
    if module in KERAS_MODULES or not module.startswith("keras."):
        return module
    return f"tf_keras.src.{module.removeprefix('keras.').removeprefix('src.')}"


def has_old_paths(weights: h5py.File) -> bool:
    """Whether the weights of a .keras file lie where tf_keras does not look for them."""
    return any("\\" in name for name in weights) or _OLD_LAYERS in weights


def with_new_paths(weights: h5py.File) -> bytes:
    """The weights of a .keras file as an HDF5 file in which they lie where tf_keras looks for them."""
    variables = {}

    def note(name, member):
        parts = tuple(re.split(r"[\\/]", name))
        if parts[-1] == _VARIABLES and isinstance(member, h5py.Group):
            variables[parts[:-1]] = member

    weights.visititems(note)
    ranks = _ranks(variables)
    target = io.BytesIO()
    with h5py.File(target, "w") as file:
        for path, group in variables.items():
            new = [ranks.get(path[: end + 1], part) for end, part in enumerate(path)]
            weights.copy(group, file, name="/".join((*new, _VARIABLES)))
    return target.getvalue()


def _ranks(paths) -> dict[tuple[str, ...], str]:
    """New names of old parts of paths: `layers`, and in it each class of layers numbered without a gap."""
    found = {}
    containers = {path[:end] for path in paths for end in range(1, len(path)) if path[end - 1] == _OLD_LAYERS}
    for container in containers:
        found[container] = _LAYERS
        place = len(container)
        inside = {path[place] for path in paths if path[:place] == container and len(path) > place}
        of_class: dict[str, list[int]] = {}
        for name in inside:
            kind, number = _numbered(name)
            of_class.setdefault(kind, []).append(number)
        for name in inside:
            kind, number = _numbered(name)
            rank = sorted(of_class[kind]).index(number)
            found[(*container, name)] = f"{kind}_{rank}" if rank else kind
    return found


def _numbered(name: str) -> tuple[str, int]:
    """A layer's class and its number: 'conv2d_2' -> ('conv2d', 2), 'conv2d' -> ('conv2d', 0)."""
    kind, number = re.fullmatch(r"(.*?)(?:_(\d+))?", name, re.DOTALL).groups()
    return kind, int(number or 0)
