"""Costs of bits by a device's own tool, asked about trial files of the network as it stands.

A trial file has one pair of weight and activation bits in every searched layer; the device says what each
layer and all else takes of it (`mmx_tf.devices.device.Device`). The weights are those of the search
rounded to the candidates: weights that were trained at their bits may compress otherwise, so a run judges the
choice, and its finished file, whole (`mmx_tf.run.device_budget`).
"""

from collections.abc import Mapping

from absl import logging

from mmx_tf.devices import Device
from mmx_tf.metamix import file_bytes
from mmx_tf.metamix.search import SearchModel
from mmx_tf.recipe.candidate_costs import CandidateCosts


def costs_on_device(
    search: SearchModel, convert_options: Mapping, *, device: Device, budget: str
) -> CandidateCosts:
    """The costs of a search's candidates on a device, which are a limit.

    Args:
      search: it is left untouched.
      convert_options: arguments of `mmx_tf.convert` that the file will be made with.
      device: its tool is asked.
      budget: one of `device.measures`.

    Raises:
      ValueError: for options that `convert` refuses, or a file that the tool refuses.
      TypeError: for an option that `convert` does not have.
      FoldError: for a network that cannot be exported.
    """
    file_bytes.check_options(convert_options)
    pairs, layers = search.budget.pairs, [cost.name for cost in search.budget.searched]
    branches = len(search.budget.bit_widths)
    logging.info("--device=%s: %s is measured on %d trial files", device.name, budget, len(pairs))
    trials = {}
    for first in range(0, len(pairs), branches):
        files = file_bytes.TrialFiles(search, [first] * len(layers), convert_options)
        for pair in pairs[first : first + branches]:
            trials[pair] = files.with_activation_bits([pair[1]] * len(layers))
    found = device.table(budget, trials, layers)
    table = tuple(tuple(found.costs[layer][pair] for pair in pairs) for layer in layers)
    return CandidateCosts(device.measures[budget], table, found.fixed, is_limit=True)
