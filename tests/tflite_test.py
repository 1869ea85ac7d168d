"""The .tflite of a whole network: every code of every layer equal, and the properties of the file."""

import numpy as np
import pytest
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from metadata_buffers import read_metadata
from sklearn.datasets import load_sample_image

from mmx_tf.export.atomic import write_atomically
from mmx_tf.export.running.litert import run
from mmx_tf.export.running.partitions import Delegation, delegated_ops
from mmx_tf.export.writing.flatbuffer import packed
from mmx_tf.export.writing.tflite import convert
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.layers import (
    Dequantize,
    IntegerAdd,
    IntegerMean,
    IntegerRequantize,
    IntegerRescale,
    QuantizeInput,
)
from mmx_tf.layers.integer.weighted import IntegerConv2D, IntegerDense, IntegerDepthwiseConv2D, finer_codes


class Builder:
    """Builds a MobileNet-v2-like folded model; scales come from `images`, so that codes use their range."""

    def __init__(self, images, seed):
        self.rng, self.images = np.random.default_rng(seed), images
        self.input = keras.Input(images.shape[1:], name="image")

    def spread(self, tensor, grid):
        """Standard deviation of a code tensor, in real units."""
        codes = keras.Model(self.input, tensor)(self.images[:16]).numpy()
        return float(np.std(codes) + 1) * grid.scale

    def unsigned(self, spread, bits):
        highest = 2**bits - 1
        return Grid.low_bit(step_size=spread * self.rng.uniform(2, 4) / highest, highest_code=highest)

    def carrier(self, spread):
        return Grid(spread * self.rng.uniform(3, 4) / 127, int(self.rng.integers(-5, 6)))

    def weighted(self, cls, tensor, grid, shape, channels, *, bits, activation, name, **window):
        """A convolution or dense into `bits` unsigned codes, or into an 8-bit carrier if bits is None."""
        highest = 7 if name not in ("stem", "logits") else 127
        codes = np.clip(np.rint(self.rng.normal(0, highest / 2, shape)), -highest, highest).astype(int)
        gains = np.exp(self.rng.uniform(-0.5, 0.5, 1 if cls is IntegerDense else channels))
        scales = (gains / (np.sqrt(np.prod(shape) / channels) * np.std(codes))).astype(np.float32)
        if highest == 7:
            codes, scales = finer_codes(codes, scales, bits=4)
        spread = self.spread(tensor, grid)
        target = self.carrier(spread) if bits is None else self.unsigned(spread, bits)
        bias = np.rint(self.rng.normal(0, spread / 4, channels) / (grid.scale * scales)).astype(int)
        layer = cls(
            weight_codes=codes,
            weight_scales=scales,
            bias_codes=bias,
            input_grid=grid,
            output_grid=target,
            activation=activation,
            name=name,
            **window,
        )
        return layer(tensor), target

    def signed(self, tensor, grid, bits, name):
        """A carrier requantized to symmetric low-bit codes: upper clip, then lower clip."""
        highest = 2 ** (bits - 1) - 1
        step = self.spread(tensor, grid) * self.rng.uniform(1.5, 2.5) / highest
        upper = Grid.low_bit(step_size=step, highest_code=highest)
        lower = Grid.lower_clip(step_size=step, lowest_code=-highest)
        tensor = IntegerRescale(input_grid=grid, output_grid=upper, name=f"{name}_upper")(tensor)
        return IntegerRequantize(input_grid=upper, output_grid=lower, name=f"{name}_lower")(tensor), lower

    def block(self, tensor, grid, channels, filters, *, bits, strides, name):
        """Inverted residual: carrier in, carrier out."""
        wide = 4 * channels
        arguments = {"activation": "relu6", "padding": "same"}
        x, g = self.signed(tensor, grid, bits[0], name)
        x, g = self.weighted(
            IntegerConv2D,
            x,
            g,
            (1, 1, channels, wide),
            wide,
            bits=bits[1],
            name=f"{name}_expand",
            **arguments,
        )
        window = {**arguments, "strides": strides}
        shape = (3, 3, wide, 1)
        x, g = self.weighted(
            IntegerDepthwiseConv2D, x, g, shape, wide, bits=bits[2], name=f"{name}_dw", **window
        )
        x, g = self.weighted(
            IntegerConv2D,
            x,
            g,
            (1, 1, wide, filters),
            filters,
            bits=None,
            activation="linear",
            name=f"{name}_project",
        )
        if strides == 1 and channels == filters:
            total = self.carrier(max(self.spread(x, g), self.spread(tensor, grid)) * 1.4)
            x, g = (
                IntegerAdd(input_grids=(grid, g), output_grid=total, name=f"{name}_add")([tensor, x]),
                total,
            )
        return x, g

    def build(self):
        grid = Grid(2 / 255 * 1.0078, -1)
        x = QuantizeInput(output_grid=grid, name="codes")(self.input)
        stem = {"strides": 2, "padding": "same", "activation": "relu6", "name": "stem"}
        x, grid = self.weighted(IntegerConv2D, x, grid, (3, 3, 3, 12), 12, bits=8, **stem)
        x, grid = self.block(x, grid, 12, 12, bits=(4, 3, 4), strides=1, name="block1")
        x, grid = self.block(x, grid, 12, 20, bits=(3, 4, 8), strides=2, name="block2")
        x, grid = self.block(x, grid, 20, 20, bits=(8, 4, 3), strides=1, name="block3")
        x, grid = self.weighted(
            IntegerConv2D, x, grid, (1, 1, 20, 40), 40, bits=4, activation="relu6", name="head"
        )
        pooled = Grid(grid.scale * 0.3171, -128)
        x = IntegerMean(input_grid=grid, output_grid=pooled, name="pool")(x)
        x, grid = self.weighted(
            IntegerDense, x, pooled, (40, 10), 10, bits=None, activation="linear", name="logits"
        )
        return keras.Model(self.input, Dequantize(input_grid=grid, name="scores")(x))


@pytest.fixture(scope="module")
def images():
    """256 crops of 32x32 pixels from a photograph, in -1..1."""
    photo, rng = load_sample_image("china.jpg"), np.random.default_rng(0)
    corners = zip(
        rng.integers(0, photo.shape[0] - 32, 256), rng.integers(0, photo.shape[1] - 32, 256), strict=True
    )
    crops = [photo[top : top + 32, left : left + 32] for top, left in corners]
    return np.stack(crops).astype(np.float32) / 127.5 - 1


@pytest.fixture(scope="module")
def network(images):
    return Builder(images, seed=11).build()


def test_network_equals_litert_in_every_code_of_every_layer(network, images):
    layers = [layer for layer in network.layers[1:] if not isinstance(layer, Dequantize)]
    every_layer = keras.Model(network.inputs, [layer.output for layer in layers])
    wanted = dict(zip([layer.name for layer in layers], every_layer.predict(images, verbose=0), strict=True))
    codes = network.get_layer("codes").output_grid.quantize(images)
    np.testing.assert_array_equal(codes, wanted.pop("codes"))

    truncated = keras.Model(network.inputs, [layer.output for layer in layers[1:]])
    got = run(convert(truncated, input_type="int8"), {"image": codes})
    assert set(got) == set(wanted)
    for name, want in wanted.items():
        assert np.ptp(want) > 3 and np.count_nonzero(got[name] != want) == 0, name

    data = convert(network, input_type="int8")
    assert delegated_ops(data) == Delegation(1, ())
    np.testing.assert_array_equal(run(data, {"image": codes})["logits"], wanted["logits"])


def test_low_bit_tensors_hold_at_most_their_codes(network, images):
    def count(name):
        return len(np.unique(keras.Model(network.inputs, network.get_layer(name).output)(images[:32])))

    # Signed 3-bit, then unsigned 3- and 4-bit.
    assert count("block2_lower") == 7
    assert 4 < count("block1_expand") <= 8 and 8 < count("block1_dw") <= 16


def test_input_and_output_types_agree(network, images):
    grid, scores = network.get_layer("codes").output_grid, network.predict(images, verbose=0)
    codes = grid.quantize(images)
    pixels = (codes.astype(np.int16) + 128).astype(np.uint8)
    inputs = {"int8": codes, "uint8": pixels, "float32": images}
    for input_type, value in inputs.items():
        data = convert(network, input_type=input_type, output_type="float32")
        np.testing.assert_array_equal(run(data, {"image": value})["scores"], scores)
        outside = delegated_ops(data).left_outside
        assert delegated_ops(data).partitions == 1
        # The shift from uint8 to int8 is the only operator that XNNPACK leaves to the builtin kernels.
        assert outside == (((0, "QUANTIZE"),) if input_type == "uint8" else ())


def test_network_survives_saving(network, images, tmp_path):
    network.save(tmp_path / "folded.keras")
    loaded = keras.models.load_model(tmp_path / "folded.keras")
    np.testing.assert_array_equal(
        loaded.predict(images[:8], verbose=0), network.predict(images[:8], verbose=0)
    )
    assert convert(loaded) == convert(network)


def test_file_has_names_signature_batch_and_metadata(network):
    data = convert(network, metadata={"mmx_tf": b'{"bits": 4}', "empty": b""})
    assert read_metadata(data) == {"mmx_tf": b'{"bits": 4}', "empty": b""}
    interpreter = Interpreter(model_content=data)
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["logits"]}
    }
    (detail,) = interpreter.get_input_details()
    assert detail["shape"].tolist() == [1, 32, 32, 3] and detail["shape_signature"].tolist() == [
        -1,
        32,
        32,
        3,
    ]
    tensors = {detail["name"]: detail for detail in interpreter.get_tensor_details()}
    assert {"block1_add", "block1_expand/weights", "logits/bias"} <= set(tensors)
    assert tensors["block1_dw/weights"]["quantization_parameters"]["quantized_dimension"] == 3
    assert not [name for name, detail in tensors.items() if detail["dtype"] == np.float32]


def test_packing_puts_the_first_code_in_the_lowest_bits():
    assert packed([1, -1, 7], bits=4) == bytes([0xF1, 0x07])
    assert packed([1, -1, 0, -2, 1], bits=2) == bytes([0b10_00_11_01, 0b01])
    for bits, code in ((4, 8), (4, -9), (2, 2), (2, -3)):
        with pytest.raises(ValueError, match=f"int{bits} holds"):
            packed([code], bits=bits)


def test_convert_refuses_what_it_cannot_write(network):
    with pytest.raises(ValueError, match="float16"):
        convert(network, input_type="float16")
    image = keras.Input((4,))
    with pytest.raises(TypeError, match="Dense"):
        convert(keras.Model(image, keras.layers.Dense(2)(QuantizeInput(output_grid=Grid(1.0, 0))(image))))


def test_write_atomically_replaces_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "model.tflite"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError):
        write_atomically(tmp_path / "missing" / "model.tflite", b"x")
