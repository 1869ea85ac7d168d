"""The errors that end a run with a message and an exit code (`mmx_tf.exit_codes`); all others are defects.

Each message is one paragraph: the value, what is allowed, what to do.
"""


class RecipeError(ValueError):
    """Flags that do not make a run."""


class ModelError(ValueError):
    """A built-in network that cannot be had as asked."""


class DataError(ValueError):
    """A dataset that cannot be used as asked."""


class DamagedDataError(DataError):
    """Images that were found unusable while they were read: too many of them, or one for evaluation."""


class DivergenceError(RuntimeError):
    """Training has diverged; the message names phase, epoch, step and layer."""


class PeerError(RuntimeError):
    """Another process of the job has ended, so that this one cannot go on."""


class DisagreementError(ValueError):
    """A file whose codes differ from the folded model's more than allowed."""
