"""The size of the exported file, which `mmx_tf.metamix.file_bytes` measures."""

from mmx_tf.choices import STORAGES
from mmx_tf.recipe import budgets
from mmx_tf.recipe.texts import refuse


class Kind(budgets.Kind):
    """Bytes of weights follow from their bits; the rest of the file is measured once the search is built."""

    text = (
        "budget in bytes of the .tflite, for several weight candidates and packed storage. It leaves "
        "activation bits without a cost."
    )
    example = "2.9e6"
    counts = (budgets.WEIGHTS,)
    counted = "the size of the file"
    label = "budget in bytes"
    measured = True

    def check_flags(self, recipe) -> None:
        """Refuses the storage in which the bits of weights do not change the file."""
        if recipe.weight_storage == "int8":
            allowed = f"{', '.join(storage for storage in STORAGES if storage != 'int8')} with --target_bytes"
            advice = " In int8 storage weights of all bit-widths take one byte."
            refuse("weight_storage", recipe.weight_storage, allowed, advice)
