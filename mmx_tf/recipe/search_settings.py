"""The settings of a search that flags, `augment` and the search network share, each declared once.

A field here is a flag of `mmx_tf.train`, an argument of `augment`, an attribute of `SearchModel` and an entry
of its config.

    >>> settings, others = SearchSettings.parted({"meta_training": False, "meta_epochs": 2})
    >>> settings.train_weights_in_search, others
    (True, {'meta_epochs': 2})
"""

import dataclasses
import numbers
from collections.abc import Mapping
from dataclasses import dataclass

from mmx_tf.recipe.allowed import Between, OneOf, flag

_KINDS = {
    float: (numbers.Real, "a number"), int: (numbers.Integral, "an integer"), str: (str, "a text"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How Algorithm 1 is run; the help text of each field is beside it."""

    regularizer_weight: float = flag(
        1.0,
        "lambda_r: the search loss is task loss + lambda_r * |BOPs - target| / target.",
        group="search",
        allowed=Between(0),
    )
    meta_training: bool = flag(
        True,
        "Bit-meta steps. Without them weights, step sizes and alpha are trained together on the mix of all "
        "branches from the first step on, as in DNAS and EdMIPS.",
    )
    train_weights_in_search: bool = flag(
        False, "Bit-search steps train weights and step sizes too, instead of holding the meta-state fixed."
    )
    alpha_initial_stddev: float = flag(
        0.0,
        "alpha begins at numbers drawn from N(0, stddev^2) with --seed, in place of zeros.",
        allowed=Between(0),
    )
    batch_norm_update: str = flag(
        "mean",
        "What the passes of a bit-meta step do to batch norm's running statistics: "
        "{allowed} (they get the passes' mean, are updated by one pass "
        "after the other, or stay).",
        allowed=OneOf(("mean", "sequential", "none")),
    )

    @classmethod
    def parted(cls, given: Mapping) -> tuple["SearchSettings", dict]:
        """The settings among the arguments of a call or the entries of a config, and the others.

        Without `meta_training` every step trains the weights, and `train_weights_in_search` says so.

        Raises:
          ValueError: for a value that its field does not allow.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        own = {name: _checked(fields[name], value) for name, value in given.items() if name in fields}
        if not own.get("meta_training", True):
            own["train_weights_in_search"] = True
        return cls(**own), {name: value for name, value in given.items() if name not in fields}

    @property
    def search_settings(self) -> dict:
        """The settings by name, of these or of a recipe: arguments of `augment`, entries of a config."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(SearchSettings)}


def _checked(field: dataclasses.Field, value):
    """A value in its field's type."""
    if field.type is bool:
        # NumPy's too, which is not loaded for them.
        fits, words = type(value).__name__ in ("bool", "bool_"), "True or False"
    else:
        allowed, (kind, noun) = field.metadata["allowed"], _KINDS[field.type]
        # True is a number to Python.
        fits = isinstance(value, kind) and not isinstance(value, bool) and allowed.takes(value)
        words = allowed.form.format(noun=noun, words=allowed.words)
    if not fits:
        raise ValueError(f"{field.name}={value!r}: {words}.")
    return field.type(value)
