"""Pixels as input codes: the grid by hand, and a file that takes a camera's bytes."""

import numpy as np
import pytest
import tf_keras as keras
from listening import logged

import mmx_tf
from mmx_tf.data.dataset import PIXEL_SCALING
from mmx_tf.export.running.litert import run
from mmx_tf.layers.quantizers.pixels import PixelQuantizer, QuantizePixels, zero_point_of

PIXELS = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize(
    ("scale", "offset", "zero_point"),
    [(1 / 127.5, -1.0, 128), (1 / 255, 0.0, 0), (1 / 128, -1.0, 128), (1.0, -127.5, 128), (0.017, -2.1, 124)],
)
def test_every_pixel_is_its_own_code(scale, offset, zero_point):
    images = (PIXELS.astype(np.float32) * np.float32(scale) + np.float32(offset)).reshape(1, 16, 16, 1)
    assert zero_point_of(scale=scale, offset=offset) == zero_point
    quantizer = PixelQuantizer(scale=scale, offset=offset)
    expected = (PIXELS.astype(float) - zero_point) * scale
    np.testing.assert_allclose(quantizer(images).numpy().ravel(), expected, rtol=1e-6)
    # Less than half a pixel and the tolerance from what the network was trained on.
    assert np.abs(expected - images.ravel()).max() <= 0.501 * scale
    codes = QuantizePixels(scale=scale, offset=offset)(images).numpy().ravel()
    np.testing.assert_array_equal(codes, PIXELS.astype(int) - 128)
    grid = quantizer.grid
    np.testing.assert_allclose((codes - grid.zero_point) * grid.scale, expected, rtol=1e-6)


def test_zero_is_zero_and_what_is_beyond_is_clipped():
    quantizer = PixelQuantizer(scale=1 / 127.5, offset=-1.0)
    # 0 is half-way between two pixels; a padding of zeros must stay zero.
    found = quantizer(np.float32([[0.0, 1e-6, -1e-6, -7.0, 7.0]])).numpy()[0] * 127.5
    np.testing.assert_allclose(found, [0, 0, 0, -128, 127], atol=1e-4)


def test_config_round_trip():
    for layer in (PixelQuantizer(scale=0.5, offset=-3.0), QuantizePixels(scale=0.5, offset=-3.0)):
        again = type(layer).from_config(layer.get_config())
        assert (again.scale, again.offset) == (0.5, -3.0)


@pytest.mark.parametrize(
    ("scale", "offset", "message"),
    [(0.0, 0.0, "scale is 0.0"), (1.0, 3.0, "would be pixel -3"), (1 / 255, -2.0, "would be pixel 510")],
)
def test_grids_without_a_zero_are_refused(scale, offset, message):
    with pytest.raises(ValueError, match=message):
        PixelQuantizer(scale=scale, offset=offset)


def network(*front):
    """A small network behind the layers `front`."""
    inputs = keras.Input((16, 16, 1), name="image")
    x = inputs
    for layer in front:
        x = layer(x)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(x)
    x = keras.layers.Conv2D(4, 3, activation="relu", name="middle")(x)
    return keras.Model(
        inputs, keras.layers.Dense(10, name="logits")(keras.layers.GlobalAveragePooling2D()(x))
    )


def pixels_of(digits):
    images = np.concatenate([images for images, _ in digits.evaluation(batch_size=90)])
    return images, np.rint((images + 1) * 127.5).astype(np.uint8)


def exported(float_model, images, scaling, **options):
    search = mmx_tf.augment(float_model, bit_widths=(8, 4), pixel_scaling=scaling, **options)
    search(images[:64], branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([1]))
    fixed(images[:64])
    return mmx_tf.fold(fixed), search


@pytest.mark.parametrize("padded", [False, True])
def test_the_file_takes_the_bytes_of_a_camera(digits, padded):
    images, pixels = pixels_of(digits)
    front = [keras.layers.ZeroPadding2D(1)] if padded else []
    folded, search = exported(network(*front), images, PIXEL_SCALING)
    assert isinstance(search.end_quantizers["first"], PixelQuantizer)
    logits = folded.predict(images, verbose=0)
    found = run(mmx_tf.convert(folded, output_type="float32"), {"image": pixels})
    np.testing.assert_array_equal(next(iter(found.values())), logits)
    signed = (pixels.astype(int) - 128).astype(np.int8)
    found = run(mmx_tf.convert(folded, input_type="int8", output_type="float32"), {"image": signed})
    np.testing.assert_array_equal(next(iter(found.values())), logits)
    report = mmx_tf.verify(folded, mmx_tf.convert(folded), digits.evaluation(batch_size=90))
    assert report.code_disagreement == 0 and not any(tensor.differing for tensor in report.tensors)
    with pytest.raises(ValueError, match="pixels, whose grid no float32 image has"):
        mmx_tf.convert(folded, input_type="float32")


def test_images_of_another_scale_are_told_when_a_file_is_verified(digits):
    images, pixels = pixels_of(digits)
    labels = np.zeros(len(images))
    folded, _ = exported(network(), images, PIXEL_SCALING)
    file = mmx_tf.convert(folded)
    with logged() as lines:
        mmx_tf.verify(folded, file, [(images, labels)], traced_images=0)
        assert not lines
        mmx_tf.verify(folded, file, [(pixels.astype(np.float32), labels)], traced_images=0)
    (line,) = lines
    assert line.startswith("images go from 0 to 255, but pixel_scaling=(0.00784314, -1) makes pixels -1 to 1")
    rescaled, _ = exported(network(keras.layers.Rescaling(1 / 127.5, -1.0)), pixels, (1.0, 0.0))
    with logged() as lines:
        mmx_tf.verify(rescaled, mmx_tf.convert(rescaled), [(pixels, labels)], traced_images=0)
    assert not lines


def test_a_rescaling_of_the_network_is_taken_into_account(digits):
    _, pixels = pixels_of(digits)
    rescaled = network(keras.layers.Rescaling(1 / 127.5, offset=-1.0))
    folded, search = exported(rescaled, pixels.astype(np.float32), (1.0, 0.0))
    quantizer = search.end_quantizers["first"]
    assert (quantizer.scale, quantizer.offset) == pytest.approx(PIXEL_SCALING)
    found = run(mmx_tf.convert(folded, output_type="float32"), {"image": pixels})
    logits = folded.predict(pixels.astype(np.float32), verbose=0)
    np.testing.assert_array_equal(next(iter(found.values())), logits)


def test_search_and_fixed_networks_save_and_load(digits, tmp_path):
    images, _ = pixels_of(digits)
    _, search = exported(network(), images, PIXEL_SCALING)
    search.save(tmp_path / "search.keras")
    loaded = mmx_tf.load_model(tmp_path / "search.keras")
    np.testing.assert_array_equal(
        loaded.predict(images[:8], verbose=0), search.predict(images[:8], verbose=0)
    )
    fixed = mmx_tf.rebuild(loaded, loaded.selection_of([1]))
    fixed(images[:64])
    fixed.save(tmp_path / "fixed.keras")
    again = mmx_tf.load_model(tmp_path / "fixed.keras")
    np.testing.assert_array_equal(again.predict(images[:8], verbose=0), fixed.predict(images[:8], verbose=0))


@pytest.mark.parametrize(
    ("front", "options"),
    [
        ([keras.layers.MaxPooling2D()], {}),
        ([keras.layers.Rescaling(2.0, offset=3.0)], {}),
        ([keras.layers.Rescaling([2.0], offset=0.0)], {}),
        ([keras.layers.ZeroPadding2D(), keras.layers.Normalization(mean=0.3, variance=0.2)], {}),
        ([], {"first_last_bits": 6}),
    ],
)
def test_where_the_first_layer_cannot_the_image_itself_has_the_grid_of_pixels(digits, front, options):
    images, pixels = pixels_of(digits)
    folded, search = exported(network(*front), images, PIXEL_SCALING, **options)
    assert not isinstance(search.end_quantizers["first"], PixelQuantizer)
    found = run(mmx_tf.convert(folded, output_type="float32"), {"image": pixels})
    np.testing.assert_array_equal(next(iter(found.values())), folded.predict(images, verbose=0))
    report = mmx_tf.verify(folded, mmx_tf.convert(folded), digits.evaluation(batch_size=90))
    assert not any(tensor.differing for tensor in report.tensors)


@pytest.mark.parametrize("scaling", [0.0078, (1 / 127.5,), ("a", 0), (1 / 255, [0.0]), (1, 2, 3)])
def test_a_scaling_that_is_no_pair_of_numbers_is_refused(scaling):
    with pytest.raises(ValueError, match=r"pixel_scaling=.*: give two numbers"):
        mmx_tf.augment(network(), bit_widths=(8, 4), pixel_scaling=scaling)


def test_pixels_may_be_joined_with_other_tensors(digits):
    images, pixels = pixels_of(digits)
    inputs = keras.Input((16, 16, 1), name="image")
    x = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="first")(inputs)
    x = keras.layers.Conv2D(4, 3, activation="relu", name="middle")(keras.layers.Concatenate()([x, inputs]))
    x = keras.layers.Dense(10, name="logits")(keras.layers.GlobalAveragePooling2D()(x))
    folded, _ = exported(keras.Model(inputs, x), images, PIXEL_SCALING)
    found = run(mmx_tf.convert(folded, output_type="float32"), {"image": pixels})
    np.testing.assert_array_equal(next(iter(found.values())), folded.predict(images, verbose=0))


def test_a_scaling_without_zero_among_the_pixels_is_refused():
    with pytest.raises(ValueError, match=r"pixel_scaling=\(0.1, 1.0\): .* would be pixel -10"):
        mmx_tf.augment(network(), bit_widths=(8, 4), pixel_scaling=(0.1, 1.0))
