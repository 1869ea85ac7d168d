"""mmx_tf: mixed-precision integer networks for TFLite, by MetaMix (AAAI 2024).

    search = mmx_tf.augment(float_model, bit_widths=(8, 4, 3), target_bops=5.3e9)
    search.compile(optimizer="sgd", loss=..., metrics=["accuracy"])
    search.fit(train_ds, epochs=2)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fixed.compile(...); fixed.fit(train_ds, epochs=...)
    folded = mmx_tf.fold(fixed)
    data = mmx_tf.convert(folded)
    report = mmx_tf.verify(folded, data, eval_ds)

The list below is the public interface. A name is loaded when it is first used, and TensorFlow with the first
that needs it.
"""

import importlib as _importlib
import pathlib as _pathlib
import typing as _typing

from mmx_tf import startup as _startup
from mmx_tf.version import VERSION as __version__  # noqa: F401

_ROOT = _pathlib.Path(__file__).resolve().parents[1]
if not (_ROOT / "mmx_tf" / "layers").is_dir():
    # In a checkout `mmx_tf.layers` and `mmx_tf.export` are the folders beside this one; installed they are in
    # it.
    __path__.append(str(_ROOT))

_startup.apply()

_MODULES = {
    "BitSelection": "mmx_tf.metamix.selection",
    "SearchModel": "mmx_tf.metamix.search",
    "VerificationReport": "mmx_tf.export.comparing.whole_file",
    "augment": "mmx_tf.metamix.augment",
    "c_source": "mmx_tf.export.c_source",
    "check_network": "mmx_tf.checking.network",
    "convert": "mmx_tf.folding.convert",
    "count_bops": "mmx_tf.budget.bops",
    "data": "",
    "fold": "mmx_tf.folding.fold",
    "fold_for_training": "mmx_tf.folding.training_graph",
    "load_model": "mmx_tf.files.loading",
    "models": "",
    "rebuild": "mmx_tf.metamix.rebuild",
    "reestimate_batch_norm": "mmx_tf.fitting.statistics",
    "report": "",
    "verify": "mmx_tf.export.comparing.whole_file",
}
"""Where each name is; "" for those that are rooms of their own."""

__all__ = [
    "BitSelection",
    "SearchModel",
    "VerificationReport",
    "augment",
    "c_source",
    "check_network",
    "convert",
    "count_bops",
    "data",
    "fold",
    "fold_for_training",
    "load_model",
    "models",
    "rebuild",
    "reestimate_batch_norm",
    "report",
    "verify",
]

if _typing.TYPE_CHECKING:
    from mmx_tf import data, models, report
    from mmx_tf.budget.bops import count_bops
    from mmx_tf.checking.network import check_network
    from mmx_tf.export.c_source import c_source
    from mmx_tf.export.comparing.whole_file import VerificationReport, verify
    from mmx_tf.files.loading import load_model
    from mmx_tf.fitting.statistics import reestimate_batch_norm
    from mmx_tf.folding.convert import convert
    from mmx_tf.folding.fold import fold
    from mmx_tf.folding.training_graph import fold_for_training
    from mmx_tf.metamix.augment import augment
    from mmx_tf.metamix.rebuild import rebuild
    from mmx_tf.metamix.search import SearchModel
    from mmx_tf.metamix.selection import BitSelection


def __getattr__(name: str):
    """Loads a public name when it is first asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'mmx_tf' has no attribute {name!r}")
    module = _importlib.import_module(_MODULES[name] or f"mmx_tf.{name}")
    value = getattr(module, name) if _MODULES[name] else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
