"""The outcome of the search: activation and weight bits of every layer, frozen, with a JSON form.

>>> selection = BitSelection.load("bit_selection.json")
>>> selection.bit_widths, 3 <= selection.average_bits["by_ops"] <= 8
((8, 4, 3), True)
"""

import dataclasses
import json
import os
from collections.abc import Mapping

from mmx_tf.export.atomic import write_atomically

SCHEMA = 1
BIT_WIDTHS = range(2, 9)


class SelectionMismatchError(ValueError):
    """A bit selection that does not fit a network."""


@dataclasses.dataclass(frozen=True)
class LayerSelection:
    """Chosen bits and cost of one weighted layer.

    Attributes:
      name: the layer's name.
      kind: "conv", "transposed", "depthwise" or "dense".
      macs: multiply-accumulates on one image.
      activation_bits: bits of the layer's input.
      weight_bits: bits of its kernel.
      signed: whether the input has codes below zero.
      input_elements: elements of the input tensor of one image.
      searched: whether the bits were searched; first and last layers are not.
    """

    name: str
    kind: str
    macs: int
    activation_bits: int
    weight_bits: int
    signed: bool
    input_elements: int
    searched: bool

    @property
    def bops(self) -> int:
        """Bit operations of the layer."""
        return self.macs * self.weight_bits * self.activation_bits


@dataclasses.dataclass(frozen=True)
class SelectedCost:
    """What a selection costs by a budget that is not in BOPs: value and target (or None), in `unit`."""

    unit: str
    value: float
    target: float | None


@dataclasses.dataclass(frozen=True)
class BitSelection:
    """Chosen bits of a network.

    Attributes:
      bit_widths: the candidates that were searched.
      layers: all weighted layers in graph order.
      target_bops: the budget, or None.
      costs: what the selection costs by each budget that is not in BOPs, in the budget's unit.
      weight_bit_widths: the weight candidates that were searched; empty where weight bits were given.
    """

    bit_widths: tuple[int, ...]
    layers: tuple[LayerSelection, ...]
    target_bops: int | None = None
    costs: tuple[SelectedCost, ...] = ()
    weight_bit_widths: tuple[int, ...] = ()

    @property
    def bops(self) -> int:
        """Bit operations of the network on one image."""
        return sum(layer.bops for layer in self.layers)

    @property
    def cost(self) -> SelectedCost | None:
        """The first of `costs`; None without costs."""
        return self.costs[0] if self.costs else None

    @property
    def cost_entries(self) -> dict:
        """Entries for a JSON document: `cost`, the first, and `costs`, all of them if there are several."""
        entries = [dataclasses.asdict(cost) for cost in self.costs]
        return {**({"cost": entries[0]} if entries else {}), **({"costs": entries} if entries[1:] else {})}

    @property
    def average_bits(self) -> dict[str, float]:
        """Mean activation bits of the searched layers: plain, weighted by operations, and by input elements.

        The paper reports the one by input elements. If nothing was searched, the means are over all layers.
        """
        searched = [layer for layer in self.layers if layer.searched] or self.layers

        def mean(weight):
            return sum(weight(layer) * layer.activation_bits for layer in searched) / sum(
                map(weight, searched)
            )

        return {
            "plain": mean(lambda layer: 1),
            "by_ops": mean(lambda layer: layer.macs),
            "by_elements": mean(lambda layer: layer.input_elements),
        }

    def to_json(self) -> dict:
        """The dict that `save` writes."""
        return {
            "schema": SCHEMA,
            "bit_widths": list(self.bit_widths),
            **({"weight_bit_widths": list(self.weight_bit_widths)} if self.weight_bit_widths else {}),
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
            "bops": self.bops,
            "target_bops": self.target_bops,
            **self.cost_entries,
        }

    @classmethod
    def from_json(cls, document: dict) -> "BitSelection":
        """Reads what `to_json` made.

        Raises:
          SelectionMismatchError: if the document is of another schema, lacks a key, has a wrong type, names
            bits outside 2..8, or records BOPs that its layers do not add up to.
        """
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            found = document.get("schema") if isinstance(document, dict) else type(document).__name__
            raise SelectionMismatchError(f"bit selection of schema {found!r}; this version reads {SCHEMA}.")
        try:
            layers = tuple(_layer_from_json(layer) for layer in document["layers"])
            selection = cls(
                bit_widths=tuple(int(bits) for bits in document["bit_widths"]),
                layers=layers,
                target_bops=document["target_bops"],
                costs=tuple(SelectedCost(**cost) for cost in costs_of(document)),
                weight_bit_widths=tuple(int(bits) for bits in document.get("weight_bit_widths", ())),
            )
            recorded = document["bops"]
            _check_document(document)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SelectionMismatchError(f"the bit selection is damaged: {error!r}.") from error
        if recorded != selection.bops:
            raise SelectionMismatchError(
                f"the bit selection records {recorded} BOPs but its layers add up to {selection.bops}: it "
                "was edited or damaged."
            )
        return selection

    def to_text(self) -> str:
        """The contents of the file that `save` writes."""
        return json.dumps(self.to_json(), indent=1) + "\n"

    def save(self, path: str | os.PathLike) -> None:
        """Writes the selection as JSON, atomically."""
        write_atomically(path, self.to_text())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "BitSelection":
        """Reads a file that `save` wrote.

        Raises:
          SelectionMismatchError: if the file is not JSON or `from_json` refuses it.
          TypeError: for what is no path.
        """
        if not isinstance(path, str | os.PathLike):
            raise TypeError(
                f"BitSelection.load got a {type(path).__name__}: give the path of a file that save wrote, or "
                "what is in it to BitSelection.from_json."
            )
        with open(path, encoding="utf-8") as file:
            try:
                document = json.load(file)
            except ValueError as error:
                raise SelectionMismatchError(f"{path} is not JSON: {error}") from error
        try:
            return cls.from_json(document)
        except SelectionMismatchError as error:
            raise SelectionMismatchError(f"{path}: {error}") from error

    def check_fits(self, reference: "BitSelection") -> None:
        """Checks that this selection is of the same network as `reference`, its bits among the candidates.

        Raises:
          SelectionMismatchError: listing every layer that differs.
        """
        ours = {layer.name: layer for layer in self.layers}
        theirs = {layer.name: layer for layer in reference.layers}
        problems = [f"{name}: not in the network" for name in ours if name not in theirs]
        problems += [f"{name}: missing from the selection" for name in theirs if name not in ours]
        for name in ours.keys() & theirs.keys():
            problems += _differences(ours[name], theirs[name], reference)
        if problems:
            raise SelectionMismatchError(
                "the bit selection does not fit the network: " + "; ".join(sorted(problems))
            )


def costs_of(document: Mapping) -> list[Mapping]:
    """The costs in other units than BOPs of a document that has `BitSelection.cost_entries`."""
    first = document.get("cost")
    return list(document.get("costs") or ([] if first is None else [first]))


def as_selection(given) -> BitSelection:
    """A BitSelection, that of a JSON file whose path is given, or that of the file's contents.

    Raises:
      FileNotFoundError: if there is no such file.
      SelectionMismatchError: for a file or a dict that no selection was saved as.
      TypeError: for anything else.
    """
    if isinstance(given, BitSelection):
        return given
    if isinstance(given, str | os.PathLike):
        if not os.path.isfile(given):
            raise FileNotFoundError(
                f"there is no file {os.fspath(given)!r}: give the path that BitSelection.save wrote to."
            )
        return BitSelection.load(given)
    if isinstance(given, Mapping):
        return BitSelection.from_json(dict(given))
    raise TypeError(
        f"the selection is of type {type(given).__name__}: give what search.bit_selection() returns, or the "
        "path of the file that its save wrote."
    )


def _differences(ours: LayerSelection, theirs: LayerSelection, reference: BitSelection) -> list[str]:
    problems = [
        f"{ours.name}: {field} is {getattr(ours, field)!r}, the network has {getattr(theirs, field)!r}"
        for field in ("kind", "macs", "signed", "input_elements", "searched")
        if getattr(ours, field) != getattr(theirs, field)
    ]
    allowed = {"activation_bits": reference.bit_widths, "weight_bits": reference.weight_bit_widths}
    if not theirs.searched:
        allowed = {"activation_bits": (theirs.activation_bits,)}
    for field, bits in allowed.items():
        # Weight bits that were given are the fine-tuning's to choose.
        if bits and getattr(ours, field) not in bits:
            problems.append(f"{ours.name}: {field} {getattr(ours, field)} is not among {tuple(bits)}")
    return problems


def _check_document(document: dict) -> None:
    target = document["target_bops"]
    for name in ("bit_widths", "weight_bit_widths"):
        bits = document.get(name, [2])
        known = all(type(b) is int and b in BIT_WIDTHS for b in bits)
        if not bits or len(set(bits)) < len(bits) or not known:
            raise ValueError(f"{name}={bits} are not distinct integers in 2..8")
    if target is not None and type(target) is not int:
        raise ValueError(f"target_bops={target!r} is not of type int")
    names = [layer["name"] for layer in document["layers"]]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"layers {repeated} are there more than once")


def _layer_from_json(document: dict) -> LayerSelection:
    types = {field.name: field.type for field in dataclasses.fields(LayerSelection)}
    unknown, missing = document.keys() - types.keys(), types.keys() - document.keys()
    if unknown or missing:
        raise ValueError(f"layer keys: unknown {sorted(unknown)}, missing {sorted(missing)}")
    for name, expected in types.items():
        if type(document[name]) is not expected:
            raise ValueError(f"{name}={document[name]!r} is not of type {expected.__name__}")
    for name in ("activation_bits", "weight_bits"):
        if document[name] not in BIT_WIDTHS:
            raise ValueError(f"{name}={document[name]} is not in 2..8")
    return LayerSelection(**document)
