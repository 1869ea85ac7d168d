"""What comes out of a search: selections of bits, and what they cost while it goes on.

>>> search.bit_selection().bops <= search.budget.target_bops                # within the budget
True
>>> [layer.activation_bits for layer in search.selection_of([0, 2, 1]).layers]    # of a choice of one's own
[8, 8, 3, 4, 8]
"""

import numbers
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
from absl import logging

from mmx_tf.metamix import target as target_search
from mmx_tf.metamix.selection import BitSelection


class Selecting:
    """Mixed into `SearchModel`, whose budget, targets and quantizers are read here."""

    def selected_bops(self) -> tf.Tensor:
        """BOPs of the (first target's) branches with the largest alpha: scalar float64, differentiable."""
        return target_search.selected_cost(self.targets[0].alpha, self.budget.bops_costs, self.budget)

    def regularizer(self) -> tf.Tensor:
        """r(alpha) / (first) target; see `target.regularizer`."""
        return target_search.regularizer(self.budget, self.targets[0].alpha)

    def bit_selection(self, *, repair: bool = True) -> BitSelection:
        """The branch with the largest alpha in every layer, or the best choice that meets the budget.

        Args:
          repair: take the largest sum of alphas that the budget allows (`mmx_tf.budget.repair`), flips
            logged.

        Raises:
          ValueError: if the search has several targets.
        """
        if len(self.targets) > 1:
            raise ValueError(
                f"this search has {len(self.targets)} targets "
                f"({', '.join(str(target.budget.target_bops) for target in self.targets)} BOPs): "
                "bit_selections() gives a list of one selection for each, in this order."
            )
        return self.bit_selections(repair=repair)[0]

    def bit_selections(self, *, repair: bool = True) -> list[BitSelection]:
        """`bit_selection` of every target, in the order of the targets."""
        if self.quantizers and not self.alpha_initial_stddev and not np.any(self.alpha.numpy()):
            logging.warning(
                "no bit-search step has run (they begin after %d epochs): every layer has the first "
                "candidate, but where the repair lowered it to meet the budget.",
                self.meta_epochs,
            )
        return [
            self.selection_of(target.choose(repair=repair), target=index)
            for index, target in enumerate(self.targets)
        ]

    def selection_of(self, choice, *, target: int = 0) -> BitSelection:
        """The BitSelection of a choice: the candidate's index for every searched layer, in graph order.

        Args:
          choice: L indices: of the activation branch, or, with several weight candidates, of the pair
            `weight branch * B + activation branch` (`Budget.pairs`).
          target: index of the target that the selection records.

        Raises:
          ValueError: for another number of indices, or one that is no candidate's.
        """
        self._check_choice(choice, target)
        signed = {name: q.signed for name, q in {**self.quantizers, **self.end_quantizers}.items()}
        return self.targets[target].selection_of(choice, signed)

    def _check_choice(self, choice, target) -> None:
        layers, candidates = len(self.budget.searched), len(self.budget.pairs)
        indices = list(choice) if isinstance(choice, Iterable) else []
        whole = all(isinstance(i, numbers.Integral) and 0 <= i < candidates for i in indices)
        if len(indices) != layers or not whole:
            raise ValueError(
                f"selection_of: choice={choice!r}: {layers} integers in 0..{candidates - 1}, the candidate's "
                "index for every searched layer."
            )
        if not isinstance(target, numbers.Integral) or not 0 <= target < len(self.targets):
            raise ValueError(f"selection_of: target={target!r}: an integer in 0..{len(self.targets) - 1}.")
