"""The figures of a finished run, which the page, the plots and the terminal summary all show.

`bit_selection.json` and `metrics.json` hold what was measured. What follows from them (the BOPs of each
layer, shares, the cost of uniform bit-widths) is computed here alone, so that page, plots and terminal cannot
disagree. The cost of one layer is

    BOPs = MACs * weight bits * activation bits

and the first and the last layer keep their recorded bits in every comparison, as in the paper.

    facts = run_facts(selection, metrics)
    facts.bops, facts.uniform_bops(4), [layer.bops for layer in facts.layers]
"""

import dataclasses
from collections.abc import Mapping

from mmx_tf.report.scores import Score, agreement_of, scores_of

KINDS = ("conv", "depthwise", "dense", "transposed")
_SELECTION_KEYS = ("bit_widths", "layers", "bops")
_LAYER_KEYS = ("name", "kind", "macs", "activation_bits", "weight_bits")
_SHARED_KEYS = ("code_disagreement", "eval_images", "file_bytes")
_METRIC_KEYS = ("fixed_top1", "folded_top1", "tflite_top1", "top1_agreement", *_SHARED_KEYS)
_TASK_KEYS = ("task", "quality", "agreement", *_SHARED_KEYS)


@dataclasses.dataclass(frozen=True)
class LayerFacts:
    """One quantized layer.

    `macs` and `bops` are those of one image; the shares are parts of the network's sums, from 0 to 1.
    `signed` says whether its input codes have a sign; None where that is not recorded.
    """

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

    Attributes:
      bit_widths: the candidate bits of the activations.
      layers: the quantized layers in graph order.
      bops: the recorded BOPs of one image.
      target_bops: the budget in BOPs; None if the budget has another unit.
      task: a key of `scores.NAMED`.
      scores: the metrics of the network's forms on `eval_images` images, the main metric first.
      agreement: share of outputs that are the same in file and folded network (`scores.agreement_of`).
      code_disagreement: share of logit codes that differ between them.
      eval_images: number of evaluation images.
      file_bytes: size of the file.
      average_bits: kind of mean -> mean activation bits of the searched layers, or None.
      seconds: phase -> time in seconds.
      versions: package -> version.
      costs: for each budget with another unit, `unit`, `value` and `target` of the cost in it.
      microcontroller: what `export.c_source.memory_facts` gives of the file, or None.
      device: what `run.device_budget.judged` gives of the file, or None.
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
    costs: tuple[Mapping, ...] = ()
    microcontroller: Mapping | None = None
    device: Mapping | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image through all quantized layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def searched(self) -> tuple[LayerFacts, ...]:
        """All layers but the first and the last: those with a chosen bit-width."""
        return self.layers[1:-1]

    @property
    def mixed_weights(self) -> bool:
        """Whether the weights of the searched layers have different bits."""
        return len({layer.weight_bits for layer in self.searched}) > 1

    @property
    def score(self) -> Score:
        """The main score: that of the task's first metric."""
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

    `target_bops` and the `signed` of a layer may be missing; so may the float network's metrics,
    `average_bits`, `seconds` and `versions` of `metrics`. Average bits that are missing there and follow from
    the layers (plain, by operations) are computed.

    Raises:
      TypeError: `selection` or `metrics` is not a mapping.
      ValueError: required keys are missing (the message names all of them), or there are no layers.
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
        costs=tuple(metrics.get("costs") or filter(None, [metrics.get("cost")])),
        microcontroller=metrics.get("microcontroller"),
        device=metrics.get("device"),
        **measured,
    )


def own_cost(cost: Mapping) -> str:
    """A cost in another unit than BOPs, and its budget: '12.5 us (budget 13)'."""
    form = cost_form(cost)
    text = f"{cost['value']:{form}} {cost['unit']}"
    return text if cost["target"] is None else f"{text} (budget {cost['target']:{form}})"


def cost_form(cost: Mapping) -> str:
    """The format of a cost's figures; bytes are written like the size of the file."""
    return ",.0f" if cost["unit"].startswith("bytes") else ".4g"


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
