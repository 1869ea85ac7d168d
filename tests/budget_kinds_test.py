"""A kind of budget is one module and one field: rules, flags and `augment` find it by themselves."""

import dataclasses
import inspect
import json

import pytest
from networks import small_network

import mmx_tf
from mmx_tf.metamix.file_bytes import costs_in_bytes
from mmx_tf.recipe import budget_rules, budgets
from mmx_tf.recipe.fields import RecipeFields
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run import pipeline
from mmx_tf.run.export_stage import convert_options

RUNNABLE = "--float_epochs=1\n--workdir=w\n--image_size=16\n--candidate_bits=8,4\n"
TARGETS = [field.name for field in dataclasses.fields(RecipeFields) if field.name.startswith("target_")]
KINDS = budget_rules.KINDS


def recipe(*lines: str) -> Recipe:
    return Recipe.from_flagfile(RUNNABLE + "\n".join(lines))


def test_every_flag_of_a_target_is_a_kind():
    assert list(KINDS) == TARGETS
    assert len(TARGETS) >= 4


@pytest.mark.parametrize("name", TARGETS)
def test_augment_gets_what_the_flag_says(name):
    """And nothing else: the default average is no second budget."""
    asked = recipe(f"--{name}={KINDS[name].example}")
    value = getattr(asked, name)
    options = pipeline._search_options(asked)
    assert value and options[name] == value
    assert [other for other in TARGETS if options[other] is not None] == [name]
    assert options.keys() <= inspect.signature(mmx_tf.augment).parameters.keys()


@pytest.mark.parametrize("name", [name for kind in KINDS.values() for name in kind.beside])
def test_augment_gets_what_belongs_to_a_target(name):
    asked = dataclasses.replace(recipe(), **{name: "plain"})
    assert pipeline._search_options(asked)[name] == "plain"


@pytest.mark.slow
def test_a_run_searches_within_the_budget_of_its_flag(digits, tmp_path):
    table = {"unit": "us", "layers": {name: {"8": 2, "4": 1} for name in ("depthwise", "project", "expand")}}
    (tmp_path / "table.json").write_text(json.dumps(table))
    weights = ("--weight_bits=8,4", "--weight_storage=int4")
    free = mmx_tf.augment(small_network(), bit_widths=(8, 4), weight_bits=(8, 4))
    low, high = costs_in_bytes(free, convert_options(recipe(*weights), digits.class_names)).reachable
    flags = {
        "target_bops": (["--target_bops=400000"], 400_000),
        "target_average_bits": (["--target_average_bits=5"], 3536 * 64 + 8832 * 4 * 5),
        "target_cost": ([f"--cost_table={tmp_path / 'table.json'}", "--target_cost=4"], 4.0),
        "target_bytes": ([f"--target_bytes={int(high) - 1}", *weights], high - 1),
        "target_ram": (["--target_ram=1K"], 1000.0),
        "target_flash": (["--target_flash=1M", *weights], 1e6),
        "target_latency": (["--target_latency=1s", "--device=cpu"], 1e3),
    }
    for name in TARGETS:
        lines, target = flags[name]
        asked = recipe(*lines)
        asked.validate()
        budget = pipeline.search_network(asked, small_network(), digits).budget
        assert (name, budget.constraints[0][1]) == (name, target)
        assert (budget.others == ()) == KINDS[name].in_bops
    assert low < high


def test_one_bit_width_everywhere_is_its_own_budget():
    asked = recipe("--selection=uniform", "--uniform_bits=8", "--target_bops=1G")
    asked.validate()
    options = pipeline._search_options(asked)
    assert {name: options[name] for name in TARGETS if options[name] is not None} == {
        "target_average_bits": 8
    }


def test_every_argument_of_a_budget_is_in_the_signature_and_the_docstring():
    parameters = inspect.signature(mmx_tf.augment).parameters
    assert all(one.kind is not one.VAR_KEYWORD for one in parameters.values())
    for name, argument in budget_rules.ARGUMENTS.items():
        assert parameters[name].default == argument.default
    for name in parameters:
        assert f"\n      {name}: " in mmx_tf.augment.__doc__
    with pytest.raises(TypeError, match="augment has no argument 'target_bop'. Did you mean target_bops?"):
        mmx_tf.augment(small_network(), target_bop=5e9)
    with pytest.raises(TypeError, match=f"has no argument 'x'. It has {', '.join(list(parameters)[1:])}."):
        mmx_tf.augment(small_network(), x=1)


def test_a_module_without_a_field_is_named(tmp_path, monkeypatch):
    (tmp_path / "target_joules.py").write_text(
        "from mmx_tf.recipe import budgets\nclass Kind(budgets.Kind): ..."
    )
    monkeypatch.setattr(budgets, "__path__", [*budgets.__path__, str(tmp_path)])
    with pytest.raises(TypeError, match="without a field in mmx_tf.recipe.fields: {'target_joules'}"):
        budgets.kinds()
