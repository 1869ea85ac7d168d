"""What the config of a Keras 2 network may name, checked before anything in it is built.

Safe mode of Keras refuses lambdas in .keras files, but it imports whatever module a config names, takes any
function there is as an activation, and does not look at TensorFlow's operators, of which some write files.
For HDF5 files and SavedModels it has no safe mode. So a config is read as data first, and every object in it
must be on these lists.

    >>> check_config({"class_name": "Lambda", "module": "builtins", "config": {}})
    Traceback (most recent call last):
        ...
    mmx_tf.files.safe_config.UnsafeFileError: ...
"""

import re

import tf_keras as keras

# The last two are shapes and slices in the configs of HDF5 files and SavedModels.
DATA = ("__tensor__", "__numpy__", "__bytes__", "__tuple__", "__ellipsis__", "TensorShape")
KERAS_MODULES = (
    "keras", "keras.layers", "keras.models", "keras.initializers", "keras.regularizers", "keras.constraints",
    "keras.losses", "keras.metrics", "keras.optimizers", "keras.optimizers.schedules",
    "keras.optimizers.legacy", "keras.mixed_precision",
)  # fmt: skip
INTERNAL_MODULES = ("tf_keras.src.engine.", "tf_keras.src.layers.")
NETWORKS = ("Functional", "Sequential", "Model")
# Names of tf_keras's classes that run what a config says, or that make any operator of TensorFlow.
RUNNING = ("lambda", "classmethod", "instancemethod")
# They read vocabularies and networks from paths in their configs.
READING = (
    "DenseFeatures", "IntegerLookup", "SequenceFeatures", "StringLookup", "TFSMLayer", "TextVectorization",
)  # fmt: skip
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
# Where a class that is named without its module is looked for.
_ROOMS = (
    keras.layers, keras.initializers, keras.regularizers, keras.constraints, keras.mixed_precision,
)  # fmt: skip


class UnsafeFileError(ValueError):
    """A file that names something which is not built, or not read, from a file."""


def check_config(config) -> None:
    """Looks at every object that a config names, which is data as `json` reads it.

    Raises:
      UnsafeFileError: names the object, and the layer that it is part of.
    """
    # How the model was compiled is not read.
    if isinstance(config, dict):
        config = {key: value for key, value in config.items() if key != "compile_config"}
    _check(config, owner="")


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
        if not known:
            raise UnsafeFileError(
                f"{where} calls TensorFlow's operator {function!r}, which is not one of those that compute "
                "numbers alone, and is never run from a file."
            )
    elif kind.lower() in RUNNING:
        raise UnsafeFileError(
            f"it holds a {kind} layer ({where}), whose Python code is never run from a file."
        )
    elif kind in READING:
        raise UnsafeFileError(
            f"it holds a {kind} layer ({where}), which reads other files; it is never built from a file."
        )
    if not _is_known(kind, module, registered):
        raise UnsafeFileError(
            f"{where} is of class {kind!r} of {module or 'no module'}, a class of neither Keras nor "
            "mmx_tf. A file's own classes are not loaded. Load the network where its class is, and give it "
            "to mmx_tf.augment itself."
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
    if module is None or (isinstance(module, str) and module.startswith(INTERNAL_MODULES)):
        return kind in (*OPERATOR_LAYERS, *NETWORKS) or any(hasattr(room, kind) for room in _ROOMS)
    return module in KERAS_MODULES
