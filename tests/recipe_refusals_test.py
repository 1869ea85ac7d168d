"""Recipes that are refused: the sentence names the flag, its value and what is allowed."""

import pytest
from recipes import recipe, refusal

from mmx_tf.errors import RecipeError
from mmx_tf.recipe.budget_rules import AskedBudget, BudgetRuleError
from mmx_tf.recipe.recipe import Recipe, parse_bops


@pytest.mark.parametrize("text", ["", "0", "-5G", "5.3X", "G", "5,3G", "nan", "inf", "0.1", "five"])
def test_bops_that_are_no_number_are_refused(text):
    with pytest.raises(RecipeError, match=r"5\.3G, 800M"):
        parse_bops(text)


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
