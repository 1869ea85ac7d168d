"""mmx_tf: mixed-precision integer networks for TFLite, by MetaMix (AAAI 2024).

    search = mmx_tf.augment(float_model, bit_widths=(8, 4, 3), target_bops=5.3e9)
    search.compile(optimizer="sgd", loss=..., metrics=["accuracy"])
    search.fit(train_ds, epochs=2)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fixed.compile(...); fixed.fit(train_ds, epochs=...)
    folded = mmx_tf.fold(fixed)
    data = mmx_tf.convert(folded)
    report = mmx_tf.verify(folded, data, eval_ds)

The list below is the public interface.
"""

import warnings as _warnings

from mmx_tf import tensorflow_settings as _tensorflow_settings

_tensorflow_settings.apply()

from mmx_tf.quiet import without_native_noise as _without_native_noise  # noqa: E402

with _without_native_noise(), _tensorflow_settings.without_keras_engine(), _warnings.catch_warnings():
    _warnings.simplefilter("ignore", DeprecationWarning)  # tfmot asks distutils for versions.
    import tensorflow_model_optimization as _  # noqa: F401 (loads TensorFlow and Keras)

from export.verify import VerificationReport, verify  # noqa: E402
from mmx_tf import data, models, report  # noqa: E402
from mmx_tf.augment import augment  # noqa: E402
from mmx_tf.bit_selection import BitSelection  # noqa: E402
from mmx_tf.bops import count_bops  # noqa: E402
from mmx_tf.convert import convert  # noqa: E402
from mmx_tf.fold import fold  # noqa: E402
from mmx_tf.folded_training import fold_for_training  # noqa: E402
from mmx_tf.rebuild import rebuild  # noqa: E402
from mmx_tf.saving import load_model  # noqa: E402
from mmx_tf.search import SearchModel  # noqa: E402
from mmx_tf.version import VERSION as __version__  # noqa: E402, F401

__all__ = [
    "BitSelection",
    "SearchModel",
    "VerificationReport",
    "augment",
    "convert",
    "count_bops",
    "data",
    "fold",
    "fold_for_training",
    "load_model",
    "models",
    "rebuild",
    "report",
    "verify",
]
