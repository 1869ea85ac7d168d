"""Networks with every activation, from augment to a file of equal codes; their floors; what is refused."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import calibrated, fine_tuned

import mmx_tf
from mmx_tf.export.comparing.certificate import certify
from mmx_tf.folding.fold import FoldError
from mmx_tf.folding.training_graph import fold_for_training
from mmx_tf.layers.activations import CURVES
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.softmax import IntegerSoftmax
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.slopes import EightBitPReLU
from mmx_tf.layers.quantizers.smooth_gates import Smooth
from mmx_tf.network import floors, graph
from mmx_tf.network.canonical import canonicalize

pytestmark = pytest.mark.broad

layers = keras.layers


def prelu(low=0.0, high=0.5, **options):
    return layers.PReLU(alpha_initializer=keras.initializers.RandomUniform(low, high, seed=1), **options)


def network_of(*activations):
    """Each activation behind a convolution and a batch norm."""
    keras.utils.set_random_seed(8)
    inputs = x = keras.Input((16, 16, 1))
    for index, activation in enumerate(activations):
        x = layers.Conv2D(6, 3, padding="same", name=f"conv{index}")(x)
        x = activation(layers.BatchNormalization(momentum=0.8, name=f"norm{index}")(x))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, activation="relu", name="last")(x))
    return keras.Model(inputs, layers.Dense(10, name="logits")(x))


def check_exact(fixed, digits, *, outside=()):
    """Folds and converts; every code of every tensor is the file's -> the folded network."""
    folded = mmx_tf.fold(fixed)
    data = mmx_tf.convert(folded, input_type="int8")
    report = mmx_tf.verify(folded, data, digits.evaluation(batch_size=90))
    assert [tensor for tensor in report.tensors if tensor.differing] == []
    assert report.code_disagreement == 0.0 and report.eval_images == 360
    assert tuple(kind for _, kind in report.left_outside) == outside
    assert report.partitions == 1 + len(outside)
    runtimes = certify(folded, data, digits.evaluation(batch_size=8), max_images=8).runtimes
    assert runtimes["xnnpack"].differing == 0
    for name, runtime in runtimes.items():
        unknown = [(operator.name, operator.kind) for operator in runtime.operators if not operator.rules]
        assert not unknown, f"{name}: {unknown}"
    return folded


BODIES = {
    "leaky": [layers.LeakyReLU(), lambda x: tf.nn.leaky_relu(x, 0.01), layers.Activation("leaky_relu")],
    "prelu": [prelu(shared_axes=[1, 2]), prelu(), prelu(shared_axes=[1, 2, 3])],
    "prelu of both signs": [prelu(-0.5, shared_axes=[1, 2]), prelu(-0.5)],
    "tanh and elu": [layers.Activation("tanh"), layers.ELU(), layers.ELU(0.5), tf.nn.elu],
    "gelu and softplus": [layers.Activation("gelu"), lambda x: tf.nn.gelu(x, True), tf.math.softplus],
    "products": [layers.Activation("mish"), layers.Activation("softsign"), layers.Activation("swish")],
    "selu and exponential": [layers.Activation("selu"), layers.Activation("exponential")],
    "maxima": [layers.ReLU(1.0), layers.ReLU(0.3, negative_slope=0.1)],
    "thresholds": [layers.ReLU(threshold=0.02), layers.ThresholdedReLU(0.01)],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", BODIES)
def test_training_and_the_file_have_the_codes_of_the_folded_network(digits, name):
    fixed = calibrated(network_of(*BODIES[name]), digits)
    folded = check_exact(fixed, digits)
    # The same statistics and biases in float: what is left is what the activations compute.
    trained = fold_for_training(fixed)
    images = next(iter(digits.evaluation(batch_size=90)))[0]
    steps = (trained(images) - folded(images)).numpy() / folded.layers[-1].input_grid.scale
    assert np.count_nonzero(np.abs(steps) > 0.5) == 0


@pytest.mark.parametrize(
    "softmax",
    [layers.Softmax(), layers.Activation("softmax"), tf.nn.softmax],
    ids=["layer", "name", "operator"],
)
def test_softmax_inside_of_a_network(digits, softmax):
    """The graph optimizer made a quotient of a product here, and of 3 codes other ones."""
    folded = check_exact(calibrated(network_of(softmax), digits), digits, outside=("SOFTMAX",))
    assert any(isinstance(layer, IntegerSoftmax) for layer in folded.layers)


def test_a_softmax_that_is_also_an_output_of_the_middle_is_left_out_at_the_end_alone(digits):
    inputs = keras.Input((16, 16, 1))
    gate = layers.Softmax(name="attention")(layers.Conv2D(4, 3, name="first")(inputs))
    x = layers.Multiply(name="gated")([gate, layers.Conv2D(4, 3, name="second")(inputs)])
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="third")(x))
    network = keras.Model(inputs, layers.Dense(10, activation="softmax", name="scores")(x))
    folded = check_exact(calibrated(network, digits), digits, outside=("SOFTMAX",))
    assert [type(layer).__name__ for layer in folded.layers].count("IntegerSoftmax") == 1


@pytest.mark.slow
def test_training_keeps_the_codes_equal_and_moves_the_slopes(digits):
    network = network_of(layers.LeakyReLU(0.1), prelu(shared_axes=[1, 2]), layers.Activation("tanh"))
    fixed = fine_tuned(network, digits, steps=3)
    (trained,) = (layer for layer in fixed.layers if isinstance(layer, EightBitPReLU))
    (given,) = (layer for layer in network.layers if isinstance(layer, layers.PReLU))
    assert np.abs(trained.alpha.numpy() - given.alpha.numpy()).max() > 0
    folded = check_exact(fixed, digits)
    images = next(iter(digits.evaluation(batch_size=90)))[0]
    step = folded.layers[-1].input_grid.scale
    codes = np.abs(fixed.predict(images, verbose=0) - folded.predict(images, verbose=0)) / step
    assert np.mean(codes > 0.5) < 0.25 and codes.max() < 4


def test_the_fixed_network_with_slopes_is_saved_and_loaded(digits, tmp_path):
    fixed = calibrated(network_of(prelu(shared_axes=[1, 2]), layers.Activation("mish")), digits)
    images = next(iter(digits.evaluation(batch_size=8)))[0]
    folded = mmx_tf.fold(fixed)
    for network in (fixed, folded):
        network.save(tmp_path / "network.keras")
        again = keras.models.load_model(tmp_path / "network.keras")
        np.testing.assert_array_equal(again(images), network(images))
    assert mmx_tf.convert(mmx_tf.fold(fixed)) == mmx_tf.convert(folded)


def test_an_activation_at_the_end(digits):
    inputs = keras.Input((16, 16, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu", name="a")(inputs))
    x = layers.Dense(8, activation="relu", name="b")(x)
    network = keras.Model(inputs, layers.Dense(3, activation="tanh", name="c")(x))
    folded = mmx_tf.fold(calibrated(network, digits))
    data = mmx_tf.convert(folded, input_type="int8")
    targets = digits.evaluation(batch_size=90).map(lambda images, y: (images, tf.zeros((len(images), 3))))
    report = mmx_tf.verify(folded, data, targets, task="regression")
    assert report.code_disagreement == 0 and (report.partitions, report.left_outside) == (1, ())


@pytest.mark.slow
def test_a_maximum_costs_no_operator_but_where_a_grid_is_shared(digits):
    def folded(network):
        return mmx_tf.fold(calibrated(network, digits)).layers

    def concatenated(limit):
        inputs = keras.Input((16, 16, 1))
        x = layers.Conv2D(4, 3, name="a")(inputs)
        parts = [layers.ReLU(limit)(layers.Conv2D(4, 3, name=name)(x)) for name in ("b", "c")]
        x = layers.Conv2D(4, 3, name="d")(layers.Concatenate(name="join")(parts))
        return keras.Model(inputs, layers.Dense(10, name="e")(layers.GlobalAveragePooling2D()(x)))

    own, fused = (map(type, folded(network_of(layers.ReLU(limit)))) for limit in (1.0, 6.0))
    assert list(own) == list(fused)
    # What comes out of the convolutions stays far below 6.
    assert sum(layer.name.endswith("_shared") for layer in folded(concatenated(0.02))) == 2
    check_exact(calibrated(concatenated(0.02), digits), digits)


def test_a_maximum_is_the_highest_code(digits):
    limit = 0.05
    fixed = calibrated(network_of(layers.ReLU(limit)), digits)
    images = next(iter(digits.evaluation(batch_size=90)))[0]
    folded = mmx_tf.fold(fixed)
    layer = folded.get_layer("conv0")
    assert layer.output_grid.scale * (127 - layer.output_grid.zero_point) == pytest.approx(limit, rel=0.5)
    values = layer.output_grid.dequantize(keras.Model(folded.inputs, layer.output)(images))
    (quantizer,) = (q for q in fixed.layers if q.name == "last_input_quantizer")
    assert isinstance(quantizer, ActivationQuantizer)
    expected = keras.Model(fixed.inputs, quantizer.output)(images).numpy()
    assert values.max() == pytest.approx(expected.max(), rel=1e-5)
    assert np.mean(np.abs(values - expected) > layer.output_grid.scale / 2) < 0.02


FLOORS = {
    "relu": (layers.ReLU(), 0.0),
    "leaky": (layers.LeakyReLU(0.2), floors.UNKNOWN),
    "leaky, rising": (layers.LeakyReLU(-0.2), 0.0),
    "threshold": (layers.ReLU(threshold=1.0), 0.0),
    "slope": (layers.ReLU(4.0, negative_slope=0.2), floors.UNKNOWN),
    "elu": (layers.ELU(0.7), -0.7),
    "elu by name": (layers.Activation("elu"), -1.0),
    "selu": (layers.Activation("selu"), -1.758),
    "gelu": (layers.Activation("gelu"), -0.16997),
    "approximate gelu": (lambda x: tf.nn.gelu(x, approximate=True), -0.17004),
    "mish": (layers.Activation("mish"), -0.30884),
    "softplus": (layers.Activation("softplus"), 0.0),
    "exponential": (layers.Activation("exponential"), 0.0),
    "softmax": (layers.Softmax(), 0.0),
    "tanh": (layers.Activation("tanh"), floors.UNKNOWN),
    "softsign": (layers.Activation("softsign"), floors.UNKNOWN),
    "leaky of what has a floor": (lambda x: layers.LeakyReLU(0.5)(layers.ELU(0.8)(x)), -0.4),
    "gated elu": (lambda x: layers.Multiply()([layers.ELU(0.8)(x), tf.sigmoid(x)]), -0.8),
}


@pytest.mark.parametrize("name", FLOORS)
def test_no_value_is_below_the_floor_and_the_floor_is_reached(name):
    body, expected = FLOORS[name]
    inputs = keras.Input((1, 1, 20001))
    network = canonicalize(keras.Model(inputs, body(inputs)))
    known = {}
    for node in graph.nodes(network):
        known[id(node.outputs)] = floors.floor_of(node.layer, node.call_args, known)
    floor = known[id(network.outputs[0])]
    assert floor == pytest.approx(expected, abs=2e-4)
    x = np.linspace(-30, 30, 20001, dtype=np.float32).reshape(1, 1, 1, -1)
    values = network(x).numpy()
    assert values.min() >= floor
    if floors.UNKNOWN < floor and name != "gated elu":
        assert values.min() <= floor + 1e-3
    codes = floors.codes_of(floor)
    assert codes["signed"] == (floor < 0) and (codes["floor"] is None) == (floor in (0.0, floors.UNKNOWN))


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        (lambda x: tf.nn.leaky_relu(x), ["LeakyReLU"]),
        (lambda x: tf.nn.leaky_relu(x, alpha=0.1), ["LeakyReLU"]),
        (layers.Activation(tf.nn.leaky_relu), ["LeakyReLU"]),
        (tf.nn.gelu, ["Activation"]),
        (lambda x: tf.nn.gelu(x, approximate=True), ["Smooth"]),
        (tf.math.tanh, ["Activation"]),
        (tf.nn.tanh, ["Activation"]),
        (tf.nn.softsign, ["Smooth", "Multiply"]),
        (layers.Activation("mish"), ["Smooth", "Multiply"]),
        (layers.ThresholdedReLU(0.5), ["ReLU"]),
        (layers.Conv2D(3, 1, activation=layers.PReLU(shared_axes=[1, 2])), ["Conv2D", "PReLU"]),
        (layers.Dense(3, activation=layers.ELU(0.5)), ["Conv2D", "ELU"]),
    ],
)
def test_every_spelling_has_a_layer_that_computes_it(body, kinds):
    inputs = keras.Input((4, 4, 3))
    network = keras.Model(inputs, body(inputs))
    rng = np.random.default_rng(0)
    network.set_weights([rng.normal(size=weights.shape) for weights in network.get_weights()])
    canonical = canonicalize(network)
    assert [type(layer).__name__ for layer in canonical.layers[1:]] == kinds
    images = rng.normal(0, 2, (2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(canonical(images), network(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, curve in CURVES.items() if curve.tensorflow])
def test_a_function_of_tensorflow_is_read_as_a_call_and_as_an_activation(name):
    function = CURVES[name].spelling
    images = np.linspace(-5, 5, 96, dtype=np.float32).reshape(2, 4, 4, 3)
    for layer in (function, layers.Activation(function)):
        inputs = keras.Input((4, 4, 3))
        canonical = canonicalize(keras.Model(inputs, layer(inputs)))
        np.testing.assert_allclose(canonical(images), function(images), rtol=1e-5, atol=1e-6)
        assert "TFOpLambda" not in [type(layer).__name__ for layer in canonical.layers]


@pytest.mark.parametrize("name", CURVES)
def test_an_entry_agrees_with_itself(name):
    """What training computes is the function, which has its floor; so has x times a gate."""
    curve = CURVES[name]
    x = np.linspace(-20, 20, 40001)
    values = curve.function(x, 1.0, Grid(0.5, -128))
    assert curve.floor <= 0 and values.min() >= curve.floor
    if curve.gate_of:
        assert 0 <= values.min() and values.max() <= 1 and (x * values).min() >= curve.lowest_product
        assert not np.isfinite(curve.lowest_product) or (x * values).min() <= curve.lowest_product + 1e-3
    elif np.isfinite(curve.floor):
        assert values.min() <= curve.floor + 1e-3
    trained = curve.trained or getattr(keras.activations, name, None)
    if trained:
        close = {"rtol": 1e-5, "atol": 1e-6}
        below = x < 4  # exp is cut off where the codes end
        np.testing.assert_allclose(trained(tf.constant(x[below], tf.float32)), values[below], **close)
    else:
        assert name == "above"


def test_the_smooth_layer_of_an_import_is_taken_as_it_is():
    inputs = keras.Input((4, 4, 3))
    network = canonicalize(keras.Model(inputs, Smooth(function="gelu_approximate", name="gelu")(inputs)))
    assert isinstance(network.get_layer("gelu"), Smooth)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (
            layers.ReLU(negative_slope=0.1, threshold=0.5, name="odd"),
            "'odd' .ReLU.*threshold=0.5 and negative",
        ),
        (layers.LeakyReLU(300.0, name="odd"), "'odd' .LeakyReLU.*alpha=300.*in -8..8"),
        (layers.Activation("log_softmax", name="odd"), "'odd' .Activation.*'log_softmax' has no operator"),
        (layers.Softmax(axis=1, name="odd"), "'odd' .Softmax.*axis 1, and TFLite of the last one"),
    ],
)
def test_what_has_no_integer_form_is_refused_before_training(layer, reason):
    with pytest.raises(FoldError, match=f"{reason}.*allow_unexportable"):
        mmx_tf.augment(network_of(layer), bit_widths=(8, 4))
