"""Which of several ways a program stores its tensors: the one that takes the fewest bytes."""

import compiled_network
from small_files import SAME, Net, options, random_codes

from mmx_tf.export.c_source import c_source, storing
from mmx_tf.export.c_source.lowering import Lowering
from mmx_tf.export.c_source.planning import plan_of
from mmx_tf.export.c_source.unpacked_graph import unpacked_graph
from mmx_tf.export.writing.flatbuffer import schema

SIZE = 12
WIDE, NARROW = SIZE * SIZE * 8, SIZE * SIZE * 8 // 2
"""Bytes of 12x12x8 codes of 8 bits, and of 4."""


class Residual(Net):
    """Convolutions and sums of 12x12x8, whose tensors are named after what makes them."""

    def __init__(self):
        super().__init__(0)
        self.image = self.input("image", (SIZE, SIZE, 1), scale=0.05, zero_point=0)
        self.one = self.constant("one", self.rng.integers(1, 2, 1), schema.TensorType.INT8, scales=[1.0])

    def conv(self, name, source, channels=(8, 8), taps=3, scale=0.05):
        """8-bit codes."""
        shape = (channels[1], taps, taps, channels[0])
        weights, bias, scales = self.weights(name, shape, axis=0, source_scale=scale, bits=4)
        target = self.tensor(name, (SIZE, SIZE, channels[1]), scale=scale * float(scales.mean()) * 40)
        fields = {"padding": SAME, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
        inputs = [source, weights, bias]
        return self.operator("CONV_2D", inputs, target, options=options("Conv2D", **fields), version=3)

    def add(self, name, left, right, channels=8):
        """8-bit codes."""
        target = self.tensor(name, (SIZE, SIZE, channels), scale=0.05)
        return self.operator("ADD", [left, right], target, options=options("Add"), version=2)

    def four_bits(self, name, source, scale=0.2):
        """Codes -128..-113 of a tensor, which a layer of few bits reads."""
        grid = {"scale": scale, "zero_point": 112}
        upper = self.tensor(f"{name}/upper", (SIZE, SIZE, 8), **grid)
        self.operator("MUL", [source, self.one], upper, options=options("Mul"), version=2)
        lower = self.tensor(name, (SIZE, SIZE, 8), scale=scale, zero_point=-128)
        return self.operator("QUANTIZE", [upper], lower, options=options("Quantize"), version=2)

    def images(self):
        return {"image": random_codes(self.rng, (3, SIZE, SIZE, 1))}


def two_readers(*, equal):
    """A sum that two convolutions read, on equal 4-bit grids or on two."""
    net = Residual()
    stem = net.conv("stem", net.image, (1, 8))
    total = net.add("total", stem, net.conv("inner", net.conv("squeezed", stem, (8, 2)), (2, 8)))
    first = net.four_bits("first", total)
    second = first if equal else net.four_bits("second", total, scale=0.15)
    left = net.conv("left", first, (8, 4), scale=0.2)
    right = net.conv("right", second, (8, 4), taps=1, scale=0.2)
    return net, net.finish(net.add("end", left, right, 4))


def usual_bytes(data):
    program = storing.usual(Lowering(unpacked_graph(data)), (2, 4, 8))
    return plan_of(program).bytes


@compiled_network.needed
def test_a_sum_with_one_view_is_stored_whole_where_that_takes_less(tmp_path):
    net, data = two_readers(equal=True)
    made = compiled_network.assert_exact(tmp_path, data, net.images())
    # Narrow, it stands beside the stem and is written into its convolution's input: that begins 340 bytes
    # behind, as for the last row 576 are written and bytes from 239 on are read. There are two columns of 18
    # codes in groups of 8. Whole, it is written over the stem; the fullest step is then the one before, with
    # columns of 72.
    squeezed = SIZE * SIZE * 2
    assert usual_bytes(data) == WIDE + 340 + squeezed + 2 * 24
    assert made.ram_bytes == WIDE + squeezed + 2 * 72
    steps = {step.output.name: step for step in made.program.steps}
    assert steps["total"].kind == "conv" and steps["first"].kind == "map"
    assert made.plan.in_place == {"total": "stem", "first": "total", "end": "left"}


def test_equal_grids_take_no_more_than_different_ones():
    equal, different = (two_readers(equal=equal)[1] for equal in (True, False))
    assert usual_bytes(equal) > c_source(different).ram_bytes >= c_source(equal).ram_bytes


def test_a_sum_that_is_not_written_over_another_is_stored_narrow():
    net = Residual()
    stem = net.conv("stem", net.image, (1, 8))
    total = net.add("total", stem, net.conv("inner", stem))
    left = net.conv("left", net.four_bits("first", total), scale=0.2)
    # The stem is read once more, so that the sum has a place of its own whatever it is stored in.
    data = net.finish(net.add("end", stem, left))
    made = c_source(data)
    assert "total" not in made.plan.offsets and made.ram_bytes == usual_bytes(data)


@compiled_network.needed
def test_codes_that_are_stored_for_one_reader_are_looked_up_by_another(tmp_path):
    net = Residual()
    total = net.conv("total", net.image, (1, 8))
    narrow = net.four_bits("narrow", total)
    inner = net.conv("inner", narrow, scale=0.2)
    end = net.add("end", total, inner)
    late = net.conv("late", net.four_bits("of_end", end, 0.3), (8, 2), scale=0.3)
    data = net.finish(net.add("sum", late, net.conv("again", narrow, (8, 2), scale=0.2), 2))
    made = compiled_network.assert_exact(tmp_path, data, net.images())
    # There is no narrow copy of it beside the wide sum while "late" is computed.
    assert made.ram_bytes < usual_bytes(data)
    assert [step.output.name for step in made.program.steps if step.kind == "map"][-1] == "narrow"


def test_int8_activations_know_one_way_alone():
    lowering = Lowering(unpacked_graph(two_readers(equal=True)[1]), packed=False)
    assert not {way.what for way in lowering.program().other_ways} & {"store whole"}


@compiled_network.needed
def test_windows_are_written_into_their_input(tmp_path):
    net = Residual()
    first = net.conv("first", net.image, (1, 8))
    data = net.finish(net.conv("second", first))
    made = compiled_network.assert_exact(tmp_path, data, net.images())
    # Rows of 96 bytes: with row 10 and a pixel 1064 are written, and bytes from 863 on are read.
    assert made.ram_bytes == WIDE + 204 + 2 * 72
    assert made.plan.into["second"] == "first"
    assert made.plan.offsets["first"] == made.plan.offsets["second"] + 204
    # A row less, and it is overtaken.
    start = made.plan.offsets["first"]
    places = f"arena + {start},", f"arena + {start - 96},"
    made.files["net.c"] = made.files["net.c"].replace(*places)
    (codes, tensors), _ = compiled_network.differing(tmp_path / "wrong", made, net.images())
    assert codes and tensors


@compiled_network.needed
def test_sums_of_a_window_and_its_input_are_not_written_into_it(tmp_path):
    net = Residual()
    stem = net.conv("stem", net.image, (1, 8))
    data = net.finish(net.add("sum", stem, net.conv("inner", stem)))
    made = compiled_network.assert_exact(tmp_path, data, net.images())
    assert "sum" not in made.plan.into and "sum" not in made.plan.in_place
