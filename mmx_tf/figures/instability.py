"""Activation instability due to bit selection, measured: the numbers of the paper's Figures 1, 2 and 6.

Figure 1  one network trained for each activation bit-width (single precision), for full-precision, 8- and
          4-bit weights: what the quantizer in front of chosen layers is given.
Figure 6  the same of meta-states: for each weight precision one network, trained by bit-meta steps, of which
          each branch is looked at in turn.
Figure 2  the running variance of the batch norm behind a depthwise layer whose bits switch at random.

Figures 1 and 6 have the same start, batches, steps and rates. Quantized weights are so during training too
(LSQ, as in weight training), in single-precision and in bit-meta steps alike.

    instability = Instability(recipe, data, float_network, options)
    instability.distributions(meta=False)["spread"]         # Figure 1
"""

from collections.abc import Sequence

import numpy as np
import tf_keras as keras
from absl import logging

from mmx_tf.budget import bops
from mmx_tf.errors import RecipeError
from mmx_tf.figures import statistics
from mmx_tf.figures.options import FigureOptions, weights_label
from mmx_tf.figures.quantized_search import batch_norm_behind, quantized_search
from mmx_tf.figures.short_training import ShortTraining
from mmx_tf.figures.statistics import NORMS
from mmx_tf.network import canonical
from mmx_tf.recipe.recipe import Recipe

WEIGHT_BITS = (None, 8, 4)
"""Weights of the rows of Figures 1 and 6; None is full precision."""
SAMPLE = 2**18
"""Elements of a layer's activations that are kept, at places that are the same in all cells."""


def default_layers(costs: Sequence[bops.LayerCost]) -> tuple[str, ...]:
    """The depthwise layers of the 2nd and the 11th of 17 blocks, or what stands there in another network.

    In MobileNet-v2 they are the paper's 5th and 32nd layer. A network without depthwise layers has its
    searched layers counted instead.
    """
    searched = [cost for cost in costs if not cost.end]
    names = [cost.name for cost in searched if cost.kind == "depthwise"] or [cost.name for cost in searched]
    last = len(names) - 1
    return tuple(dict.fromkeys(names[min(last, max(1, round(last * part)))] for part in (1 / 16, 10 / 16)))


class Instability:
    """The experiments of one float network.

    Args:
      recipe: candidate bits, rates, batch size, seed.
      data: dataset.
      float_network: where all training starts.
      options: steps, layers, images.

    Raises:
      RecipeError: if a layer of `options` is not one that is searched, or one that is to be switched has no
        batch norm behind it.
    """

    def __init__(self, recipe: Recipe, data, float_network: keras.Model, options: FigureOptions):
        self._recipe, self._data, self._float, self._options = recipe, data, float_network, options
        network = canonical.canonicalize(float_network)
        costs = bops.layer_costs(network)
        searched = [cost.name for cost in costs if not cost.end]
        self.layers = options.layers or default_layers(costs)
        self.switched = options.switched_layer or default_layers(costs)[0]
        for flag, names in (("layers", options.layers), ("switched_layer", (self.switched,))):
            unknown = [name for name in names if name not in searched]
            if unknown:
                raise RecipeError(
                    f"--{flag}={','.join(names)}: {unknown[0]!r} is no searched layer; allowed: "
                    f"{', '.join(searched)}."
                )
        if "2" in options.which and batch_norm_behind(network, self.switched) is None:
            allowed = [name for name in searched if batch_norm_behind(network, name)]
            raise RecipeError(
                f"--switched_layer={self.switched} has no batch norm behind it, which Figure 2 draws; "
                f"allowed: {', '.join(allowed) or 'none, in this network'}."
            )
        self._trainings: dict[int | None, ShortTraining] = {}

    def distributions(self, *, meta: bool) -> dict:
        """What Figure 1 draws, or with `meta` Figure 6.

        Returns:
          `layers`; `cells`: for each layer, weight precision and activation bit-width the mean, standard
          deviation and histogram (`counts`, between the layer's `edges`) of the quantizer's input, and the
          top-1 of that network; `spread` and `spread_over_weights` of each layer across activation bits, and
          across weights; both with batch norm as in inference, and `batch` statistics. What is drawn is the
          first.
        """
        bits = self._recipe.candidate_bits
        samples, top1 = {}, {}
        for weights in WEIGHT_BITS:
            training = self._training(weights)
            training.reset()
            if meta:
                training.meta(steps=self._options.steps)
            for branch, activation in enumerate(bits):
                if not meta:
                    training.reset()
                    training.single_precision(steps=self._options.steps, branch=branch)
                found, top1[weights, activation] = self._look(training, branch)
                samples |= {(layer, weights, activation, norm): s for (layer, norm), s in found.items()}
                logging.info(
                    "%s, %d-bit activations: top-1 %.1f%%", weights_label(weights), activation,
                    100 * top1[weights, activation],
                )  # fmt: skip
        cells, edges = [], {}
        for layer in self.layers:
            keys = [(layer, weights, activation, "running") for weights in WEIGHT_BITS for activation in bits]
            limits, counts = statistics.histograms([samples[key] for key in keys])
            edges[layer] = limits.tolist()
            cells += [
                {
                    "layer": layer,
                    "weight_bits": key[1],
                    "activation_bits": key[2],
                    "mean": float(np.mean(samples[key], dtype=np.float64)),
                    "standard_deviation": float(np.std(samples[key], dtype=np.float64)),
                    "top1": top1[key[1:3]],
                    "counts": count.tolist(),
                }
                for key, count in zip(keys, counts, strict=True)
            ]

        def spread(norm, layer, rows, columns):
            return statistics.spread([samples[layer, w, a, norm] for w in rows for a in columns])

        return {
            "layers": list(self.layers),
            "edges": edges,
            "cells": cells,
            "spread": [
                {"layer": layer, "weight_bits": weights}
                | {norm: spread(norm, layer, [weights], bits) for norm in NORMS}
                for layer in self.layers
                for weights in WEIGHT_BITS
            ],
            "spread_over_weights": [
                {"layer": layer, "activation_bits": activation}
                | {norm: spread(norm, layer, WEIGHT_BITS, [activation]) for norm in NORMS}
                for layer in self.layers
                for activation in bits
            ],
        }

    def switching(self) -> dict:
        """What Figure 2 draws.

        Returns:
          `layer`; `bits` of the layer in every step, the same in all rows; `rows`: for full-precision
          weights, 4-bit weights, and bit-meta training with full-precision weights, the running and the batch
          variance in every step, of each the `explained_share` (eta squared) and the `relative_range` across
          bit-widths; `chance_share` is the share to expect if bits meant nothing.
        """
        every, steps = self._options.switch_every, self._options.steps
        rng = np.random.default_rng(self._recipe.seed)
        draws = rng.integers(len(self._recipe.candidate_bits), size=-(-steps // every))
        branches = np.repeat(draws, every)[:steps].tolist()
        bits = [self._recipe.candidate_bits[branch] for branch in branches]
        rows = []
        for weights, meta in ((None, False), (4, False), (None, True)):
            if meta:
                training = self._new(None, update="none")
            else:
                training = self._training(weights)
                training.reset()
            curves = training.switched_bits(branches, meta=meta)
            shares = {key: statistics.explained_share(values, bits) for key, values in curves.items()}
            ranges = {key: statistics.relative_range(values, bits) for key, values in curves.items()}
            name = weights_label(weights) if not meta else "bit-meta training, full-precision weights"
            logging.info("%s: share of variance explained by the bits: %s", name, shares)
            numbers = {"explained_share": shares, "relative_range": ranges}
            rows.append({"row": name, "weight_bits": weights, "meta": meta} | numbers | curves)
        chance = statistics.chance_share(bits, block=every)
        return {"layer": self.switched, "bits": bits, "rows": rows, "chance_share": chance}

    def _training(self, weight_bits: int | None) -> ShortTraining:
        if weight_bits not in self._trainings:
            self._trainings[weight_bits] = self._new(weight_bits)
        return self._trainings[weight_bits]

    def _new(self, weight_bits: int | None, *, update: str = "mean") -> ShortTraining:
        keras.utils.set_random_seed(self._recipe.seed)
        search = quantized_search(
            self._recipe,
            self._float,
            weight_bits=weight_bits,
            momentum=self._options.statistics_momentum,
            pixel_scaling=self._data.pixel_scaling,
            update=update,
        )
        # Figures 1 and 6 alone need no batch norm there.
        switched = self.switched if "2" in self._options.which else ""
        label = weights_label(weight_bits)
        return ShortTraining(search, self._recipe, self._data, label=label, switched=switched)

    def _look(self, training: ShortTraining, branch: int):
        """({(layer, norm): sample of its quantizer's input}, top-1) on the held-out images."""
        found, right, images_seen = {(layer, norm): [] for layer in self.layers for norm in NORMS}, 0, 0
        size = min(self._recipe.batch_size, self._options.images)
        batches = self._data.evaluation(batch_size=size, limit=self._options.images)
        for images, labels in batches:
            for norm in NORMS:
                outputs, taken = training.observe(
                    images, branch=branch, layers=self.layers, batch_statistics=norm == "batch"
                )
                for layer, values in taken.items():
                    found[layer, norm].append(np.ravel(values))
                if norm == "running":
                    right += int(np.sum(np.argmax(outputs, 1) == np.ravel(labels)))
            images_seen += len(labels)
        samples = {key: _sample(np.concatenate(parts), self._recipe.seed) for key, parts in found.items()}
        return samples, right / images_seen


def _sample(values: np.ndarray, seed: int) -> np.ndarray:
    if len(values) <= SAMPLE:
        return values
    return values[np.random.default_rng(seed).integers(len(values), size=SAMPLE)]
