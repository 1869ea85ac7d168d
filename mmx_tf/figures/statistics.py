"""How much activations change with the bit-width: the numbers beside the paper's Figures 1, 2 and 6.

The paper calls it *activation instability due to bit selection* and shows it as histograms and curves. Here
each figure also has a number, so that two of them can be compared.

    spread({8: sample, 4: other_sample, 3: third_sample})   # how far distributions are apart
    explained_share(variances, bits)                        # how much of a curve the bits account for
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import wasserstein_distance

BINS = 60
NORMS = ("running", "batch")
"""How batch norm normalizes where activations are looked at: as in inference, or by the batch itself."""


def deviation_ratio(samples: Sequence[np.ndarray]) -> float | None:
    """Largest over smallest standard deviation, 1 or more; None where one of them is 0."""
    deviations = [float(np.std(sample, dtype=np.float64)) for sample in samples]
    return max(deviations) / min(deviations) if min(deviations) > 0 else None


def distance(samples: Sequence[np.ndarray]) -> float | None:
    """Mean 1-Wasserstein distance of all pairs over the pooled standard deviation; 0 for equal distributions.

    The distances are scipy's. The pooled standard deviation is the root of the mean variance; None where it
    is 0. Unlike `deviation_ratio` this counts a shifted or reshaped distribution too.

    Args:
      samples: two or more samples of n values each.

    Raises:
      ValueError: if the samples are not equally large, or fewer than two.
    """
    sizes = [np.size(sample) for sample in samples]
    if len(sizes) < 2 or len(set(sizes)) > 1:
        raise ValueError(f"samples of {sizes} values: give two or more of equal size.")
    flat = [np.ravel(sample).astype(np.float64) for sample in samples]
    pooled = np.sqrt(np.mean([np.var(values) for values in flat]))
    pairs = [wasserstein_distance(one, other) for one, other in itertools.combinations(flat, 2)]
    return float(np.mean(pairs) / pooled) if pooled > 0 else None


def spread(samples: Sequence[np.ndarray]) -> dict[str, float | None]:
    """Both numbers of one layer's activations across bit-widths, by name."""
    return {"deviation_ratio": deviation_ratio(samples), "distance": distance(samples)}


def histograms(samples: Sequence[np.ndarray], *, bins: int = BINS) -> tuple[np.ndarray, list[np.ndarray]]:
    """Histograms with edges in common: (bins + 1 edges, per sample the counts of its bins)."""
    low = min(float(np.min(sample)) for sample in samples)
    high = max(float(np.max(sample)) for sample in samples)
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    return edges, [np.histogram(sample, edges)[0] for sample in samples]


def explained_share(values: Sequence[float], groups: Sequence[int]) -> float | None:
    """Eta squared: the sum of squares between groups over the total one, 0 to 1; None for constant values.

        sum over groups of n_g (mean_g - mean)^2  /  sum over values of (value - mean)^2

    Args:
      values: one number per step.
      groups: the group of each, such as the bit-width that was in force.
    """
    values, groups = np.asarray(values, np.float64), np.asarray(groups)
    total = np.sum((values - values.mean()) ** 2)
    between = sum(
        np.sum(groups == group) * (values[groups == group].mean() - values.mean()) ** 2
        for group in np.unique(groups)
    )
    return float(between / total) if total > 0 else None


def relative_range(values: Sequence[float], groups: Sequence[int]) -> float | None:
    """(Largest - smallest mean of a group) / mean of all values: how far bits move a curve; None for mean 0.

    A curve that hardly moves at all may still do so by the bits alone; this says by how much.
    """
    values, groups = np.asarray(values, np.float64), np.asarray(groups)
    means = [values[groups == group].mean() for group in np.unique(groups)]
    return float((max(means) - min(means)) / values.mean()) if values.mean() else None


def chance_share(groups: Sequence[int], *, block: int) -> float:
    """The eta squared to expect where the groups mean nothing: (groups - 1) / (blocks - 1), at most 1.

    Bits that stay for `block` steps leave few independent draws. Values that hardly change within a block
    reach this share by chance alone, so a share counts only as far as it is above it.

    Args:
      groups: the group of each step.
      block: steps for which a draw is kept.
    """
    blocks = -(-len(groups) // block)
    return min(1.0, (len(set(groups)) - 1) / max(1, blocks - 1))


def largest(spreads: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Each number's largest value over layers or rows; what is None is left out."""
    names = spreads[0]
    found = {name: [s[name] for s in spreads if s[name] is not None] for name in names}
    return {name: max(values) if values else None for name, values in found.items()}
