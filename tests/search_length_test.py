"""How many bit-search steps are enough: by hand, held to what was measured, and the warning of a run."""

import json
import logging
import pathlib

import pytest

import mmx_tf.data
from mmx_tf.distribution import strategies
from mmx_tf.recipe import search_length
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.recipe.search_length import SearchLength, advice_of
from mmx_tf.run.expected import warn_of_short_search
from mmx_tf.run.run import Run
from mmx_tf.workdir.workdir import Workdir

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "results" / "cifar10"


@pytest.mark.parametrize(
    ("images", "batch", "steps", "epochs"),
    [(300, 16, 18, 35), (3000, 32, 93, 8), (50_000, 128, 390, 3), (1_281_167, 256, 5004, 2)],
)
def test_epochs_of_datasets_as_the_guide_has_them(images, batch, steps, epochs):
    assert images // batch == steps
    length = SearchLength.of_epochs(2, steps, 0.01)
    assert (length.steps, length.needed, length.epochs(length.needed)) == (steps, 600, epochs)
    guide = (RESULTS.parents[1] / "docs" / "guides" / "epochs_and_rates.md").read_text()
    row = next(line for line in guide.splitlines() if line.startswith(f"| {images:,} "))
    assert [cell.strip() for cell in row.split("|")][2:5] == [str(batch), f"{steps:,}", str(epochs)]


def test_rates_and_rounding():
    # 6 / 0.02, 6 / 0.3, and 6 / 0.07 = 85.7 steps.
    assert [SearchLength(1, 1, rate).needed for rate in (0.02, 0.3, 0.07)] == [300, 20, 86]
    assert [SearchLength(steps, 1, 0.02).very_short for steps in (74, 75)] == [True, False]
    assert [SearchLength(steps, 1, 0.02).too_short for steps in (299, 300)] == [True, False]
    # At 0.1 and above there is no larger rate that was measured.
    assert SearchLength(1, 10, 0.1).flags == "--select_epochs=7"


@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v2"])
def test_the_rule_is_what_was_measured(network):
    """At ENOUGH no longer or faster search was better; at SHORTEST all random bits were worse."""
    found = json.loads((RESULTS / f"search_length_{network}.json").read_text())["searches"]
    losses = {(one["alpha_learning_rate"], one["steps"]): one["loss"] for one in found}
    enough = losses[0.02, search_length.steps_at(0.02, search_length.ENOUGH)]
    assert enough == min(losses.values())
    shortest = min(found, key=lambda one: one["steps"])
    assert shortest["steps"] == search_length.steps_at(0.02, search_length.SHORTEST)
    assert shortest["better_than"] == 1
    if network == "resnet18":
        assert losses[search_length.LARGEST_RATE, search_length.STEPS_AT_LARGEST_RATE] == enough


def test_advice():
    short = SearchLength(22, 22, 0.01).advice
    assert "had 22 bit-search steps; 600 are enough" in short
    assert short.endswith("--select_epochs=29 (or --select_epochs=8 --alpha_learning_rate=0.1).")
    assert SearchLength(1, 1, 0.01).advice.startswith("The search had 1 bit-search step;")
    # Four times 780 steps are 8 epochs of 390, after the first.
    long = SearchLength(780, 390, 0.01).advice
    assert "about as good as each other" in long and long.endswith("--select_epochs=9.")
    assert advice_of({"steps": 22, "steps_per_epoch": 22, "rate": 0.01}, {}) == short


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--batch_size=64"], "will have 22 bit-search steps, too few"),
        (["--batch_size=64", "--select_epochs=8"], ""),
        (["--batch_size=64", "--selection=random"], ""),
    ],
)
def test_a_run_says_before_it_trains_that_its_search_is_short(tmp_path, caplog, flags, told):
    recipe = Recipe.from_flagfile("\n".join([f"--workdir={tmp_path / 'W'}", "--float_epochs=1", *flags]))
    recipe.validate()
    data = mmx_tf.data.load("digits", image_size=16)
    with Workdir.opened(recipe, strategies.start(recipe), {}) as workdir:
        run = Run(workdir, recipe, data)
        with caplog.at_level(logging.WARNING):
            warn_of_short_search(run)
        assert (told in caplog.text) if told else not caplog.text
        assert ("--select_epochs=29" in caplog.text) == bool(told)
        # What is trained already is not warned of again.
        caplog.clear()
        workdir.path("checkpoints", "select").mkdir()
        warn_of_short_search(run)
        assert not caplog.text
