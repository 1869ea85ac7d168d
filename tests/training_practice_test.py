"""Options of training practice: rates of step sizes, clipping, a teacher in the search, alpha's optimizer."""

import math
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import small_network

import mmx_tf
from mmx_tf.errors import RecipeError
from mmx_tf.fitting.teacher import Teacher
from mmx_tf.metamix import algorithm
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.training.optimizers import (
    alpha_optimizer_of,
    cosine_schedule,
    optimizer_of,
    step_optimizer_of,
    weight_optimizer,
)
from mmx_tf.training.tuned import TunedAdam

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[1]
PLAIN = {"momentum": 0.0, "nesterov": False}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def recipe_of(*flags) -> Recipe:
    return Recipe.from_flagfile("\n".join(["--workdir=x", "--float_epochs=1", *flags]))


def variables(*values):
    """A kernel and a step size."""
    names = ("dense/kernel", "quantizer/kernel_step_size")
    return [
        tf.Variable(value, name=name, dtype=tf.float32) for value, name in zip(values, names, strict=True)
    ]


# The learning rate of step sizes.


def test_two_steps_by_hand():
    """Gradients of 1 and 2 at a rate of 0.1 and momentum 0.5; the step size has three times the rate."""
    kernel, step = pair = variables(2.0, 2.0)
    optimizer = weight_optimizer("sgd", pair, 0.1, momentum=0.5, nesterov=False, step_size_factor=3.0)
    optimizer.build(pair)
    optimizer.apply_gradients([(tf.constant(1.0), variable) for variable in pair])
    assert (kernel.numpy(), step.numpy()) == pytest.approx((1.9, 1.7))
    optimizer.apply_gradients([(tf.constant(2.0), variable) for variable in pair])
    # Velocities -0.5 * 0.1 - 0.2 and three times that.
    assert (kernel.numpy(), step.numpy()) == pytest.approx((1.65, 0.95))


@pytest.mark.parametrize(
    ("name", "kind", "decay"), [("sgd", "decoupled", 0.1), ("sgd", "l2", 0.1), ("adam", "l2", 0.1),
                                ("adam", "l2", 0.0), ("adamw", "decoupled", 0.1), ("sgd", "l2", 0.0)],
)  # fmt: skip
def test_it_is_kerass_step_of_an_optimizer_of_its_own(name, kind, decay):
    options = {"weight_decay": decay, "weight_decay_kind": kind, "momentum": 0.9, "nesterov": True}
    schedule = cosine_schedule(0.1, steps=6, warmup_steps=2)
    ours, (kernel, step) = variables([2.0, -1.0], 0.5), variables([2.0, -1.0], 0.5)
    both = weight_optimizer(name, ours, schedule, step_size_factor=10.0, **options)
    both.build(ours)
    of_kernel = weight_optimizer(name, [kernel], schedule, **options)
    ten_times = cosine_schedule(1.0, steps=6, warmup_steps=2)
    of_step = keras.optimizers.SGD(ten_times, momentum=0.9, nesterov=True)
    if name != "sgd":
        of_step = keras.optimizers.Adam(ten_times)
    for optimizer, variable in ((of_kernel, kernel), (of_step, step)):
        optimizer.build([variable])

    @tf.function
    def apply(gradients):
        both.apply_gradients(zip(gradients, ours, strict=True))
        of_kernel.apply_gradients([(gradients[0], kernel)])
        of_step.apply_gradients([(gradients[1], step)])

    generator = np.random.default_rng(0)
    for _ in range(5):
        apply([tf.constant(generator.normal(size=size), tf.float32) for size in ((2,), ())])
        np.testing.assert_allclose(ours[0], kernel, rtol=1e-6)
        np.testing.assert_allclose(ours[1], step, rtol=1e-6)
    assert abs(ours[1].numpy() - 0.5) > 0.1
    assert both.learning_rate.numpy() == of_kernel.learning_rate.numpy()


def test_all_step_sizes_of_a_fixed_network_have_it_and_nothing_else():
    from mmx_tf.training.step_size_rate import is_step_size

    search = mmx_tf.augment(small_network(), target_average_bits=4.0)
    fixed = mmx_tf.rebuild(search, search.selection_of([1] * len(search.quantizers)))
    found = [variable for variable in fixed.trainable_variables if is_step_size(variable)]
    # Quantizers of 5 layers' inputs and kernels, and carriers; the network's own variables have no such name.
    assert len(found) >= 10
    assert len(fixed.trainable_variables) - len(found) == len(small_network().trainable_variables)


def test_a_tuned_optimizer_is_saved_with_its_network(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(TunedAdam(0.1, step_size_factor=4.0, l2=0.5), "mse")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert (type(loaded), loaded.step_size_factor, loaded.l2) == (TunedAdam, 4.0, 0.5)


def test_by_default_optimizers_are_those_of_before():
    recipe = recipe_of("--weight_decay=0")
    kinds = [type(optimizer_of(recipe, phase, [], 0.1)) for phase in ("float", "select", "train")]
    assert kinds == [keras.optimizers.SGD] * 3
    steps, alpha = step_optimizer_of(recipe, 0.1), alpha_optimizer_of(recipe, 0.1)
    assert (type(steps), steps.momentum, steps.nesterov) == (keras.optimizers.SGD, 0.9, False)
    assert (type(alpha), alpha.beta_1, alpha.beta_2) == (keras.optimizers.Adam, 0.9, 0.999)
    assert all(one.global_clipnorm is None for one in (steps, optimizer_of(recipe, "train", [], 0.1)))


# Clipping.


def test_gradients_are_clipped_together():
    """Gradients 3 and 4 have the norm 5, and with a largest norm of 1 are 0.6 and 0.8; 0.3 and 0.4 stay."""
    pair = variables(1.0, 1.0)
    optimizer = weight_optimizer("sgd", pair, 1.0, global_clipnorm=1.0, **PLAIN)
    optimizer.build(pair)
    optimizer.apply_gradients([(tf.constant(3.0), pair[0]), (tf.constant(4.0), pair[1])])
    assert [variable.numpy() for variable in pair] == pytest.approx([0.4, 0.2])
    optimizer.apply_gradients([(tf.constant(0.3), pair[0]), (tf.constant(0.4), pair[1])])
    assert [variable.numpy() for variable in pair] == pytest.approx([0.1, -0.2])


def test_each_phase_has_its_norm():
    recipe = recipe_of("--float_global_clipnorm=1", "--select_global_clipnorm=2", "--global_clipnorm=3",
                       "--optimizer=adam")  # fmt: skip
    norms = [optimizer_of(recipe, phase, [], 0.1).global_clipnorm for phase in ("float", "select", "train")]
    assert norms == [1.0, 2.0, 3.0] and step_optimizer_of(recipe, 0.1).global_clipnorm == 2.0
    assert alpha_optimizer_of(recipe, 0.1).global_clipnorm is None


# Optimizers and a teacher in bit selection.


def test_the_optimizers_of_bit_selection():
    recipe = recipe_of("--select_optimizer=adam", "--weight_decay=5e-6", "--weight_decay_kind=l2")
    weights = optimizer_of(recipe, "select", variables(1.0, 1.0), 1e-4)
    assert (type(weights).__name__, weights.l2) == ("L2Adam", 5e-6)
    assert type(step_optimizer_of(recipe, 1e-4)) is keras.optimizers.Adam
    assert type(optimizer_of(recipe, "train", [], 1e-4)).__name__ == "L2SGD"
    refused = recipe_of("--select_optimizer=adamw", "--weight_decay_kind=l2")
    with pytest.raises(RecipeError, match="decoupled with --select_optimizer=adamw"):
        refused.validate()
    with pytest.raises(RecipeError, match="--distill_selection=true .*false without --teacher"):
        recipe_of("--distill_selection").validate()


def linear(kernel):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, use_bias=False)])
    model.set_weights([np.float32([kernel])])
    return model


def test_a_lesson_by_hand():
    """p = (1/4, 3/4), q = (1/2, 1/2): KL = 1/4 ln 1/2 + 3/4 ln 3/2."""
    student = linear([0.0, 0.0])
    teacher = Teacher(linear([0.0, math.log(3)]), student=student, weight=0.25, temperature=1.0)
    images = tf.ones((1, 1))
    loss, taught = teacher.mixed(tf.constant(2.0), student(images), teacher.logits(images))
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert taught.numpy() == pytest.approx(expected, rel=1e-5)
    assert taught.numpy() == pytest.approx(
        keras.losses.KLDivergence()([[0.25, 0.75]], [[0.5, 0.5]]).numpy(), rel=1e-5
    )
    assert loss.numpy() == pytest.approx(0.75 * 2 + 0.25 * expected, rel=1e-5)


@pytest.fixture(scope="module")
def batch(digits):
    images, labels = next(iter(digits.train(batch_size=8, seed=0, augment=False)))
    return images, labels


def searching(batch, **options):
    keras.utils.set_random_seed(3)
    search = mmx_tf.augment(small_network(), target_average_bits=4.0)
    search.compile("sgd", LOSS, **options)
    search(batch[0], branch=0)
    return search


def moved(search, batch, labels):
    """Weights and alpha after a step of each kind."""
    search.bit_meta_step(batch[0], labels)
    search.bit_search_step(batch[0], labels)
    return np.concatenate([np.ravel(v.numpy()) for v in [*search.meta_weights, search.alpha]])


@pytest.mark.slow
def test_a_teacher_takes_the_place_of_labels_in_both_steps(batch):
    """With weight 1 labels change nothing; with weight 0 the teacher changes nothing."""
    images, labels = batch
    keras.utils.set_random_seed(7)
    teacher = small_network()
    found = {}
    for weight in (None, 0.0, 1.0):
        taught = {} if weight is None else {"teacher": teacher, "distillation_weight": weight}
        for told, these in (("own", labels), ("other", (labels + 1) % 10)):
            search = searching(batch, **taught)
            found[weight, told] = moved(search, batch, these)
        ours, theirs = ({id(v) for v in network.variables} for network in (search, teacher))
        assert not ours & theirs
    np.testing.assert_allclose(found[1.0, "own"], found[1.0, "other"], atol=1e-6)
    np.testing.assert_allclose(found[0.0, "own"], found[None, "own"], atol=1e-6)
    assert np.abs(found[None, "own"] - found[None, "other"]).max() > 1e-4
    assert np.abs(found[1.0, "own"] - found[None, "own"]).max() > 1e-4


def test_alphas_gradient_is_that_of_the_mixed_loss(batch):
    """Half of each share: the mean of the gradients by labels and by the teacher alone."""
    keras.utils.set_random_seed(7)
    teacher = small_network()
    alpha = np.random.default_rng(0).normal(size=searching(batch).alpha.shape[1:]).astype(np.float32)
    gradients = {}
    for weight in (0.0, 0.5, 1.0):
        search = searching(batch, teacher=teacher, distillation_weight=weight, distillation_temperature=2.0)
        teaching = search.teaching(batch[0])
        found = algorithm.alpha_gradient(search, (*batch, None), tf.constant(alpha), None, teaching)
        gradients[weight] = found[0].numpy()
    np.testing.assert_allclose(gradients[0.5], (gradients[0.0] + gradients[1.0]) / 2, atol=1e-6)
    assert np.abs(gradients[0.0] - gradients[1.0]).max() > 1e-4


def test_a_teacher_that_does_not_fit_is_refused(batch):
    with pytest.raises(ValueError, match="the inputs of the teacher .* have the shape"):
        searching(batch, teacher=linear([0.0, 1.0]))
    with pytest.raises(ValueError, match="distillation_weight=1.5: a number from 0 to 1"):
        searching(batch, teacher=small_network(), distillation_weight=1.5)
    with pytest.raises(ValueError, match="distillation_temperature=0: a number above 0"):
        searching(batch, teacher=small_network(), distillation_temperature=0)
    with pytest.raises(TypeError, match="teacher is a str"):
        searching(batch, teacher="float.keras")


def test_the_distilled_flagfile_has_the_settings_that_it_cites():
    made = Recipe.from_flagfile((ROOT / "mbv3_distilled.flags").read_text())
    made.validate()
    plain = Recipe.from_flagfile((ROOT / "mbv3.flags").read_text())
    assert (made.select_epochs, made.activation_epochs, made.train_epochs) == (2, 18, 120)
    # 4 * |GBOPs - target|, with the gap in units of the target.
    assert made.regularizer_weight == pytest.approx(4 * made.target_bops[0] / 1e9, rel=5e-3)
    assert (made.distillation_weight, made.distill_selection, made.teacher) == (1.0, True, "float")
    assert (made.alpha_learning_rate, made.alpha_beta_1, made.alpha_weight_decay) == (1e-4, 0.5, 1e-3)
    same = ("model", "dataset", "image_size", "batch_size", "candidate_bits", "weight_bits")
    assert [getattr(made, name) for name in same] == [getattr(plain, name) for name in same]


# Alpha's optimizer.


def test_alphas_optimizer_is_kerass_adam_with_the_decay_in_the_loss():
    recipe = recipe_of("--alpha_beta_1=0.5", "--alpha_beta_2=0.99", "--alpha_weight_decay=0.1")
    ours, theirs = (tf.Variable([0.5, -2.0, 0.0], name="alpha") for _ in range(2))
    optimizer, adam = alpha_optimizer_of(recipe, 0.01), keras.optimizers.Adam(0.01, beta_1=0.5, beta_2=0.99)
    optimizer.build([ours])
    adam.build([theirs])
    for gradient in ([1.0, 0.1, 0.0], [-2.0, 0.3, 1.0], [0.1, 0.1, 0.1]):
        optimizer.apply_gradients([(tf.constant(gradient), ours)])
        adam.apply_gradients([(tf.constant(gradient) + 0.1 * theirs, theirs)])
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)
    # Its first step is the rate against the sign of 0.1 - 0.1 * 2: the decay has turned it.
    assert ours.numpy()[1] > -2.0


def test_alpha_begins_with_noise_of_the_seed():
    def alpha(**options):
        keras.utils.set_random_seed(11)
        return mmx_tf.augment(small_network(), target_average_bits=4.0, **options).alpha.numpy()

    noise = alpha(alpha_initial_stddev=0.5)
    assert np.all(alpha() == 0.0) and np.all(noise != 0.0)
    np.testing.assert_array_equal(noise, alpha(alpha_initial_stddev=0.5))
    np.testing.assert_allclose(alpha(alpha_initial_stddev=1.0), 2 * noise, rtol=1e-6)
    assert 0.1 < noise.std() < 1.0
    with pytest.raises(ValueError, match="alpha_initial_stddev=-1: a number of 0 or more"):
        alpha(alpha_initial_stddev=-1)
