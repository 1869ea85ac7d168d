"""Networks that scale pixels of 0 to 255 themselves: a warning where a run would scale them before."""

import numpy as np
import pytest
import tf_keras as keras
from listening import logged

from mmx_tf.checking.network import check_network
from mmx_tf.checking.text import text
from mmx_tf.data.loading import of_recipe
from mmx_tf.folding.pixels import takes_bytes
from mmx_tf.network.canonical import canonicalize
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run.float_network import load_or_build

L = keras.layers


def network(*first, channels=1):
    return keras.Sequential(
        [
            keras.Input((8, 8, channels)),
            *first,
            L.Conv2D(2, 3, activation="relu"),
            L.Conv2D(2, 3),
            L.Flatten(),
            L.Dense(10),
        ]
    )


@pytest.mark.parametrize(
    "first, found",
    [
        ([L.Rescaling(1 / 255, name="to_one")], "to_one"),
        ([L.Rescaling(1 / 127.5, -1, name="symmetric")], "symmetric"),
        # (pixel - 120) / 60 and so on, channel by channel.
        (
            [L.Normalization(mean=[120.0, 110.0, 100.0], variance=[60.0**2] * 3, name="standard")],
            "standard",
        ),
        # Of images in [0, 1] and [-1, 1], and none at all.
        ([L.Normalization(mean=[0.5] * 3, variance=[0.25**2] * 3)], ""),
        ([L.Rescaling(0.5, 0.5)], ""),
        ([], ""),
        # Not of the image itself.
        ([L.Conv2D(3, 3), L.Rescaling(1 / 255)], ""),
        ([L.Rescaling(1.0), L.Rescaling(1 / 255, name="second")], "second"),
    ],
)
def test_which_networks_take_pixels_of_0_to_255(first, found):
    assert takes_bytes(canonicalize(network(*first, channels=3))) == found


def test_a_run_warns_unless_the_scaling_is_given_or_the_images_are_no_pixels(tmp_path):
    network(L.Rescaling(1 / 255, name="own")).save(tmp_path / "own.keras")
    network().save(tmp_path / "plain.keras")
    images = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1))
    for name, x in (("bytes", images.astype(np.uint8)), ("floats", images.astype(np.float32))):
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.arange(100) % 10)
    cases = {
        ("own", "bytes", ""): True,
        ("own", "bytes", "--pixel_scaling=1,0"): False,
        ("own", "floats", ""): False,
        ("plain", "bytes", ""): False,
    }
    for (model, data, flag), warned in cases.items():
        lines = [f"--float_model={tmp_path / model}.keras", f"--dataset=npz:{tmp_path / data}.npz", flag]
        recipe = Recipe.from_flagfile("\n".join(lines))
        data = of_recipe(recipe)
        with logged() as said:
            load_or_build(recipe, data)
        words = "own.keras scales pixels of 0 to 255 itself (layer 'own'), but is given pixel / 127.5 - 1"
        assert sum(words in line and "--pixel_scaling=1,0" in line for line in said) == warned


def test_check_names_the_flag():
    said = text(check_network(network(L.Rescaling(1 / 255, name="own"))))
    assert "It scales pixels of 0 to 255 itself (layer 'own'): train it with --pixel_scaling=1,0" in said
    assert "--pixel_scaling" not in text(check_network(network()))
