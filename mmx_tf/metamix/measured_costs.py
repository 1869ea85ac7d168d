"""The budgets whose costs are measured on a file of the network: how each is measured.

A kind of budget says that it is `measured` (`mmx_tf.recipe.budgets`); here is what `augment` then calls with
the search network and the options of `convert`.
"""

from mmx_tf.metamix import file_bytes, flash, ram

MEASURED = {
    "target_bytes": file_bytes.costs_in_bytes,
    "target_ram": ram.costs_in_ram,
    "target_flash": flash.costs_in_flash,
}
"""Name of a kind of budget -> function (search, convert_options) -> its costs."""
