"""`digits`: scikit-learn's 1797 handwritten digits (UCI, real scans), which come with it."""

from mmx_tf.data.asked import Asked

WORDS = "'digits'"
DIGITS_EVAL_IMAGES = 360


def check(name: str, *, data_dir: str) -> None:
    """Every machine has them."""


def opened(name: str, asked: Asked):
    """The `Source`: 8x8 grey, a stratified split of 1437 and 360 images."""
    # Here, since scikit-learn takes seconds to load, which no other data needs.
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from mmx_tf.data.source import ImageSource, in_memory

    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = data.target.astype(np.int32)
    train, evaluation = train_test_split(
        np.arange(len(labels)), test_size=DIGITS_EVAL_IMAGES, stratify=labels, random_state=0
    )
    return ImageSource(
        name="digits",
        class_names=tuple(map(str, data.target_names)),
        natural_size=32,
        channels=1,
        mirrored=False,
        uncropped=True,
        train=in_memory(images[train], labels[train]),
        evaluation=in_memory(images[evaluation], labels[evaluation]),
    )
