"""What a finished run amounts to: the figures that the report, the plots and the terminal summary all show.

`bit_selection.json` and `metrics.json` hold what was measured; everything that is derived from them (BOPs of
each layer, shares, what uniform bit-widths would have cost) is derived once, here, so that the page, the plot
and the terminal cannot disagree. The cost of one layer is

    BOPs = MACs * weight bits * activation bits

and the first and the last layer keep their recorded bits in every comparison, as in the paper.

    facts = run_facts(selection, metrics)
    facts.bops, facts.uniform_bops(4), [layer.bops for layer in facts.layers]
"""

import dataclasses
from collections.abc import Mapping

from mmx_tf.report.scores import Score, agreement_of, scores_of

KINDS = ("conv", "depthwise", "dense")
_SELECTION_KEYS = ("bit_widths", "layers", "bops")
_LAYER_KEYS = ("name", "kind", "macs", "activation_bits", "weight_bits")
_SHARED_KEYS = ("code_disagreement", "eval_images", "file_bytes")
_METRIC_KEYS = ("fixed_top1", "folded_top1", "tflite_top1", "top1_agreement", *_SHARED_KEYS)
_TASK_KEYS = ("task", "quality", "agreement", *_SHARED_KEYS)


@dataclasses.dataclass(frozen=True)
class LayerFacts:
    """One quantized layer. `bops` and `macs` are per image; the shares are parts of the network's sums."""

    name: str
    kind: str
    macs: int
    activation_bits: int
    weight_bits: int
    signed: bool | None
    bops: int
    bops_share: float
    macs_share: float


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """A run in figures.

    `scores` are the metrics of the network's forms on `eval_images`, the one that stands for the whole
    first; `agreement` is the share of what file and folded network name that is the same
    (`scores.NAMED`), `code_disagreement` that of logit codes that differ; `target_bops` is None when
    the budget was not given in BOPs; `cost` is then what was counted in its place, with `unit`, `value` and
    `target`.
    """

    bit_widths: tuple[int, ...]
    layers: tuple[LayerFacts, ...]
    bops: int
    target_bops: float | None
    task: str
    scores: tuple[Score, ...]
    agreement: float
    code_disagreement: float
    eval_images: int
    file_bytes: int
    average_bits: Mapping[str, float]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    cost: Mapping | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image through all quantized layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def searched(self) -> tuple[LayerFacts, ...]:
        """The layers whose bit-width was chosen: all but the first and the last."""
        return self.layers[1:-1]

    @property
    def mixed_weights(self) -> bool:
        """Whether the weights of the searched layers have different bits."""
        return len({layer.weight_bits for layer in self.searched}) > 1

    @property
    def score(self) -> Score:
        """The score that stands for the whole."""
        return self.scores[0]

    @property
    def layer_bops(self) -> int:
        """Sum of the layers' BOPs; equals `bops` unless the two files come from different runs."""
        return sum(layer.bops for layer in self.layers)

    def uniform_bops(self, bits: int) -> int:
        """BOPs with every searched layer at `bits` activation bits; weights and both ends as recorded."""
        ends = self.layers[:1] + self.layers[1:][-1:]
        return sum(layer.bops for layer in ends) + sum(
            layer.macs * layer.weight_bits * bits for layer in self.searched
        )

    def layers_at(self, bits: int) -> int:
        """How many searched layers were given `bits` activation bits."""
        return sum(layer.activation_bits == bits for layer in self.searched)


def run_facts(selection: Mapping, metrics: Mapping) -> RunFacts:
    """Derives the figures of a run from the contents of its `bit_selection.json` and `metrics.json`.

    Optional: `target_bops`, a layer's `signed`, and of the metrics those of the float network,
    `average_bits`, `seconds`, `versions`. Averages that `metrics` lacks but the layers determine (plain, by
    operations) are filled in.

    Raises:
      ValueError: a required key is missing (all missing ones are named), or there are no layers.
    """
    _require(selection, _SELECTION_KEYS, "`selection`")
    _require(metrics, _TASK_KEYS if "quality" in metrics else _METRIC_KEYS, "`metrics`")
    entries = selection["layers"]
    if not entries:
        raise ValueError("`selection` has an empty `layers` list; a report needs a quantized layer.")
    for index, entry in enumerate(entries):
        _require(entry, _LAYER_KEYS, f"layer {index} ({entry.get('name', 'no name')}) of `selection`")
    bops = [e["macs"] * e["weight_bits"] * e["activation_bits"] for e in entries]
    all_bops, all_macs = max(sum(bops), 1), max(sum(e["macs"] for e in entries), 1)
    layers = tuple(
        LayerFacts(
            name=str(e["name"]),
            kind=str(e["kind"]),
            macs=e["macs"],
            weight_bits=e["weight_bits"],
            activation_bits=e["activation_bits"],
            signed=e.get("signed"),
            bops=b,
            bops_share=b / all_bops,
            macs_share=e["macs"] / all_macs,
        )
        for e, b in zip(entries, bops, strict=True)
    )
    measured = {key: metrics[key] for key in _SHARED_KEYS}
    return RunFacts(
        bit_widths=tuple(selection["bit_widths"]),
        layers=layers,
        bops=selection["bops"],
        target_bops=selection.get("target_bops", metrics.get("target_bops")),
        task=metrics.get("task", "classification"),
        scores=scores_of(metrics),
        agreement=agreement_of(metrics),
        average_bits=_average_bits(layers[1:-1]) | dict(metrics.get("average_bits") or {}),
        seconds=dict(metrics.get("seconds") or {}),
        versions=dict(metrics.get("versions") or {}),
        cost=metrics.get("cost"),
        **measured,
    )


def own_cost(cost: Mapping) -> str:
    """A cost that is not in BOPs, and its budget, in words: '12.5 us (budget 13 us)'."""
    # Bytes are told as the size of the file is.
    form = ",.0f" if cost["unit"] == "bytes" else ".4g"
    text = f"{cost['value']:{form}} {cost['unit']}"
    return text if cost["target"] is None else f"{text} (budget {cost['target']:{form}})"


def _average_bits(searched: tuple[LayerFacts, ...]) -> dict[str, float]:
    macs = sum(layer.macs for layer in searched)
    if not macs:
        return {}
    return {
        "plain": sum(layer.activation_bits for layer in searched) / len(searched),
        "by_ops": sum(layer.activation_bits * layer.macs for layer in searched) / macs,
    }


def _require(mapping: Mapping, keys: tuple[str, ...], what: str) -> None:
    if not isinstance(mapping, Mapping):
        kind = type(mapping).__name__
        make = f": give .to_json() of the {kind}" if hasattr(mapping, "to_json") else ""
        raise TypeError(f"{what} is a {kind}, and a report needs the contents of a run's JSON file{make}.")
    missing = [key for key in keys if key not in mapping]
    if missing:
        present = ", ".join(map(str, mapping)) or "nothing"
        raise ValueError(
            f"{what} lacks {', '.join(missing)}; it has {present}. A report needs {', '.join(keys)}."
        )
