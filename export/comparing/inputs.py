"""What a network of several inputs is given: in a dict by their names, or in a list or tuple in its order.

>>> of_inputs({"sound": "a", "time": "b"}, ["time", "sound"], "eval_ds gives images that")
['b', 'a']
"""

from collections.abc import Mapping, Sequence


def of_inputs(given, names: Sequence[str], which: str) -> list:
    """The parts of each input, in the network's order.

    Args:
      given: dict, list or tuple.
      names: of the inputs.
      which: what is given, for messages.

    Raises:
      ValueError: for anything else, other names or another number.
    """
    quoted = ", ".join(map(repr, names))
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise ValueError(f"{which} have the names {sorted(given)}; the network has the inputs {quoted}.")
        return [given[name] for name in names]
    if not isinstance(given, list | tuple) or len(given) != len(names):
        what = f"{len(given)} parts" if isinstance(given, list | tuple) else f"one {type(given).__name__}"
        raise ValueError(
            f"{which} have {what}; the network has the inputs {quoted}: give a dict by their names, or a "
            "tuple in this order."
        )
    return list(given)


def size_of(images) -> int:
    """How many examples there are in arrays [N, ...], one or in a dict."""
    return len(next(iter(images.values())) if isinstance(images, Mapping) else images)


def head(images, size: int):
    """The first examples of arrays, one or in a dict."""
    if isinstance(images, Mapping):
        return {name: part[:size] for name, part in images.items()}
    return images[:size]
