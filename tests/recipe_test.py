"""Recipes that are taken: how flags are read, written again, and compared."""

import dataclasses

import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st
from recipes import RUNNABLE, recipe, refusal

from mmx_tf.notation import short_bops
from mmx_tf.recipe.recipe import Recipe, define_flags, parse_bops


@pytest.mark.parametrize(
    ("text", "bops"),
    [
        ("5.3G", 5_300_000_000),
        ("800M", 800_000_000),
        ("5.3e9", 5_300_000_000),
        ("5300000000", 5_300_000_000),
        ("1.234567891G", 1_234_567_891),
        (" 12 k ", 12_000),
        ("0.5T", 500_000_000_000),
    ],
)
def test_bops_are_read_exactly(text, bops):
    assert parse_bops(text) == bops


@given(st.integers(1, 10**13))
def test_a_whole_number_of_bops_is_read_back(bops):
    assert parse_bops(str(bops)) == bops


def test_defaults():
    plain = recipe()
    plain.validate()
    assert (plain.candidate_bits, plain.weight_bits, plain.target_average_bits) == ((8, 4, 3), 4, 4.0)
    assert (plain.target_bops, plain.export_target) == ((), 0)


def test_all_epochs_of_weight_training_may_be_on_the_folded_graph():
    assert recipe().folded_epochs == 0
    recipe("--train_epochs=3", "--folded_epochs=3").validate()
    assert "--folded_epochs=4" in refusal("--train_epochs=3", "--folded_epochs=4")


def test_a_bops_budget_leaves_the_average_unset():
    bops = recipe("--target_bops=5.3G")
    bops.validate()
    assert (bops.target_bops, bops.target_average_bits) == ((5_300_000_000,), 0.0)


def test_several_targets():
    several = recipe("--target_bops=4.5G, 5G,800M", "--export_target=5G")
    several.validate()
    assert several.target_bops == (4_500_000_000, 5_000_000_000, 800_000_000)
    assert several.exported_targets == (5_000_000_000,)
    every = dataclasses.replace(several, export_target=0)
    assert every.exported_targets == every.target_bops
    # Which of them are exported is no other run.
    assert every.differences(several) == []
    assert Recipe.from_flagfile(several.to_flagfile()) == several
    one = several.for_target(4_500_000_000)
    one.validate()
    assert one == recipe("--target_bops=4.5G", f"--workdir={several.workdir}/target_4.5G")


@pytest.mark.parametrize(
    ("bops", "text"),
    [(4_500_000_000, "4.5G"), (100_000_000_000, "100G"), (332_287, "332.287K"), (999, "999"), (10**12, "1T")],
)
def test_short_names_of_targets(bops, text):
    assert short_bops(bops) == text


@given(st.integers(1, 10**13))
def test_a_short_name_is_read_back(bops):
    assert parse_bops(short_bops(bops)) == bops


@given(
    bits=st.permutations([2, 4, 5, 8]),
    bops=st.integers(1, 10**12),
    rate=st.floats(1e-9, 10.0),
    nesterov=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
    folder=st.text("abcXYZ019 -=/#._", max_size=12),
)
def test_a_flagfile_replays_the_recipe(bits, bops, rate, nesterov, seed, folder):
    made = dataclasses.replace(
        recipe(),
        candidate_bits=tuple(bits),
        target_bops=(bops,),
        target_average_bits=0.0,
        learning_rate=rate,
        nesterov=nesterov,
        seed=seed,
        workdir="runs/" + folder.strip() + "x",
    )
    assert Recipe.from_flagfile(made.to_flagfile()) == made


def test_later_flags_override_a_flagfile(tmp_path):
    flagfile = tmp_path / "some.flags"
    flagfile.write_text("# a comment\n--weight_bits=3\n--seed=1\n" + RUNNABLE)
    flag_values = flags.FlagValues()
    flags.DEFINE_string("flagfile", "", "", flag_values=flag_values)
    define_flags(flag_values)
    flag_values(["train", f"--flagfile={flagfile}", "--seed=2"])
    made = Recipe.from_flags(flag_values)
    assert (made.weight_bits, made.seed) == (3, 2)


def test_differences_name_both_values_and_leave_the_workdir_out():
    here = recipe("--weight_bits=3", "--target_bops=1G", "--workdir=runs/a")
    there = recipe("--workdir=runs/b")
    assert here.differences(here) == []
    assert here.differences(there) == [
        "--weight_bits is 3 here and 4 there",
        "--target_bops is 1000000000 here and empty there",
        "--target_average_bits is empty here and 4.0 there",
    ]


def test_weight_bits_are_one_or_several():
    assert recipe("--weight_bits=3").weight_bits == 3
    several = recipe("--weight_bits=8, 5,2", "--target_bops=1G")
    several.validate()
    assert several.weight_bits == (8, 5, 2) and several.target_average_bits == 0
    assert Recipe.from_flagfile(several.to_flagfile()) == several
    assert "--weight_bits is 8,5,2 here and 4 there" in several.differences(recipe("--target_bops=1G"))


def test_bytes_are_read_as_decimal_numbers():
    storage = ("--weight_bits=8,4", "--weight_storage=int4_xnnpack")
    for text, size in (("2.9M", 2_900_000), ("500k", 500_000), ("123456", 123_456)):
        made = recipe(*storage, f"--target_bytes={text}")
        made.validate()
        assert made.target_bytes == size
        assert Recipe.from_flagfile(made.to_flagfile()) == made
