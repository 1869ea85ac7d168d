"""Whether a search is finished: how far apart its candidates are, and how often its choice still changes.

With p = softmax(alpha) of a layer with B candidates:

    entropy     -sum_j p_j log p_j / log B         1 where all candidates are as probable, 0 where one is left
    margin      p_first - p_second                 of the most probable candidate to the next
    flips       layers whose most probable candidate a step has changed

A search whose layers still flip in its last steps would have given other bits with a few steps more or less.

>>> alpha = np.array([[3.0, 0.0], [0.0, 3.0], [0.1, 0.0], [0.0, 4.0]])
>>> state = SearchState.of(alpha, flips=[3, 0, 1, 0])
>>> state.finished
False
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from mmx_tf.recipe.search_length import SearchLength

LAST_SHARE = 0.1
"""Share of the bit-search steps, the last ones, in which no layer of a finished search flips."""
CLOSE_MARGIN = 0.05
"""Margin below which two candidates are close."""
CLOSE_SHARE = 0.1
"""Share of the layers that may be close in a finished search."""


def probabilities(alpha) -> np.ndarray:
    """softmax(alpha) over the last axis, float64."""
    alpha = np.asarray(alpha, np.float64)
    powers = np.exp(alpha - alpha.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def entropies(alpha) -> np.ndarray:
    """Entropy of each layer's candidates over log B: (L,), from 0 to 1.

    Args:
      alpha: (L, B), B of 2 or more.
    """
    shares = probabilities(alpha)
    logarithms = np.log(np.maximum(shares, np.finfo(np.float64).tiny))
    return -(shares * logarithms).sum(axis=-1) / math.log(shares.shape[-1])


def margins(alpha) -> np.ndarray:
    """Probability of each layer's most probable candidate less that of the next: (L,), from 0 to 1.

    Args:
      alpha: (L, B), B of 2 or more.
    """
    ordered = np.sort(probabilities(alpha), axis=-1)
    return ordered[..., -1] - ordered[..., -2]


@dataclasses.dataclass(frozen=True)
class SearchState:
    """How a search ended for one target.

    Attributes:
      layers: number of rows of alpha: searched layers, once more where their weight bits are searched too.
      entropy: mean entropy over log B.
      smallest_margin, median_margin: of the layers.
      close: layers whose margin is below `CLOSE_MARGIN`.
      last_steps: the last bit-search steps that are looked at; 0 where nothing is known of steps.
      flips: changes of a layer's most probable candidate in them.
      length: how long the search was; None where this is not known.
    """

    layers: int
    entropy: float
    smallest_margin: float
    median_margin: float
    close: int
    last_steps: int
    flips: int
    length: SearchLength | None = None

    @classmethod
    def of(cls, *alphas, flips: Sequence[float] = (), length: SearchLength | None = None) -> "SearchState":
        """The state of one target's search.

        Args:
          *alphas: (L, B) of the activations and, where they are searched too, (L, W) of the weights.
          flips: layers that flipped in each bit-search step.
          length: how long the search was.

        Raises:
          ValueError: if no layer is searched.
        """
        alphas = [np.asarray(alpha) for alpha in alphas if np.size(alpha) and np.shape(alpha)[-1] > 1]
        if not alphas:
            raise ValueError("no layer is searched: there is no alpha with two candidates.")
        gaps = np.concatenate([margins(alpha) for alpha in alphas])
        last = math.ceil(LAST_SHARE * len(flips))
        return cls(
            layers=len(gaps),
            entropy=float(np.concatenate([entropies(alpha) for alpha in alphas]).mean()),
            smallest_margin=float(gaps.min()),
            median_margin=float(np.median(gaps)),
            close=int((gaps < CLOSE_MARGIN).sum()),
            last_steps=last,
            flips=round(sum(flips[len(flips) - last :])),
            length=length,
        )

    @property
    def finished(self) -> bool:
        """Whether no layer flipped in the last steps, and few are close."""
        return not self.flips and self.close <= CLOSE_SHARE * self.layers

    @property
    def sentence(self) -> str:
        """What there is to say of it, for the log and the metrics."""
        reasons = []
        if self.flips:
            reasons.append(
                f"in the last {self.last_steps} bit-search steps the most probable bits changed {self.flips} "
                f"time{'' if self.flips == 1 else 's'}"
            )
        if self.close > CLOSE_SHARE * self.layers:
            reasons.append(
                f"in {self.close} of {self.layers} layers the two most probable candidates are less than "
                f"{CLOSE_MARGIN:g} apart"
            )
        numbers = f"mean entropy {self.entropy:.2f} of 1, median margin {self.median_margin:.2f}"
        if self.finished:
            return (
                f"The search is finished: no layer changed its bits in the last {self.last_steps} steps "
                f"({numbers})."
            )
        advice = (
            self.length.advice
            if self.length
            else "More --select_epochs or a larger --alpha_learning_rate tell them apart."
        )
        return (
            f"The search is not finished: {' and '.join(reasons)} ({numbers}). Other bits may be as good. "
            f"{advice}"
        )

    def to_json(self) -> dict:
        """All of it, for metrics.json."""
        return {**dataclasses.asdict(self), "finished": self.finished, "sentence": self.sentence}
