"""The report's section on microcontrollers, from a real file."""

import re

import pytest
from comparison_test import metrics_of
from networks import small_network
from report_test import _write, metrics, selection  # noqa: F401 (fixtures)

import mmx_tf
from mmx_tf.export.c_source import c_source
from mmx_tf.export.c_source.memory_facts import memory_facts
from mmx_tf.metamix.file_bytes import TrialFiles
from mmx_tf.report import themes
from mmx_tf.report.comparison import comparison
from mmx_tf.report.memory import layer_of, memory, ram_figure


@pytest.fixture(scope="module")
def data():
    search = mmx_tf.augment(small_network(), bit_widths=(8, 4), target_average_bits=4)
    return TrialFiles(search, [1] * len(search.budget.searched), {}).with_activation_bits([4, 4, 4])


def test_the_facts_are_those_of_both_programs(data):
    facts = memory_facts(data)
    for width in ("packed", "int8"):
        made = c_source(data, activations=width, weights=width)
        assert facts[width]["ram_bytes"] == made.ram_bytes >= max(facts[width]["live_bytes"])
        assert facts[width]["flash_bytes"] == made.flash_bytes
        assert len(facts[width]["live_bytes"]) == len(facts[width]["steps"]) == len(made.program.steps)
    assert facts["packed"]["ram_bytes"] < facts["int8"]["ram_bytes"]
    # In so small a network the table that packed activations are looked up in weighs more than they save.
    assert c_source(data, activations="int8").flash_bytes < facts["int8"]["flash_bytes"]


def test_the_page_shows_them(tmp_path, selection, metrics, data):  # noqa: F811
    facts = memory_facts(data)
    page = _write(tmp_path, selection, {**metrics, "microcontroller": facts})
    for number in (facts[width][key] for width in ("packed", "int8") for key in ("ram_bytes", "flash_bytes")):
        assert f"{number:,} bytes" in page.text
    assert facts["packed"]["peak"][0] in page.text
    assert "mmx_tf c_source model.tflite --out=FOLDER" in page.text and "python -m" not in page.text
    assert any(re.search(r"live at each of \d+ steps", alt) for alt in page.alts)


def test_layers_have_the_names_of_the_users_network(data):
    assert layer_of("sep_input_quantizer_lower_clip") == "the input of sep"
    assert (layer_of("add_carrier_2"), layer_of("my_sum_2")) == ("add", "my_sum_2")
    # Every name is either a layer's or says whose input it is.
    own = {layer.name for layer in small_network().layers}
    for name in memory_facts(data)["packed"]["steps"]:
        assert layer_of(name).removeprefix("the input of ") in own
    facts = memory_facts(data)
    facts["packed"]["peak"] = ["conv_input_quantizer", "conv_input_quantizer_shared"]
    assert "Live at that step: the input of conv. " in memory(facts).words


def test_the_figure_names_the_fullest_step_and_has_units(data):
    facts = memory_facts(data)
    axes = ram_figure(facts, theme=themes.LIGHT).axes[0]
    live = facts["packed"]["live_bytes"]
    place = live.index(max(live))
    (note,) = axes.texts
    layer = layer_of(facts["packed"]["steps"][place])
    assert note.get_text() == f"{layer}: {max(live) / 1000:,.1f} kB packed"
    assert axes.get_ylabel().endswith(", kB") and axes.get_ylim()[1] > max(facts["int8"]["live_bytes"]) / 1000


def test_a_peak_of_8_bits_says_why_packing_saves_nothing(data):
    facts = memory_facts(data)
    assert "Both are equal" not in memory(facts).words
    assert set(facts["packed"]["wide"]) <= set(facts["packed"]["peak"]) and facts["int8"]["wide"]
    equal = memory({"packed": facts["int8"], "int8": facts["int8"]}).words
    assert "Both are equal here" in equal and facts["int8"]["wide"][0] in equal


def test_plain_int8_is_told_from_8_bits_everywhere_where_they_differ(data):
    facts = memory_facts(data)
    ours = facts["int8"]
    for more, told in ((0, False), (8, True)):
        int8 = {"ram_bytes": ours["ram_bytes"], "flash_bytes": ours["flash_bytes"] + more}
        found = metrics_of(microcontroller=facts)
        found["baselines"]["int8"]["microcontroller"] = {"int8": int8}
        words = memory(facts, comparison(found)).words
        assert ("plain int8 in the table above is another file" in words) == told
    assert "plain int8" not in memory(facts).words
    share = facts["packed"]["ram_bytes"] / ours["ram_bytes"]
    assert f"fullest step, {100 - 100 * share:.0f}% less than 8 bits take." in words


def test_a_file_without_c_source_says_why(tmp_path, selection, metrics):  # noqa: F811
    page = _write(tmp_path, selection, {**metrics, "microcontroller": {"refused": "operator 3 (<LSTM>)"}})
    assert "no C source: operator 3 (<LSTM>)" in page.text
    assert memory(None) is None
