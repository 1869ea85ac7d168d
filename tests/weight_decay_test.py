"""Decoupled and L2 decay: by hand, against Keras's regularizers, in every phase, and saved."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import small_network

import mmx_tf
from mmx_tf.choices import OPTIMIZERS, WEIGHT_DECAYS
from mmx_tf.errors import RecipeError
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run import phases as training
from mmx_tf.run.float_network import gives_probabilities
from mmx_tf.training.optimizers import sgd, weight_optimizer
from mmx_tf.workdir.workdir import Workdir

pytestmark = pytest.mark.heavy

PLAIN = {"momentum": 0.0, "nesterov": False}


def dense():
    layer = keras.layers.Dense(1)
    layer.build((None, 1))
    layer.set_weights([np.float32([[2.0]]), np.float32([1.0])])
    return layer


def steps(optimizer, layer, count, gradient=1.0):
    """The kernel and the bias after each step of constant gradients."""
    optimizer.build(layer.trainable_variables)
    found = []
    for _ in range(count):
        optimizer.apply_gradients([(gradient * tf.ones_like(v), v) for v in layer.trainable_variables])
        found.append([v.numpy().item() for v in layer.trainable_variables])
    return found


@pytest.mark.parametrize(
    ("kind", "momentum", "nesterov", "kernels"),
    [
        # 2 - 0.1 (0.5 * 2 + 1) either way; 1.8 - 0.1 (0.5 * 1.8 + 1).
        ("decoupled", 0.0, False, [1.8, 1.61]),
        ("l2", 0.0, False, [1.8, 1.61]),
        # Velocities -0.1 and -0.9 * 0.1 - 0.1; beside them 0.05 of 2 and of 1.8.
        ("decoupled", 0.9, False, [1.8, 1.52]),
        # Gradients 2 and 1 + 0.5 * 1.8: velocities -0.2 and -0.9 * 0.2 - 0.19.
        ("l2", 0.9, False, [1.8, 1.43]),
        # Steps of 0.9 v - 0.1 g: v = -0.2, then with g = 1.81 v = -0.361.
        ("l2", 0.9, True, [2 - 0.18 - 0.2, 1.62 - 0.3249 - 0.181]),
    ],
)
def test_two_steps_of_sgd_by_hand(kind, momentum, nesterov, kernels):
    layer, plain = dense(), dense()
    optimizer = sgd(
        layer.trainable_variables,
        0.1,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=0.5,
        weight_decay_kind=kind,
    )
    found = steps(optimizer, layer, 2)
    np.testing.assert_allclose([kernel for kernel, _ in found], kernels, rtol=1e-5)
    without = steps(sgd(plain.trainable_variables, 0.1, momentum=momentum, nesterov=nesterov), plain, 2)
    assert [bias for _, bias in found] == [bias for _, bias in without]


def test_l2_is_ten_times_as_strong_with_a_momentum_of_0_9():
    """Without a gradient: the share that a step takes off, once the velocity has settled."""
    shares = {}
    for kind in WEIGHT_DECAYS:
        layer = dense()
        options = {"momentum": 0.9, "nesterov": False, "weight_decay": 1e-3, "weight_decay_kind": kind}
        found = steps(sgd(layer.trainable_variables, 0.1, **options), layer, 200, gradient=0.0)
        shares[kind] = 1 - found[-1][0] / found[-2][0]
    assert shares["decoupled"] == pytest.approx(1e-4, rel=1e-2)
    assert shares["l2"] == pytest.approx(1e-3, rel=1e-2)


def regularized(network, factor):
    """The network with Keras's regularizers of the kernels, as loss terms."""

    def clone(layer):
        config = layer.get_config()
        for name in ("kernel_regularizer", "depthwise_regularizer"):
            if name in config:
                config[name] = keras.regularizers.L2(factor)
        return type(layer).from_config(config)

    model = keras.models.clone_model(network, clone_function=clone)
    model.set_weights(network.get_weights())
    return model


@pytest.mark.parametrize(
    ("name", "momentum", "nesterov"),
    [("sgd", 0.9, False), ("sgd", 0.9, True), ("adam", 0, False)],
)
def test_l2_is_kerass_regularizer_of_half_the_number(name, momentum, nesterov):
    """wd * w is the gradient of wd / 2 * w^2. With the whole number the networks part, so this can fail."""
    keras.utils.set_random_seed(1)
    network = small_network()
    generator = np.random.default_rng(0)
    images = generator.normal(size=(5, 16, *network.input_shape[1:])).astype(np.float32)
    labels = generator.integers(10, size=(5, 16))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not gives_probabilities(network))
    ours = weight_optimizer(
        name, network.trainable_variables, 0.02, momentum=momentum, nesterov=nesterov,
        weight_decay=0.1, weight_decay_kind="l2",
    )  # fmt: skip
    models = {"ours": (network, ours)}
    for told, factor in (("half", 0.05), ("whole", 0.1)):
        if name == "adam":
            optimizer = keras.optimizers.Adam(0.02)
        else:
            optimizer = keras.optimizers.SGD(0.02, momentum=momentum, nesterov=nesterov)
        models[told] = (regularized(network, factor), optimizer)
    trained = {}
    for told, (model, optimizer) in models.items():
        model.compile(optimizer, loss, run_eagerly=True)
        losses = [model.train_on_batch(x, y) for x, y in zip(images, labels, strict=True)]
        trained[told] = np.concatenate([np.ravel(v.numpy()) for v in model.trainable_variables]), losses
    # Adam makes whole steps of gradients next to 0, such as those of a bias in front of batch norm.
    limit = 1e-5 if name == "sgd" else 1e-2
    apart = {told: np.abs(trained["ours"][0] - trained[told][0]) for told in ("half", "whole")}
    assert np.quantile(apart["half"], 0.99) < limit < np.quantile(apart["whole"], 0.99)
    # What is logged is the loss of the labels alone.
    assert trained["ours"][1][0] < trained["half"][1][0]


def test_adam_and_adamw():
    """Adam's first step is the learning rate, whatever the gradient; AdamW takes off 0.1 * 0.5 * 2 too."""
    found = {}
    for name, kind in (("adam", "decoupled"), ("adam", "l2"), ("adamw", "decoupled")):
        layer = dense()
        options = {"weight_decay": 0.5, "weight_decay_kind": kind, **PLAIN}
        optimizer = weight_optimizer(name, layer.trainable_variables, 0.1, **options)
        found[name, kind] = steps(optimizer, layer, 1, gradient=-0.2)[0]
    # L2: the gradient -0.2 + 0.5 * 2 is above 0.
    assert found["adam", "decoupled"] == pytest.approx([2.1, 1.1], abs=1e-4)
    assert found["adam", "l2"] == pytest.approx([1.9, 1.1], abs=1e-4)
    assert found["adamw", "decoupled"] == pytest.approx([2.0, 1.1], abs=1e-4)


def test_what_is_no_kind_is_refused():
    with pytest.raises(ValueError, match="'L2': one of decoupled, l2"):
        sgd([], 0.1, weight_decay_kind="L2", **PLAIN)
    for name in OPTIMIZERS:
        with pytest.raises(ValueError, match="'both': one of decoupled, l2"):
            weight_optimizer(name, [], 0.1, weight_decay_kind="both", **PLAIN)
    with pytest.raises(ValueError, match="Adam with L2 decay is 'adam'"):
        weight_optimizer("adamw", [], 0.1, weight_decay_kind="l2", **PLAIN)
    made = Recipe.from_flagfile("--workdir=x\n--float_epochs=1\n--optimizer=adamw\n--weight_decay_kind=l2")
    with pytest.raises(RecipeError, match="--weight_decay_kind=l2 .*decoupled with --optimizer=adamw"):
        made.validate()


def test_a_run_of_before_has_the_decay_that_it_had():
    """Its run.flags do not name the kind."""
    lines = Recipe.from_flagfile("").to_flagfile().splitlines()
    before = "\n".join(line for line in lines if not line.startswith("--weight_decay_kind"))
    assert len(before.splitlines()) == len(lines) - 1
    assert Recipe.from_flagfile(before).weight_decay_kind == "decoupled"


@pytest.mark.parametrize("kind", WEIGHT_DECAYS)
def test_optimizers_are_saved_with_their_network(kind, tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    optimizer = sgd(
        model.trainable_variables, 0.1, momentum=0.9, nesterov=True, weight_decay=0.5, weight_decay_kind=kind
    )
    model.compile(optimizer, "mse")
    model.train_on_batch(np.ones((1, 1)), np.ones((1, 1)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert type(loaded.optimizer) is type(model.optimizer)
    assert mmx_tf.load_model(tmp_path / "model.keras").count_params() == 2


# The phases of a run; weight training with averages, a teacher and an epoch on the folded graph.


@pytest.mark.slow
def test_every_phase_decays_kernels_and_nothing_else(digits, tmp_path):
    lines = [
        "--float_epochs=1", "--image_size=16", "--batch_size=32", "--steps_per_epoch=1", "--eval_images=32",
        "--train_epochs=2", "--folded_epochs=1", "--teacher=float", "--ema_decay=0.5",
        "--weight_decay=0.01", "--weight_decay_kind=l2", f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    recipe = Recipe.from_flagfile("\n".join(lines))
    recipe.validate()
    workdir, network = Workdir(recipe), small_network()
    training.train_float(workdir, recipe, digits, network)
    search = mmx_tf.augment(network, target_average_bits=4.0)
    training.train_search(workdir, recipe, digits, search)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    training.train_fixed(workdir, recipe, digits, fixed, teacher=network)
    assert int(fixed.optimizer.iterations) == 2  # One of them with the folded graph.
    phases = [
        (network.optimizer, network.trainable_variables),
        (search.optimizer, search.meta_weights),
        (fixed.optimizer, fixed.trainable_variables),
    ]
    for optimizer, variables in phases:
        assert optimizer.l2 == 0.01 and not optimizer.weight_decay
        decayed = [v.name for v in variables if optimizer._use_weight_decay(v)]
        # Of the network's five convolutions and dense layers.
        assert len(decayed) == 5 and all(name.endswith("kernel:0") for name in decayed)
    for optimizer in (search.step_optimizer, search.alpha_optimizer):
        assert not optimizer.weight_decay and not hasattr(optimizer, "l2")
