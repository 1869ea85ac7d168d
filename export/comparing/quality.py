"""How good outputs are, by what fits their task: counted batch by batch, in numpy and by Keras's own metrics.

    quality = Quality("binary", from_logits=True)
    quality.add(logits, labels)              # float [N, 1], int [N]
    quality.result()                         # {"binary_accuracy": 0.98, "auc": 0.997}

| task | metrics |
|---|---|
| classification | accuracy: share of images whose largest score is the true class's, the first of equal ones |
| binary | binary_accuracy: share of images whose decision (logit > 0, probability > 0.5) is right; auc |
| multi_label | binary_accuracy: share of the labels of all images decided rightly; exact_match: share of images with all labels right; auc over the labels of all images together |
| regression | mean_absolute_error and root_mean_squared_error, in the labels' unit |
| segmentation | pixel_accuracy: share of pixels; mean_iou: mean over classes of intersection over union |

auc is the area under the ROC curve, `tf_keras.metrics.AUC` with its 200 thresholds; None where all labels are
equal, so that none counts. mean_iou is `tf_keras.metrics.MeanIoU`.
"""  # noqa: E501

import dataclasses

import numpy as np
import tf_keras as keras


@dataclasses.dataclass(frozen=True)
class Measure:
    """A metric for people: its name in dicts, in words, and whether it is a share, shown in percent."""

    name: str
    words: str
    share: bool = True
    less_is_better: bool = False


MEASURES = {
    "classification": (Measure("accuracy", "top-1"),),
    "binary": (Measure("binary_accuracy", "binary accuracy"), Measure("auc", "AUC", share=False)),
    "multi_label": (
        Measure("binary_accuracy", "multi-label accuracy"),
        Measure("exact_match", "all labels right"),
        Measure("auc", "AUC", share=False),
    ),
    "regression": (
        Measure("mean_absolute_error", "mean absolute error", share=False, less_is_better=True),
        Measure("root_mean_squared_error", "root mean squared error", share=False, less_is_better=True),
    ),
    "segmentation": (Measure("pixel_accuracy", "per-pixel accuracy"), Measure("mean_iou", "mean IoU")),
}
"""The metrics of each task, the one that stands for the whole first."""

SAME = {
    "classification": "same class on {}",
    "binary": "same class on {}",
    "multi_label": "same decision on {} of the labels",
    "regression": "same number for {}",
    "segmentation": "same class for {} of the pixels",
}
"""How a share of what a file and its folded model agree on is told."""


def decisions(task: str, outputs: np.ndarray, *, from_logits: bool) -> np.ndarray | None:
    """What outputs name: classes [N], 0 or 1 [N] (binary) or [N, ...] (multi_label), classes [N, H, W].

    Args:
      task: one of `export.comparing.heads.TASKS`; a regression names nothing, None.
      outputs: [N, ...], logits or, with from_logits=False, probabilities.
      from_logits: which of them.
    """
    if task == "regression":
        return None
    if task == "classification" or (task == "segmentation" and outputs.shape[-1] > 1):
        return outputs.argmax(-1)
    yes = (outputs > (0.0 if from_logits else 0.5)).astype(np.int64)
    return yes if task == "multi_label" else yes[..., 0]


class Quality:
    """The metrics of one network's outputs.

    Args:
      task: one of `export.comparing.heads.TASKS`.
      from_logits: whether outputs are logits, not probabilities.
    """

    def __init__(self, task: str, *, from_logits: bool):
        self.task, self._from_logits = task, from_logits
        self._count = self._right = self._images = self._all_right = 0
        self._absolute = self._squared = 0.0
        self._auc = self._iou = None
        self._seen: set[int] = set()

    def add(self, outputs: np.ndarray, labels: np.ndarray, named: np.ndarray | None = None) -> None:
        """Counts one batch.

        Args:
          outputs: [N, ...], as the network has them.
          labels: as `export.comparing.heads.labels_of` gives them.
          named: what was decided, where that is known otherwise than by `decisions`.
        """
        outputs = np.asarray(outputs)
        if self.task == "regression":
            error = np.abs(outputs.astype(np.float64) - labels)
            self._count += error.size
            self._absolute += float(error.sum())
            self._squared += float(np.square(error).sum())
            return
        named = decisions(self.task, outputs, from_logits=self._from_logits) if named is None else named
        right = named == labels
        self._count += right.size
        self._right += int(right.sum())
        if self.task == "multi_label":
            self._images += len(right)
            self._all_right += int(right.reshape(len(right), -1).all(1).sum())
        if self.task in ("binary", "multi_label"):
            self._auc = self._auc or keras.metrics.AUC(from_logits=self._from_logits, dtype="float64")
            self._auc.update_state(labels.reshape(-1), outputs.reshape(-1))
            self._seen |= set(np.unique(labels).tolist())
        if self.task == "segmentation":
            classes = max(2, outputs.shape[-1])
            self._iou = self._iou or keras.metrics.MeanIoU(classes, dtype="float64")
            self._iou.update_state(labels.reshape(-1), named.reshape(-1))

    def result(self) -> dict[str, float | None]:
        """Metric -> value, in the order of `MEASURES`; at least one batch has been counted."""
        if self.task == "regression":
            mean = self._absolute / self._count, (self._squared / self._count) ** 0.5
            return {"mean_absolute_error": mean[0], "root_mean_squared_error": mean[1]}
        share = self._right / self._count
        if self.task == "classification":
            return {"accuracy": share}
        if self.task == "segmentation":
            return {"pixel_accuracy": share, "mean_iou": float(self._iou.result())}
        auc = float(self._auc.result()) if len(self._seen) == 2 else None
        exact = {"exact_match": self._all_right / self._images} if self.task == "multi_label" else {}
        return {"binary_accuracy": share, **exact, "auc": auc}
