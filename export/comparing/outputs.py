"""A network's outputs by their names, and what is given for each of them in any form that Keras takes.

outputs = Outputs(("class", "box"))
outputs.each({"box": boxes}, "labels have")         # [None, boxes]
outputs.each([classes, boxes], "labels have")       # [classes, boxes]
outputs.each("mse", "loss has")                     # ["mse", "mse"]: one for all
outputs.packed([classes, boxes])                    # in the form in which the network gives its outputs
"""

import dataclasses
from collections.abc import Mapping, Sequence

import tf_keras as keras
from tf_keras.src.engine.compile_utils import Container


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The outputs of a network.

    Attributes:
      names: of the outputs, in the network's order.
      in_dict: whether the network gives them in a dict, which then has these names; otherwise it gives a
        list, or one tensor.
    """

    names: tuple[str, ...]
    in_dict: bool = False

    @classmethod
    def of(cls, network: keras.Model, names: Sequence[str]) -> "Outputs":
        """Those of a functional network, under names of their own."""
        return cls(tuple(names), in_dict=len(names) > 1 and gives_dict(network))

    @property
    def several(self) -> bool:
        """Whether there is more than one."""
        return len(self.names) > 1

    @property
    def quoted(self) -> str:
        """The names for messages: 'class' and 'box'."""
        *others, last = map(repr, self.names)
        return f"{', '.join(others)} and {last}" if others else last

    def each(self, given, what: str) -> list:
        """What is given for each output; None for one that a dict leaves out.

        Keras's own mapping: a dict by the outputs' names, a list or a tuple in their order, and anything else
        is for each of them.

        Args:
          given: in any of these forms.
          what: begins errors: "labels have", "loss has".

        Raises:
          ValueError: for a name that no output has, or a list that is not as long as there are outputs.
        """
        given = dict(given) if isinstance(given, Mapping) else given
        if not self.several:
            alone = isinstance(given, dict | list | tuple) and len(given) == 1
            return list(given.values() if isinstance(given, dict) else given) if alone else [given]
        if isinstance(given, dict) and (unknown := [name for name in given if name not in self.names]):
            raise ValueError(
                f"{what} the names {sorted(map(str, given))}, but {', '.join(map(repr, unknown))} "
                f"is not an output; the network has the outputs {self.quoted}."
            )
        if isinstance(given, list | tuple) and len(given) != len(self.names):
            raise ValueError(
                f"{what} {len(given)} entries; the network has {len(self.names)} outputs, "
                f"{self.quoted}: give one for each, or a dict by their names."
            )
        found = Container(list(self.names))._conform_to_outputs(self.packed(list(self.names)), given)
        return [found[name] for name in self.names] if isinstance(found, dict) else list(found)

    def packed(self, parts: list):
        """Values for all outputs in the form in which the network gives its outputs."""
        if self.in_dict:
            return dict(zip(self.names, parts, strict=True))
        return list(parts) if self.several else parts[0]


def gives_dict(network: keras.Model) -> bool:
    """Whether a functional network was built with its outputs in a dict."""
    return isinstance(getattr(network, "_nested_outputs", None), dict)


def in_config(names: Sequence[str]) -> str | list[str]:
    """Names of outputs as the configs of networks have them: one alone, or several in a list."""
    return names[0] if len(names) == 1 else list(names)


def names_of(found: str | Sequence[str]) -> list[str]:
    """The names that `in_config` wrote."""
    return [found] if isinstance(found, str) else list(found)
