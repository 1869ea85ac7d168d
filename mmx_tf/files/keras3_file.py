"""A .keras file that Keras 3 wrote, read without running anything of the file's.

    >>> load("classifier.keras").output_shape   # a tf_keras model
    (None, 10)

Safe mode of Keras refuses lambdas, but builds whatever class a config names among what is importable. So the
config is checked first, and nothing is built unless every object in it is a layer or an operation that can
be imported, or a part of one. Keras 3 is imported only then. Compile settings, which may name losses and
metrics of the user's own, are not read.
"""

import tf_keras as keras

from mmx_tf.files import keras_archive
from mmx_tf.files.safe_config import UnsafeFileError
from mmx_tf.formats.paths import DAMAGE
from mmx_tf.network import refused
from mmx_tf.network.keras3 import as_tf_keras
from mmx_tf.network.keras3_layers import ADVICE, LAYERS, Keras3Error
from mmx_tf.network.keras3_operators import OPERATORS

# Tensors and arrays as Keras 3 writes them down.
DATA = ("__keras_tensor__", "__numpy__", "__tensor__")
NETWORKS = ("Functional", "Sequential", "Model")
NETWORK_MODULES = ("keras", "keras.models", "keras.src.models.functional", "keras.src.models.sequential")
PARTS = ("keras.initializers", "keras.regularizers", "keras.constraints", "keras.dtype_policies")
OPERATOR_MODULES = ("keras.src.ops.", "keras.src.activations.")


def load(path: str) -> keras.Model:
    """Loads a .keras file of Keras 3 as a tf_keras network (see `as_tf_keras`).

    Raises:
      UnsupportedLayerError: for a layer or an operation that cannot be imported, before it is built.
      UnsafeFileError: if it holds more than a network, or weights that lie in other files.
      ValueError: if the file is damaged, or if Keras 3 cannot be imported, as with a backend that is not
        installed.
    """
    try:
        config = keras_archive.json_of(path, keras_archive.CONFIG)
        keras_archive.check(path)
    except UnsafeFileError:
        raise
    except DAMAGE as error:
        raise ValueError(f"{path!r} is not a whole .keras file of a Keras 3 model: {error}") from error
    return network_of(config, path, weights=path)


def network_of(config, path: str, *, weights: str) -> keras.Model:
    """Builds the network of a config of Keras 3 and imports it.

    Args:
      config: as a .keras file has it.
      path: what messages call the file.
      weights: the path that Keras 3 loads weights from.

    Raises:
      UnsupportedLayerError, ValueError: as `load`.
    """
    config = _without_compile_settings(config)
    _check(config, owner="")
    keras3 = _keras3()
    try:
        network = keras3.saving.deserialize_keras_object(config, safe_mode=True)
        network.load_weights(weights)
    except Exception as error:  # What is raised depends on what is wrong with the file.
        suffix = ".keras" if weights.endswith(".keras") else ".h5"
        raise ValueError(f"{path!r} is not a whole {suffix} file of a Keras 3 model: {error}") from error
    return as_tf_keras(network)


def _keras3():
    try:
        import keras
    except Exception as error:  # A backend that is missing is an ImportError, an unknown one a ValueError.
        raise ValueError(
            f"the file is one of Keras 3, which cannot be imported ({error}). Run with the environment "
            "variable KERAS_BACKEND=tensorflow."
        ) from error
    return keras


def _without_compile_settings(config):
    if isinstance(config, dict):
        return {
            key: _without_compile_settings(value) for key, value in config.items() if key != "compile_config"
        }
    return [_without_compile_settings(value) for value in config] if isinstance(config, list) else config


def _check(config, *, owner: str) -> None:
    """Refuses a config that names an object which is not on the lists; `owner` is the layer it is part of."""
    if isinstance(config, list):
        for value in config:
            _check(value, owner=owner)
    if not isinstance(config, dict):
        return
    if "class_name" in config:
        inner = config.get("config")
        owner = str(inner.get("name", owner)) if isinstance(inner, dict) else owner
        if not _is_allowed(config):
            kind = str(config["class_name"])
            reason, advice = (
                "cannot be imported: it is not one of the objects that are built from a file.",
                ADVICE,
            )
            if not str(config.get("module")).startswith("keras"):
                reason += " Load the network where its class is, and give it to mmx_tf.augment itself."
            if config.get("module") == "keras.layers" and refused.sentences(kind):
                reason, advice = refused.sentences(kind)
            if "lambda" in kind.lower():
                reason = "cannot be imported: its Python code is never run from a file."
            raise Keras3Error(None, reason, advice, name=owner or kind, kind=kind)
    for key, value in config.items():
        if key == "activation" and isinstance(value, dict) and "class_name" not in value:
            value = {"class_name": "__lambda__"}  # Its code alone is what Keras 3 writes there.
        _check(value, owner=owner)


def _is_allowed(config: dict) -> bool:
    kind, module = config["class_name"], config.get("module")
    if kind in DATA:
        return True
    # A name such as __lambda__ or function means more than a class, wherever it is said to come from. And a
    # registered name has precedence over the class's: it could lead to a class of somebody's own.
    if not (isinstance(kind, str) and kind[:1].isupper() and isinstance(module, str)):
        return False
    if config.get("registered_name") not in (None, kind):
        return False
    return (
        (module in NETWORK_MODULES and kind in NETWORKS)
        or (module == "keras.layers" and kind in (*LAYERS, "InputLayer"))
        or (module.startswith(OPERATOR_MODULES) and kind in OPERATORS)
        or module in PARTS
        or (module, kind) == ("keras", "DTypePolicy")
    )
