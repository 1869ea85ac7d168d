"""Optimizers, losses, metrics, callbacks and sequences of Keras 3 as those of tf_keras.

TensorFlow's own `tf.keras` is Keras 3 unless told otherwise, so these are what users often have at hand, and
tf_keras, which trains here, does not know them. One whose class tf_keras has too is made anew from its
settings; of any other the error says what to give.

    >>> import keras as keras3
    >>> type(twin(keras3.optimizers.SGD(0.1), "optimizers")).__module__.split(".")[0]     # the same settings
    'tf_keras'
"""

import inspect
import sys

import tf_keras

NAMESPACES = {
    "optimizers": "Optimizer",
    "losses": "Loss",
    "metrics": "Metric",
    "callbacks": "Callback",
    "optimizers.schedules": "LearningRateSchedule",
}
"""Where tf_keras and Keras 3 keep what there are twins of, and the class that all of it there is of."""

_ATTRIBUTES = {"separator": "sep", "initial_value_threshold": "best"}
"""Constructor arguments of callbacks that have another name as attributes."""

_RENAMED = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}
"""Constructor arguments of Keras 3's callbacks that tf_keras's have under another name."""


def twin(value, namespace: str):
    """What tf_keras takes in place of something of Keras 3; anything else is given back as it is.

    Args:
      value: an object, a function or a name, or a list, tuple or dict of such.
      namespace: one of `NAMESPACES`.

    Raises:
      TypeError: for what tf_keras has no twin of; the message says what to give.
    """
    if isinstance(value, list | tuple):
        return type(value)(twin(one, namespace) for one in value)
    if isinstance(value, dict):
        return {key: twin(one, namespace) for key, one in value.items()}
    if not _is_keras3(value, namespace):
        return value
    kind = value if inspect.isfunction(value) else type(value)
    ours = getattr(_module(tf_keras, namespace), kind.__name__, None)
    if ours is None or not kind.__module__.startswith("keras."):
        base = f"tf_keras.{namespace}.{NAMESPACES[namespace]}"
        raise TypeError(
            f"{kind.__name__} ({kind.__module__}) is of Keras 3, and tf_keras, which trains here, has no "
            f"such class: give one of tf_keras.{namespace}, or derive your own from {base}."
        )
    if inspect.isfunction(value):
        return ours
    settings = _settings(value, ours, namespace)
    made = ours.from_config(settings) if hasattr(ours, "from_config") else ours(**settings)
    if namespace == "optimizers":
        _keep_exclusions(value, made)
    return made


def _keep_exclusions(optimizer, made) -> None:
    """Excludes from weight decay what an optimizer of Keras 3 does, which no config says; or a TypeError."""
    if getattr(optimizer, "_exclude_from_weight_decay", ()):
        kind = type(optimizer).__name__
        raise TypeError(
            f"{kind} of Keras 3 excludes variables from weight decay (var_list), which are those of another "
            f"network: give it var_names, or tf_keras.optimizers.{kind}."
        )
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    if pattern is not None:
        made.exclude_from_weight_decay(var_names=pattern.pattern.split("|"))


def is_optimizer(value) -> bool:
    """Whether something is an optimizer of tf_keras or of Keras 3."""
    ours = tf_keras.optimizers.Optimizer, tf_keras.optimizers.legacy.Optimizer
    return isinstance(value, ours) or (not inspect.isfunction(value) and _is_keras3(value, "optimizers"))


def as_sequence(data):
    """A PyDataset of Keras 3 (its `keras.utils.Sequence`) as a tf_keras Sequence; anything else as it is."""
    keras3 = sys.modules.get("keras")
    dataset = getattr(getattr(keras3, "utils", None), "PyDataset", None)
    if dataset is None or not isinstance(data, dataset) or isinstance(data, tf_keras.utils.Sequence):
        return data
    return _Keras3Sequence(data)


class _Keras3Sequence(tf_keras.utils.Sequence):
    def __init__(self, dataset):
        self._dataset = dataset

    def __len__(self):
        return len(self._dataset)

    def __getitem__(self, index):
        return self._dataset[index]

    def on_epoch_end(self):
        self._dataset.on_epoch_end()


def _is_keras3(value, namespace: str) -> bool:
    keras3 = sys.modules.get("keras")
    if keras3 is None or keras3 is tf_keras or isinstance(value, str):
        return False
    if inspect.isfunction(value):
        return (value.__module__ or "").startswith("keras.")
    base = getattr(_module(keras3, namespace), NAMESPACES[namespace], ())
    ours = getattr(_module(tf_keras, namespace), NAMESPACES[namespace])
    return isinstance(value, base) and not isinstance(value, ours)


def _module(package, namespace: str):
    for part in namespace.split("."):
        package = getattr(package, part, None)
    return package


def _settings(value, ours, namespace: str) -> dict:
    """The arguments with which the class of tf_keras gives what Keras 3 gave."""
    found = _constructed_with(value) if namespace == "callbacks" else dict(value.get_config())
    if namespace == "losses":
        # Keras 3 leaves the loss's own settings, such as Huber's delta, out of its config.
        found |= getattr(value, "_fn_kwargs", {})
        found["reduction"] = found["reduction"] or "none"
        if found["reduction"] not in ("none", "sum", "sum_over_batch_size"):
            raise _no_such_setting(value, namespace, "reduction", found["reduction"])
    schedule = getattr(value, "_learning_rate", None)
    if _is_keras3(schedule, "optimizers.schedules"):
        found["learning_rate"] = twin(schedule, "optimizers.schedules")
    accepted = inspect.signature(ours.__init__).parameters
    defaults = inspect.signature(type(value).__init__).parameters
    settings = {}
    for name, setting in found.items():
        if name in accepted:
            settings[name] = setting
        elif setting is not None and name in defaults and setting != defaults[name].default:
            raise _no_such_setting(value, namespace, name, setting)
    return settings


def _constructed_with(callback) -> dict:
    """Constructor arguments of a callback, which has no config, from the attributes of the same names."""
    settings = {}
    for name, parameter in inspect.signature(type(callback).__init__).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        attribute = _ATTRIBUTES.get(name, name)
        # A LambdaCallback has a method of its own where no function was given.
        if getattr(getattr(callback, attribute, None), "__self__", None) is callback:
            continue
        if not hasattr(callback, attribute):
            kind = type(callback).__name__
            raise TypeError(
                f"{kind} ({type(callback).__module__}) is of Keras 3, and its setting {name!r} cannot be "
                f"read back: give tf_keras.callbacks.{kind}."
            )
        settings[_RENAMED.get(name, name)] = getattr(callback, attribute)
    return settings


def _no_such_setting(value, namespace: str, name: str, setting) -> TypeError:
    kind = type(value).__name__
    return TypeError(
        f"{kind} of Keras 3 has {name}={setting!r}, which tf_keras.{namespace}.{kind} does not know: give "
        f"tf_keras.{namespace}.{kind} with settings of its own."
    )
