import dataclasses
import re
from pathlib import Path

import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from mmx_tf import models
from mmx_tf.budget.bops import layer_costs
from mmx_tf.budget.budget import Budget
from mmx_tf.errors import RecipeError
from mmx_tf.network.canonical import canonicalize
from mmx_tf.notation import short_bops
from mmx_tf.recipe.budget_rules import AskedBudget, BudgetRuleError
from mmx_tf.recipe.options import RecipeOptions
from mmx_tf.recipe.practice import TrainingPractice
from mmx_tf.recipe.recipe import Recipe, define_flags, parse_bops
from mmx_tf.recipe.search_settings import SearchSettings

ROOT = Path(__file__).parents[1]
RUNNABLE = "--float_epochs=3\n--workdir=runs/test\n"
KINDS = (SearchSettings, RecipeOptions, TrainingPractice)


def recipe(*arguments: str) -> Recipe:
    return Recipe.from_flagfile(RUNNABLE + "\n".join(arguments))


def refusal(*arguments: str) -> str:
    with pytest.raises(RecipeError) as caught:
        recipe(*arguments).validate()
    message = str(caught.value)
    assert "\n" not in message
    return message


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


@pytest.mark.parametrize("text", ["", "0", "-5G", "5.3X", "G", "5,3G", "nan", "inf", "0.1", "five"])
def test_bops_that_are_no_number_are_refused(text):
    with pytest.raises(RecipeError, match=r"5\.3G, 800M"):
        parse_bops(text)


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
    ("arguments", "parts"),
    [
        (["--target_bops=5G,5000M"], ["--target_bops=5000000000,5000000000", "a list of different numbers"]),
        (["--target_bops=5G,x"], ["--target_bops=x is not a number"]),
        (["--target_bops=5G,"], ["--target_bops= is not a number"]),
        (["--target_bops=5G,4.5G", "--export_target=6G"], ["--export_target=6G", "or one of 5G, 4.5G."]),
        (["--target_bops=5G", "--export_target=x"], ["--export_target=x is not a number"]),
        (["--target_average_bits=4", "--export_target=5G"], ["--export_target=5G", "empty"]),
        (["--target_average_bits=4,5"], ["=4,5 is", "one number of bits", "--target_bops=5.3G,4.5G"]),
        (["--target_average_bits=many"], ["--target_average_bits=many", "one number of bits, such as 4"]),
    ],
)
def test_targets_that_make_no_run_are_named(arguments, parts):
    message = refusal(*arguments)
    assert all(part in message for part in parts), message


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


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            ["--weight_bits=8,4"],
            [
                "no budget",
                "one of --target_bops, --target_cost, --target_bytes, --target_flash and --target_latency.",
            ],
        ),
        (
            ["--weight_bits=8,4", "--target_average_bits=4"],
            ["--target_average_bits=4", "bits alone"],
        ),
        (
            ["--target_bytes=1M"],
            ["--target_bytes=1000000 with --weight_bits=4", "such as --weight_bits=8,4,2"],
        ),
        (["--weight_bits=8,4", "--target_bytes=1M"], ["--weight_storage=int8", "int4, int4_xnnpack"]),
        (
            ["--target_ram=48K", "--target_flash=300K"],
            ["--target_flash=300000 with --weight_bits=4", "do not change the flash", "--weight_bits=8,4,2"],
        ),
        (
            ["--weight_bits=8,4", "--target_bytes=1M", "--weight_storage=int4", "--selection=random"],
            ["--selection=random", "search with --target_bytes"],
        ),
        (
            ["--weight_bits=8,4", "--target_bops=1G", "--selection=uniform", "--uniform_bits=4"],
            ["--weight_bits=8,4", "one number with --selection=uniform"],
        ),
    ],
)
def test_budgets_that_do_not_fit_weight_candidates_are_refused(arguments, parts):
    message = refusal(*arguments)
    assert all(part in message for part in parts)


@pytest.mark.parametrize("bits", ["8,8", "9,4", "1,4", "8;4", "8,4,x", "", "8,4,4.5"])
def test_candidate_bits_must_be_distinct_integers_from_2_to_8(bits):
    message = refusal(f"--candidate_bits={bits}")
    assert f"--candidate_bits={bits}" in message and "2, 3, 4, 5, 6, 7, 8" in message


@pytest.mark.parametrize(
    ("argument", "allowed"),
    [
        ("--weight_bits=5", "8, 4, 3, 2"),
        ("--weight_bits=4,4", "two or more distinct ones of 2, 3, 4, 5, 6, 7, 8"),
        ("--weight_bits=8,1", "two or more distinct ones of 2, 3, 4, 5, 6, 7, 8"),
        ("--weight_bits=four", "8, 4, 3, 2"),
        ("--weight_bits=", "8, 4, 3, 2"),
        ("--target_bytes=2.9X", "a number above 0, alone or with K, M, G or T behind it, such as 2.9M"),
        ("--target_bytes=0", "a number above 0"),
        ("--first_last_bits=16", "8, 4, 3, 2"),
        ("--strategy=horovod", "none, mirrored, multi_worker, tpu"),
        ("--compute_dtype=float16", "float32, bfloat16"),
        ("--weight_storage=int3", "int8, int4, int4_xnnpack"),
        ("--input_type=bool", "uint8, int8, float32"),
        ("--output_type=label", "int8, float32, class"),
        ("--model=vgg", "mobilenet_v1, mobilenet_v2, mobilenet_v3_large, resnet8, resnet18"),
        ("--image_size=7", "0, or 8 to 2048"),
        ("--warmup_epochs=inf", "0 or more"),
        ("--width=0", "above 0"),
        ("--width=nan", "above 0"),
        ("--num_classes=1", "0, or 2 or more"),
        ("--float_epochs=-1", "0 or more"),
        ("--batch_size=0", "1 or more"),
        ("--steps_per_epoch=-2", "0 or more"),
        ("--eval_images=-2", "0 or more"),
        ("--select_epochs=1", "2 or more"),
        ("--train_epochs=0", "1 or more"),
        ("--folded_epochs=-1", "0 to 10, the number of --train_epochs"),
        ("--folded_epochs=11", "0 to 10, the number of --train_epochs"),
        ("--warmup_epochs=-0.5", "0 or more"),
        ("--weight_decay=-1", "0 to 1"),
        ("--weight_decay=nan", "0 to 1"),
        ("--regularizer_weight=-1", "0 or more"),
        ("--seed=-1", "0 to 2147483647"),
        ("--momentum=1", "below 1"),
        ("--learning_rate=0", "above 0"),
        ("--float_learning_rate=-1", "above 0"),
        ("--select_learning_rate=inf", "above 0"),
        ("--step_learning_rate=0", "above 0"),
        ("--alpha_learning_rate=0", "above 0"),
        ("--target_average_bits=2", "3 to 8"),
        ("--target_average_bits=9", "3 to 8"),
        ("--target_average_bits=nan", "a number above 0"),
        ("--workdir=", "any folder"),
        ("--optimizer=lion", "sgd, adam, adamw"),
        ("--label_smoothing=1.0", "below 1"),
        ("--label_smoothing=-0.1", "0 or more"),
        ("--ema_decay=1.0", "below 1"),
        ("--ema_decay=nan", "0 or more"),
        ("--distillation_weight=1.5", "0 to 1"),
        ("--distillation_temperature=0", "above 0"),
        ("--teacher=nowhere.keras", "'float' for the float network"),
        ("--selection=greedy", "search, random, uniform"),
        ("--batch_norm_update=median", "mean, sequential, none"),
        ("--uniform_bits=4", "0 without --selection=uniform"),
        ("--bit_selection=nowhere.json", "the bit_selection.json of a run"),
    ],
)
def test_a_value_outside_its_range_is_named_with_what_is_allowed(argument, allowed):
    message = refusal(argument)
    assert argument in message and allowed in message


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--selection=uniform"], ["--uniform_bits=0", "8, 4, 3, the --candidate_bits"]),
        (["--selection=uniform", "--uniform_bits=5"], ["--uniform_bits=5", "8, 4, 3"]),
        (
            ["--selection=uniform", "--uniform_bits=4", "--target_average_bits=nan"],
            ["--target_average_bits=nan", "a number above 0, for example 4"],
        ),
        (["--candidate_bits=8"], ["--candidate_bits=8 leaves nothing to choose", "--selection=uniform"]),
        (["--selection=random", "--nometa_training"], ["--meta_training=false", "nothing is searched"]),
        (["--selection=random", "--train_weights_in_search"], ["--train_weights_in_search=true"]),
        (["--nometa_training", "--batch_norm_update=none"], ["--batch_norm_update=none", "mean"]),
        (["--distillation_weight=0.3"], ["--distillation_weight=0.3", "--teacher=float"]),
        (["--distillation_temperature=2"], ["--distillation_temperature=2.0", "--teacher=float"]),
        ([f"--bit_selection={__file__}", "--selection=random"], ["--selection=random", "search"]),
    ],
)
def test_flags_that_do_nothing_together_are_refused(arguments, parts):
    message = refusal(*arguments)
    assert all(part in message for part in parts)


def test_options_and_ablations_are_off_in_every_flagfile():
    """The paper's recipes have none of them, in as far as its main text says."""
    plain = recipe()
    options = [field.name for kind in KINDS for field in dataclasses.fields(kind)]
    assert len(options) == 28
    for path in {*ROOT.glob("*.flags")} - {ROOT / "mbv3_distilled.flags"}:
        made = Recipe.from_flagfile(path.read_text())
        assert {name: getattr(made, name) for name in options} == {n: getattr(plain, n) for n in options}
    assert (plain.optimizer, plain.teacher, plain.ema_decay, plain.selection) == ("sgd", "", 0.0, "search")


def test_two_budgets_are_refused():
    message = refusal("--target_bops=5.3G", "--target_average_bits=4")
    assert "--target_bops=5300000000" in message and "--target_average_bits=4" in message


def test_a_run_needs_a_float_network():
    message = refusal("--float_epochs=0")
    assert "--float_model=FILE.keras" in message and "--float_epochs=N" in message
    recipe("--float_epochs=0", "--float_model=imagenet").validate()


def test_a_float_model_that_is_no_file_is_refused(tmp_path):
    missing = tmp_path / "net.keras"
    assert str(missing) in refusal(f"--float_model={missing}")


def test_the_class_count_must_be_the_datasets():
    recipe().check_classes(num_classes=10, dataset="digits")
    recipe("--num_classes=10").check_classes(num_classes=10, dataset="digits")
    with pytest.raises(RecipeError, match="--num_classes=7, but the dataset digits has 10"):
        recipe("--num_classes=7").check_classes(num_classes=10, dataset="digits")


@pytest.mark.parametrize("line", ["--no_such_flag=1", "stray", "--seed=abc"])
def test_a_flagfile_that_is_not_ours_is_refused(line):
    with pytest.raises(RecipeError):
        Recipe.from_flagfile(line)


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


ASKED = {
    "two kinds": (
        {"target_bops": 5.0, "target_average_bits": 4.0},
        "target_bops=5.0 and target_average_bits=4.0: give one of them, as both count operations.",
    ),
    "a target without its table": ({"target_cost": 20.0}, "target_cost=20.0 without cost_table"),
    "a table without its target": (
        {"target_bops": 5.0, "cost_table": "t"},
        "cost_table=t without target_cost",
    ),
    "a weighting alone": ({"average_bits_weighting": "plain"}, "average_bits_weighting=plain: it is for"),
    "not a number": ({"target_average_bits": float("nan")}, "target_average_bits=nan: a number above 0"),
    "below 0": ({"target_bytes": -1}, "target_bytes=-1: a number above 0"),
    "a target twice": ({"target_bops": (5, 5)}, "target_bops=5,5: a number, or a list of different"),
}


@pytest.mark.parametrize("case", ASKED)
def test_flags_and_arguments_of_a_budget_are_refused_in_one_sentence(case):
    """The command line's has dashes, its own spelling of values, and advice behind it."""
    arguments, begin = ASKED[case]
    said = []
    for as_flags in (False, True):
        with pytest.raises(BudgetRuleError) as error:
            AskedBudget(**arguments, flags=as_flags).check()
        sentence = str(error.value).split(" Clear ")[0].replace("--", "").replace("(5, 5)", "5,5")
        said.append(sentence.replace("'", ""))
    assert said[0] == said[1] and said[0].startswith(begin)
