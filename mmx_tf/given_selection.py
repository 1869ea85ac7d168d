"""Bit selections that no search made: drawn at random, one bit-width everywhere, or from a file.

They say what a search is worth: the same meta-state, the same budget, the same weight training, other bits.
"""

import numpy as np

from mmx_tf.bit_selection import BitSelection, SelectionMismatchError
from mmx_tf.budget import Budget
from mmx_tf.recipe import Recipe, RecipeError
from mmx_tf.search import SearchModel


def given_selection(recipe: Recipe, search: SearchModel) -> BitSelection | None:
    """The selection that a recipe's flags determine without a search; None where a search makes it.

    Raises:
      RecipeError: if --bit_selection is no selection of this network, its bits are no candidates, or it takes
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
    """A random choice of bits that spends the budget: within the target, and no layer can have more.

    Every layer draws a candidate uniformly. Over the target, the repair goes on as after a search, with
    random alphas; then layers, in random order, get the next candidate above while the target allows one.

    Args:
      budget: costs, candidates and target; without a target the draw is the choice.
      seed: what the choice depends on alone, beside the budget.

    Returns:
      The branch index of every searched layer, in graph order.
    """
    generator = np.random.default_rng(seed)
    alphas = generator.uniform(size=(len(budget.searched), len(budget.bit_widths)))
    choice, _ = budget.repair(alphas, alphas.argmax(axis=1).tolist())
    if budget.target_bops is None:
        return choice
    by_bits = sorted(range(len(budget.bit_widths)), key=budget.bit_widths.__getitem__)
    raised = True
    while raised:
        raised = False
        for layer in generator.permutation(len(choice)).tolist():
            above = by_bits.index(choice[layer]) + 1
            if above == len(by_bits):
                continue
            more = [*choice[:layer], by_bits[above], *choice[layer + 1 :]]
            if budget.bops_of(more) <= budget.target_bops:
                choice, raised = more, True
    return choice


def _from_file(recipe: Recipe, search: SearchModel) -> BitSelection:
    """The activation bits of a file; weight bits and budget are the recipe's."""
    budget, name = search.budget, f"--bit_selection={recipe.bit_selection}"
    try:
        found = BitSelection.load(recipe.bit_selection)
        found.check_fits(search.selection_of([0] * len(budget.searched)))
    except (OSError, SelectionMismatchError) as error:
        raise RecipeError(f"{name} cannot be used: {error}") from error
    bits = {layer.name: layer.activation_bits for layer in found.layers}
    selection = search.selection_of([budget.bit_widths.index(bits[cost.name]) for cost in budget.searched])
    if budget.target_bops is not None and selection.bops > budget.target_bops:
        raise RecipeError(
            f"{name} takes {selection.bops} BOPs with --weight_bits={budget.weight_bits}, more than the "
            f"budget of {budget.target_bops}. Give --target_bops={selection.bops} --target_average_bits=0, "
            "or another selection."
        )
    return selection
