"""The names that examples in docstrings share: a small network at every stage, data, and files beside it.

An example may use them without making them (`CONTRIBUTING.md` lists them). Each is made when an example first
asks for it, once for all.
"""

import functools
import pathlib

import numpy as np


class Names(dict):
    """The names that an example sees: its own, those of its module, and what it asks `Workplace` for."""

    def __init__(self, module, workplace):
        super().__init__(vars(module))
        self.workplace = workplace

    def __missing__(self, name):
        if not hasattr(Workplace, name):
            raise KeyError(name)
        return getattr(self.workplace, name)


class Workplace:
    """What examples share; each name is made when it is first asked for."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    @functools.cached_property
    def np(self):
        return np

    @functools.cached_property
    def pathlib(self):
        return pathlib

    @functools.cached_property
    def mmx_tf(self):
        import mmx_tf

        return mmx_tf

    @functools.cached_property
    def tf(self):
        import tensorflow

        return tensorflow

    @functools.cached_property
    def keras(self):
        import tf_keras

        return tf_keras

    @functools.cached_property
    def _digits(self):
        return self.mmx_tf.data.load("digits", image_size=16)

    @functools.cached_property
    def train_ds(self):
        return self._digits.train(batch_size=32, seed=0)

    @functools.cached_property
    def eval_ds(self):
        return self._digits.evaluation(batch_size=32)

    @functools.cached_property
    def images(self):
        return next(iter(self.eval_ds))[0].numpy()

    @functools.cached_property
    def labels(self):
        return next(iter(self.eval_ds))[1].numpy()

    @functools.cached_property
    def loss(self):
        return self.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @functools.cached_property
    def float_model(self):
        from networks import small_network

        return small_network()

    @functools.cached_property
    def search(self):
        return self.mmx_tf.augment(self.float_model, bit_widths=(8, 4, 3), target_average_bits=4)

    @functools.cached_property
    def selection(self):
        return self.search.bit_selection()

    @functools.cached_property
    def fixed(self):
        fixed = self.mmx_tf.rebuild(self.search, self.selection)
        fixed(self.images, training=True)  # the first batch sets the step sizes
        return fixed

    @functools.cached_property
    def folded(self):
        return self.mmx_tf.fold(self.fixed)

    @functools.cached_property
    def data(self):
        return self.mmx_tf.convert(self.folded)


def files(workplace: Workplace):
    """Writes the files that examples name into the workplace's folder."""
    import keras as keras3
    from matplotlib import image

    folder, network = workplace.folder, workplace.float_model
    network.save(folder / "float.keras")
    network.save(folder / "network.h5")
    network.save(folder / "exported", save_format="tf")
    keras3.Sequential([keras3.Input((4,)), keras3.layers.Dense(10)]).save(folder / "classifier.keras")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 49, 10, 1)).astype(np.float32)
    np.savez(folder / "keywords.npz", x=x, y=np.arange(24) % 12)
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        for count in range(4):
            image.imsave(folder / "photos" / name / f"{count}.png", rng.random((8, 8, 3)))
    workplace.selection.save(folder / "bit_selection.json")
