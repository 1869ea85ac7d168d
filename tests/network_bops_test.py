"""BOPs of MobileNet-v3 and ResNet-18 by arithmetic on their published tables, and the paper's figures."""

import functools

import pytest

from mmx_tf import models
from mmx_tf.budget.bops import layer_costs, uniform_bops
from mmx_tf.metamix.selection import BitSelection, LayerSelection
from mmx_tf.network.canonical import canonicalize

pytestmark = pytest.mark.broad

RESNET_18 = {
    # 112x112 places, 7x7x3 taps, 64 filters
    "conv1_conv": 112 * 112 * 7 * 7 * 3 * 64,
    # 56x56 places, 3x3x64 taps, 64 filters; half the places and twice the channels from stage to stage
    **{f"conv{stage}_block{block}_{conv}_conv": 56 * 56 * 9 * 64 * 64
       for stage in (2, 3, 4, 5) for block in (1, 2) for conv in (1, 2)},
    # the first of a stage has half the channels in
    **{f"conv{stage}_block1_1_conv": 28 * 28 * 9 * 64 * 128 for stage in (3, 4, 5)},
    **{f"conv{stage}_block1_0_conv": 28 * 28 * 64 * 128 for stage in (3, 4, 5)},
    "predictions": 512 * 1000,
}  # fmt: skip

# Table 1 of the MobileNet-v3 paper: pixels of a side in and out, filter, channels in, expanded and out, and
# the channels that squeeze-excite squeezes to.
MOBILENET_V3_BLOCKS = [
    (112, 112, 3, 16, 16, 16, 0), (112, 56, 3, 16, 64, 24, 0), (56, 56, 3, 24, 72, 24, 0),
    (56, 28, 5, 24, 72, 40, 24), (28, 28, 5, 40, 120, 40, 32), (28, 28, 5, 40, 120, 40, 32),
    (28, 14, 3, 40, 240, 80, 0), (14, 14, 3, 80, 200, 80, 0), (14, 14, 3, 80, 184, 80, 0),
    (14, 14, 3, 80, 184, 80, 0), (14, 14, 3, 80, 480, 112, 120), (14, 14, 3, 112, 672, 112, 168),
    (14, 7, 5, 112, 672, 160, 168), (7, 7, 5, 160, 960, 160, 240), (7, 7, 5, 160, 960, 160, 240),
]  # fmt: skip

PAPER_FIGURES = {
    "PROFIT-dagger, MobileNet-v2": 5394053120,
    "PROFIT-dagger, MobileNet-v3": 3786988544,
    "PROFIT, MobileNet-v3": 4827438080,
    "MetaMix, ResNet-18, 32.86 GBOPs": 32864731136,
    "MetaMix, ResNet-18, 35.64 GBOPs": 35639263232,
}


def mobilenet_v3_macs():
    macs = [112 * 112 * 27 * 16]
    for index, (before, after, size, inputs, expanded, outputs, squeezed) in enumerate(MOBILENET_V3_BLOCKS):
        macs += [before**2 * inputs * expanded] if index else []
        macs += [after**2 * size**2 * expanded] + [expanded * squeezed] * 2 * bool(squeezed)
        macs += [after**2 * expanded * outputs]
    return [*macs, 49 * 160 * 960, 960 * 1280, 1280 * 1000]


@functools.cache
def costs_of(name):
    """Of a built-in network, looked at once: that takes as long as all tests of its numbers."""
    return tuple(layer_costs(canonicalize(models.build(name, input_shape=(224, 224, 3), num_classes=1000))))


def test_resnet18_layer_by_layer():
    costs = costs_of("resnet18")
    assert {cost.name: cost.macs for cost in costs} == RESNET_18
    assert [cost.name for cost in costs if cost.end] == ["conv1_conv", "predictions"]
    assert sum(cost.macs for cost in costs) == 1814073344
    # Of the input of a shortcut, all elements count: a stride leaves places out, not a quantizer.
    elements = {cost.name: cost.input_elements for cost in costs}
    assert elements["conv3_block1_0_conv"] == elements["conv3_block1_1_conv"] == 56 * 56 * 64
    assert elements["conv2_block1_1_conv"] == 56 * 56 * 64 and elements["conv1_conv"] == 224 * 224 * 3


def test_mobilenet_v3_layer_by_layer():
    costs = costs_of("mobilenet_v3_large")
    assert [cost.macs for cost in costs] == mobilenet_v3_macs()
    assert sum(cost.macs for cost in costs) == 216589760
    assert [cost.name for cost in costs if cost.end] == ["Conv", "Logits"]
    squeeze = [cost for cost in costs if cost.name == "expanded_conv_3/squeeze_excite/Conv_1"]
    assert [(cost.kind, cost.macs, cost.input_elements) for cost in squeeze] == [("conv", 24 * 72, 24)]


@pytest.mark.parametrize(
    ("name", "weight_bits", "activation_bits", "bops"),
    [
        ("mobilenet_v3_large", 4, 4, PAPER_FIGURES["PROFIT-dagger, MobileNet-v3"]),
        ("mobilenet_v3_large", 8, 8, 13861744640),
        ("mobilenet_v3_large", 3, 4, 2947425536),
        ("resnet18", 4, 4, 34714419200),
        ("resnet18", 8, 8, 116100694016),
        ("resnet18", 2, 2, 14367850496),
    ],
)
def test_totals_of_other_networks(name, weight_bits, activation_bits, bops):
    assert uniform_bops(costs_of(name), weight_bits, activation_bits) == bops
    macs = mobilenet_v3_macs() if name == "mobilenet_v3_large" else list(RESNET_18.values())
    ends = (112 * 112 * 27 * 16 + 1280 * 1000) if name == "mobilenet_v3_large" else 118013952 + 512000
    assert bops == ends * 64 + (sum(macs) - ends) * weight_bits * activation_bits


def test_profit_keeps_the_image_in_full_precision():
    """Figure 5b, 4.83 GBOPs: as 4/4 bits, but 32 instead of 8 activation bits in the first layer."""
    first = 112 * 112 * 27 * 16
    found = uniform_bops(costs_of("mobilenet_v3_large"), 4, 4) + first * 8 * (32 - 8)
    assert found == PAPER_FIGURES["PROFIT, MobileNet-v3"]


@pytest.mark.parametrize(
    ("bits", "figure", "by_elements"),
    [
        # Two layers with 2 bits less. Table 4 has 3.85 bits on average, which is the mean weighted by input
        # elements: 28*28*128 and 14*14*256 of 2032128 elements have 2 bits less.
        (
            {"conv3_block2_1_conv": 2, "conv4_block2_1_conv": 2},
            "MetaMix, ResNet-18, 32.86 GBOPs",
            4 - 2 * (100352 + 50176) / 2032128,
        ),
        # Figure 5c is met by one layer with 4 bits more and one with 2 less.
        ({"conv2_block1_1_conv": 8, "conv5_block2_2_conv": 2}, "MetaMix, ResNet-18, 35.64 GBOPs", None),
    ],
)
def test_metamix_selections_of_resnet18(bits, figure, by_elements):
    selection = selection_of(costs_of("resnet18"), bits)
    assert (
        selection.bops
        == PAPER_FIGURES[figure]
        == 34714419200 + sum(56 * 56 * 9 * 64 * 64 * 4 * (chosen - 4) for chosen in bits.values())
    )
    if by_elements:
        assert selection.average_bits["by_elements"] == pytest.approx(by_elements, abs=1e-12)
        assert round(by_elements, 2) == 3.85


def selection_of(costs, bits):
    """4-bit weights, 4-bit activations but for `bits`, 8 bits at the ends."""
    return BitSelection(
        (8, 4, 2),
        tuple(
            LayerSelection(
                cost.name, cost.kind, cost.macs,
                activation_bits=8 if cost.end else bits.get(cost.name, 4),
                weight_bits=8 if cost.end else 4,
                signed=False, input_elements=cost.input_elements, searched=not cost.end,
            )
            for cost in costs
        ),
    )  # fmt: skip


def test_the_networks_of_mlperf_tiny_have_the_operations_that_it_publishes():
    """12.5 and 7.49 million; the layers' own: output places * filters * (window * channels of the input)."""
    resnet = models.build("resnet8", input_shape=(32, 32, 3), num_classes=10)
    first = 32**2 * 16 * 27 + 2 * 32**2 * 16 * 144
    second = 16**2 * 32 * (144 + 288 + 16)
    third = 8**2 * 64 * (288 + 576 + 32)
    assert sum(cost.macs for cost in layer_costs(canonicalize(resnet))) == first + second + third + 64 * 10
    assert first + second + third + 640 == 12_501_632
    mobilenet = models.build("mobilenet_v1", input_shape=(96, 96, 3), num_classes=2, width=0.25)
    macs, channels, size = 48**2 * 8 * 27, 8, 48
    pairs = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    for filters, stride in pairs:
        size //= stride
        macs += size**2 * channels * (9 + filters)
        channels = filters
    assert sum(cost.macs for cost in layer_costs(canonicalize(mobilenet))) == macs + 256 * 2 == 7_489_664
