"""Bit selections that no search made: drawn at random, one bit-width everywhere, or from a file.

They say what a search is worth: the same meta-state, the same budget, the same weight training, other bits.
"""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import brentq

from mmx_tf.budget.budget import Budget
from mmx_tf.budget.repair import repaired
from mmx_tf.errors import RecipeError
from mmx_tf.metamix.search import SearchModel
from mmx_tf.metamix.selection import BitSelection, SelectionMismatchError
from mmx_tf.recipe.recipe import Recipe

DRAWS = 10_000
STEEPEST = 50.0
"""Largest slope of log probabilities over bits: at exp(-50) a candidate is not drawn."""


def given_selection(recipe: Recipe, search: SearchModel) -> BitSelection | None:
    """The selection that a recipe's flags determine without a search; None where a search makes it.

    Raises:
      RecipeError: if --bit_selection is of another network, its bits are not candidates, or it takes
        more BOPs than the budget.
    """
    if recipe.bit_selection:
        return _from_file(recipe, search)
    if recipe.selection == "random":
        return search.selection_of(random_choice(search.budget, recipe.seed))
    if recipe.selection == "uniform":
        branch = search.budget.bit_widths.index(recipe.uniform_bits)
        return search.selection_of([branch] * len(search.budget.searched))
    return None


def random_choice(budget: Budget, seed: int) -> list[int]:
    """Random bits that spend the budget: of `DRAWS` draws within the target the one with the most BOPs.

    All layers draw from one distribution, that of the largest entropy with the target's average bits as its
    mean; where weight bits are searched, of pairs by the product of their bits. What the draw leaves of the
    target is filled up: as long as any layer can be raised to a candidate that takes more BOPs, one of those
    flips is taken at random. Where no draw meets the target, the choice is the repair's of random alphas,
    filled up in the same way.

    Args:
      budget: costs, candidates and target; without a target all candidates are equally likely.
      seed: what the choice depends on alone, beside the budget.

    Returns:
      The candidate's index for every searched layer, in graph order.
    """
    generator = np.random.default_rng(seed)
    target, layers, branches = budget.target_bops, len(budget.searched), len(budget.pairs)
    if target is None:
        return generator.integers(branches, size=layers).tolist()
    low, high = budget.reachable
    largest = max(budget.weight_bit_widths)
    # Where weight bits are given, the activation bits themselves.
    sizes = [weights * activations / largest for weights, activations in budget.pairs]
    average = min(sizes) + (max(sizes) - min(sizes)) * (target - low) / max(1, high - low)
    probabilities = bit_probabilities(sizes, average)
    draws = generator.choice(branches, size=(DRAWS, layers), p=probabilities)
    table = np.array(budget.bops_costs.table, np.int64)
    bops = budget.fixed_bops + table[np.arange(layers), draws].sum(axis=1)
    if np.any(bops <= target):
        choice = draws[np.where(bops <= target, bops, -1).argmax()].tolist()
    else:
        alphas = generator.uniform(size=(layers, len(budget.bit_widths)))
        weight_alphas = None
        if budget.searches_weights:
            weight_alphas = generator.uniform(size=(layers, len(budget.weight_bits)))
        choice = repaired(budget, alphas, draws[0].tolist(), weight_alphas)[0]
    return _filled(budget, table, choice, generator)


def _filled(budget: Budget, table: np.ndarray, choice: list[int], generator) -> list[int]:
    layers = np.arange(len(choice))
    while True:
        more = table - table[layers, choice][:, np.newaxis]
        raises = np.argwhere((more > 0) & (more <= budget.target_bops - budget.bops_of(choice)))
        if not len(raises):
            return choice
        layer, branch = generator.choice(raises)
        choice[layer] = int(branch)


def bit_probabilities(bit_widths, average: float) -> np.ndarray:
    """The probabilities of the largest entropy whose mean is `average`: p(b) ~ exp(t b) for some t.

    Args:
      bit_widths: B candidates.
      average: mean bits, from the smallest candidate to the largest.

    Returns:
      (B,) probabilities.
    """
    bits = np.asarray(bit_widths, np.float64)

    def probabilities(slope):
        weights = np.exp(slope * bits - np.max(slope * bits))
        return weights / weights.sum()

    def gap(slope):
        return probabilities(slope) @ bits - average

    if gap(-STEEPEST) >= 0 or gap(STEEPEST) <= 0:
        # As good as the smallest or the largest candidate alone.
        return probabilities(-STEEPEST if gap(-STEEPEST) >= 0 else STEEPEST)
    return probabilities(brentq(gap, -STEEPEST, STEEPEST, xtol=1e-9))


def selection_of_bits(search: SearchModel, bits: Mapping[str, tuple[int, int]], *, target: int = 0):
    """The BitSelection of weight and activation bits, by layer; only searched layers count.

    Args:
      search: whose candidates the bits are; one weight bit-width is its own, whatever `bits` says.
      bits: layer name -> (weight bits, activation bits).
      target: index of the target that the selection records.

    Raises:
      KeyError: if a searched layer is not there.
      ValueError: if bits are no candidates.
    """
    budget = search.budget

    def index(weight_bits, activation_bits):
        own = weight_bits if budget.searches_weights else budget.weight_bits
        return budget.pairs.index((own, activation_bits))

    return search.selection_of([index(*bits[cost.name]) for cost in budget.searched], target=target)


def _from_file(recipe: Recipe, search: SearchModel) -> BitSelection:
    """The activation bits of a file; budget and weight bits are the recipe's, several of them the file's."""
    budget, name = search.budget, f"--bit_selection={recipe.bit_selection}"
    try:
        found = BitSelection.load(recipe.bit_selection)
        found.check_fits(search.selection_of([0] * len(budget.searched)))
    except (OSError, SelectionMismatchError) as error:
        raise RecipeError(f"{name} cannot be used: {error}") from error
    bits = {layer.name: (layer.weight_bits, layer.activation_bits) for layer in found.layers}
    selection = selection_of_bits(search, bits)
    if budget.target_bops is not None and selection.bops > budget.target_bops:
        weight_bits = ",".join(map(str, budget.weight_bit_widths))
        raise RecipeError(
            f"{name} takes {selection.bops} BOPs with --weight_bits={weight_bits}, more than the budget of "
            f"{budget.target_bops}. Give --target_bops={selection.bops} --target_average_bits=0, or another "
            "selection."
        )
    return selection
