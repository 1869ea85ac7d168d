"""What a .keras file of tf_keras may name, checked before anything in it is built.

Safe mode of Keras refuses lambdas in such files, but it imports whatever module a config names, takes any
function there is as an activation, and does not look at TensorFlow's operators, of which some write files.
And a file that only has the name of a .keras file is read in older formats, without safe mode. So a config is
read as data first, and every object in it must be on these lists.

    >>> check("float.keras")          # raises UnsafeFileError, or returns nothing
"""

import json
import os
import re
import zipfile
import zlib

import tf_keras as keras

MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
DATA = ("__tensor__", "__numpy__", "__bytes__", "__tuple__")
KERAS_MODULES = (
    "keras", "keras.layers", "keras.models", "keras.initializers", "keras.regularizers", "keras.constraints",
    "keras.losses", "keras.metrics", "keras.optimizers", "keras.optimizers.schedules",
    "keras.optimizers.legacy", "keras.mixed_precision",
)  # fmt: skip
INTERNAL_MODULES = ("tf_keras.src.engine.", "tf_keras.src.layers.")
# Names of tf_keras's classes that run what a config says.
RUNNING = ("lambda", "classmethod", "instancemethod")
OPERATOR_LAYERS = ("TFOpLambda", "SlicingOpLambda")
# Namespaces of TensorFlow whose operators compute numbers from numbers, and such ones at its top level.
OPERATORS = re.compile(
    r"(math|nn|image|linalg|signal|__operators__|keras\.activations)\.\w+"
    r"|abs|add|argmax|argmin|cast|clip_by_value|concat|constant|cos|cumsum|divide|exp|expand_dims|floor|gather"
    r"|identity|matmul|maximum|minimum|multiply|negative|one_hot|ones_like|pad|pow|range|rank|repeat|reshape"
    r"|reduce_\w+|reverse|round|shape|sigmoid|sign|sin|slice|split|sqrt|square|squeeze|stack|stop_gradient"
    r"|strided_slice|subtract|tanh|tensordot|tile|transpose|truediv|unstack|where|zeros_like"
    # Keras writes operators of its backend so.
    r"|keras\.backend\.(mean|sum|max|min|square|sqrt|exp|clip|reshape|permute_dimensions|concatenate)"
)
OURS = "mmx_tf>"


NO_ARCHIVE = (
    OSError, EOFError, ValueError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What `zipfile` and `json` raise for an archive that is damaged."""


OTHER_FORMATS = (
    "A network in another format is given as tf_keras.models.load_model reads it, where you trust the file."
)


class UnsafeFileError(ValueError):
    """A file that is no .keras file, or names something that is not built from a file."""


def check(path: str | os.PathLike) -> None:
    """Reads a .keras file's config as data and looks at every object that it names.

    Raises:
      UnsafeFileError: names the object, and the layer that it is part of.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            config = json.loads(archive.read("config.json"))
    except NO_ARCHIVE as error:
        reason = f"{os.fspath(path)!r} is not a .keras file of a tf_keras model: {str(error).rstrip('.')}. "
        raise UnsafeFileError(reason + OTHER_FORMATS) from error
    if not os.fspath(path).endswith(".keras") or not isinstance(config, dict):
        reason = f"{os.fspath(path)!r} is not a .keras file of a tf_keras model. "
        raise UnsafeFileError(reason + OTHER_FORMATS)
    for member in members:
        if member not in MEMBERS:
            raise UnsafeFileError(f"{os.fspath(path)!r} holds {member!r}, which is no part of a .keras file.")
    # How the model was compiled is not read.
    _check({key: value for key, value in config.items() if key != "compile_config"}, owner="")


def _check(value, *, owner: str) -> None:
    if isinstance(value, list):
        for part in value:
            _check(part, owner=owner)
    if not isinstance(value, dict):
        return
    inner = value.get("config")
    if "class_name" in value:
        if isinstance(inner, dict):
            owner = str(inner.get("name", owner))
        _check_object(value, owner)
    for part in value.values():
        _check(part, owner=owner)


def _check_object(value: dict, owner: str) -> None:
    kind, module, registered = (value.get(key) for key in ("class_name", "module", "registered_name"))
    if kind in DATA:
        return
    where = f"layer {owner!r}" if owner else "the network"
    # Keras takes "outer.inner" for an attribute of a class.
    if not isinstance(kind, str) or not re.fullmatch(rf"({OURS})?[A-Z]\w*", kind):
        raise UnsafeFileError(f"{where} names {kind!r}, code that is never run from a file.")
    if kind in OPERATOR_LAYERS:
        function = value["config"].get("function") if isinstance(value.get("config"), dict) else None
        known = isinstance(function, str) and OPERATORS.fullmatch(function)
        if kind == "TFOpLambda" and not known:
            raise UnsafeFileError(
                f"{where} calls TensorFlow's operator {function!r}, which is none of those that compute "
                "numbers alone, and is never run from a file."
            )
    elif kind.lower() in RUNNING:
        raise UnsafeFileError(
            f"it holds a {kind} layer ({where}), whose Python code is never run from a file."
        )
    if not _is_known(kind, module, registered):
        raise UnsafeFileError(
            f"{where} is of class {kind!r} of {module or 'no module'}, which is none of Keras's or mmx_tf's; "
            "it is not looked for."
        )


def _is_known(kind: str, module, registered) -> bool:
    for name in (kind, registered):
        if isinstance(name, str) and name.startswith(OURS):
            # One that is not registered would be looked for among importable modules.
            return keras.saving.get_registered_object(name) is not None
    # A registered name has precedence over the class's.
    if registered not in (None, kind):
        return False
    if kind == "QuantizeWrapperV2":
        return True
    if module is None:
        return hasattr(keras.layers, kind) or hasattr(keras.initializers, kind)
    if not isinstance(module, str):
        return False
    return module in KERAS_MODULES or module.startswith(INTERNAL_MODULES)
