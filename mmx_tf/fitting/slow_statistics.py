"""Running batch-norm statistics that a short training does not move far enough.

Evaluation and the file normalize by running statistics. With Keras's momentum of 0.99 or 0.999 a training of
few steps leaves them mostly what they were before, and a network that learns then gives poor accuracies.
"""

import math

import tf_keras as keras
from absl import logging

LARGEST_STATISTICS_SHARE = 0.05
"""Share of where training started that may be left in running statistics without a warning."""


def warn_of_slow_statistics(fixed: keras.Model, steps: int) -> None:
    """Tells whoever tries a recipe for a few steps why a network that learns gives poor accuracies."""
    norms = [layer for layer in fixed.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momentum = max((norm.momentum for norm in norms), default=0.0)
    if momentum**steps > LARGEST_STATISTICS_SHARE:
        advice = "Give"
        if momentum < 1:
            enough = math.ceil(math.log(LARGEST_STATISTICS_SHARE) / math.log(momentum))
            advice = f"Train for {enough:,} steps or more, or give"
        logging.warning(
            "batch norm's momentum of %g is slow for the %d steps of weight training that move running "
            "statistics: %.0f%% of them will be those from before, and evaluation and the file normalize by "
            "them. %s a network whose batch norm has a smaller one.",
            momentum, steps, 100 * momentum**steps, advice,
        )  # fmt: skip
