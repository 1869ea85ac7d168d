"""The flagfiles that come with mmx_tf: valid, with the budgets and options that they name."""

import dataclasses
import re
from pathlib import Path

import pytest
from recipes import recipe

from mmx_tf import models
from mmx_tf.budget.bops import layer_costs
from mmx_tf.budget.budget import Budget
from mmx_tf.errors import RecipeError
from mmx_tf.network.canonical import canonicalize
from mmx_tf.recipe.options import RecipeOptions
from mmx_tf.recipe.practice import TrainingPractice
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.recipe.search_settings import SearchSettings

pytestmark = pytest.mark.broad

ROOT = Path(__file__).parents[1]


KINDS = (SearchSettings, RecipeOptions, TrainingPractice)


def test_options_and_ablations_are_off_in_every_flagfile():
    """The paper's recipes have none of them, in as far as its main text says."""
    plain = recipe()
    options = [field.name for kind in KINDS for field in dataclasses.fields(kind)]
    assert len(options) == 29
    for path in {*ROOT.glob("*.flags")} - {ROOT / "mbv3_distilled.flags"}:
        made = Recipe.from_flagfile(path.read_text())
        assert {name: getattr(made, name) for name in options} == {n: getattr(plain, n) for n in options}
    assert (plain.optimizer, plain.teacher, plain.ema_decay, plain.selection) == ("sgd", "", 0.0, "search")


def test_the_quick_flagfile_is_valid():
    made = Recipe.from_flagfile((ROOT / "quick.flags").read_text())
    made.validate()
    assert (made.candidate_bits, made.weight_bits) == ((8, 4, 3), 4)


@pytest.mark.parametrize(
    ("name", "model", "bits", "bops", "epochs"),
    [
        ("mbv2", "mobilenet_v2", (8, 4, 3), 5_300_000_000, 140),
        ("mbv3", "mobilenet_v3_large", (8, 4, 3), 4_440_000_000, 140),
        ("resnet18", "resnet18", (8, 4, 2), 32_870_000_000, 90),
    ],
)
def test_the_imagenet_flagfiles_are_the_papers_recipes(name, model, bits, bops, epochs):
    made = Recipe.from_flagfile((ROOT / f"{name}.flags").read_text())
    made.validate()
    assert (made.model, made.candidate_bits, made.target_bops) == (model, bits, (bops,))
    # Table 1 counts from epoch 1 of bit selection to the last of weight training.
    assert (made.select_epochs, made.select_epochs + made.train_epochs) == (2, epochs)
    assert (made.dataset, made.image_size, made.batch_size) == ("imagenet2012", 224, 256)
    assert (made.weight_bits, made.first_last_bits) == (4, 8)


@pytest.mark.parametrize(
    ("name", "options", "bits"),
    [
        ("cifar10_resnet8", ("resnet8", 1.0, 32, "cifar10"), (8, 4, 2)),
        ("vww_mbv1", ("mobilenet_v1", 0.25, 96, "folder:vw_coco2014_96"), (8, 4, 3)),
    ],
)
def test_the_flagfiles_of_mlperf_tiny_train_its_networks_first(name, options, bits):
    text = (ROOT / f"{name}.flags").read_text()
    made = Recipe.from_flagfile(text)
    made.validate()
    assert (made.model, made.width, made.image_size, made.dataset) == options
    assert (made.candidate_bits, made.weight_bits, made.float_epochs) == (bits, 4, 30)
    assert f"--flagfile={name}.flags" in text


def variants(text: str) -> list[tuple[str, list[str]]]:
    """(the line's text, its flags) for every line of a flagfile's heading that ends with flags."""
    lines = [re.fullmatch(r"#   (.*?)((?: --\S+)+)", line) for line in text.splitlines()]
    return [(line[1], line[2].split()) for line in lines if line and "python -m" not in line[1]]


@pytest.mark.parametrize(("name", "count"), [("mbv3", 4), ("resnet18", 3)])
def test_every_budget_in_a_heading_is_within_reach_and_the_one_it_stands_beside(name, count):
    text = (ROOT / f"{name}.flags").read_text()
    found = variants(text)
    assert len(found) == count
    network = models.build(Recipe.from_flagfile(text).model, input_shape=(224, 224, 3), num_classes=1000)
    costs = tuple(layer_costs(canonicalize(network)))
    for told, arguments in found:
        made = Recipe.from_flagfile("\n".join([text, *arguments]))
        made.validate()
        options = (made.candidate_bits, made.weight_bits, made.first_last_bits)
        if made.target_average_bits:
            # Out of reach it would raise.
            target = Budget(costs, *options).bops_at(made.target_average_bits)
            assert f"{made.target_average_bits:g} bits on average" in told
        else:
            (target,) = made.target_bops
            assert float(re.search(r"([\d.]+) GBOPs", told)[1]) == pytest.approx(target / 1e9, abs=0.0101)
        assert Budget(costs, *options, target).target_bops == target


@pytest.mark.parametrize("name", ["mbv3", "resnet18"])
def test_lower_weights_have_the_budget_of_equal_activation_bits(name):
    text = (ROOT / f"{name}.flags").read_text()
    main = Recipe.from_flagfile(text)
    network = models.build(main.model, input_shape=(224, 224, 3), num_classes=1000)
    ends = sum(cost.macs for cost in layer_costs(canonicalize(network)) if cost.end) * 8 * 8
    budgets = {main.weight_bits: main.target_bops[0]}
    for _, arguments in variants(text):
        made = Recipe.from_flagfile("\n".join([text, *arguments]))
        budgets.setdefault(made.weight_bits, sum(made.target_bops))
    assert sorted(budgets) == [2, 3, 4]
    for weight_bits, bops in budgets.items():
        expected = ends + (main.target_bops[0] - ends) * weight_bits / 4
        assert bops == pytest.approx(expected, rel=2e-3), weight_bits


def test_the_cifar10_flagfile_asks_for_a_float_model():
    made = Recipe.from_flagfile((ROOT / "cifar10_mbv2.flags").read_text())
    with pytest.raises(RecipeError, match="--float_model"):
        made.validate()
    dataclasses.replace(made, float_epochs=1).validate()
