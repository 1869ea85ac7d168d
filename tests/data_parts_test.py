"""The parts of a batch that several processes read are, one behind the other, the batch of one process."""

import numpy as np
import pytest
import tensorflow as tf

from mmx_tf import data

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Images of 96 pixels, which are decoded in each epoch, in different sizes."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for number in range(40):
        path = folder / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (100 + number, 110, 3), np.uint8)
        path.write_bytes(tf.io.encode_png(pixels).numpy())
    return data.load(f"folder:{folder}", image_size=96)


@pytest.mark.parametrize("name", ["digits", "photographs"])
@pytest.mark.parametrize("skipped", [0, 1])
def test_parts_make_up_the_batch(name, skipped, request):
    dataset = request.getfixturevalue(name)
    options = {"batch_size": 12, "seed": 3, "skip_batches": skipped}
    whole = list(dataset.train(**options).take(2).as_numpy_iterator())
    parts = [
        list(dataset.train(**options, part=(index, 3)).take(2).as_numpy_iterator()) for index in range(3)
    ]
    for step, (images, labels) in enumerate(whole):
        own = [part[step] for part in parts]
        assert [len(found) for _, found in own] == [4, 4, 4]
        np.testing.assert_array_equal(np.concatenate([found for found, _ in own]), images)
        np.testing.assert_array_equal(np.concatenate([found for _, found in own]), labels)
