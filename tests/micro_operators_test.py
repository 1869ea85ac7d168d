"""What export.reading.micro_operators knows of TensorFlow Lite Micro is what its interpreter says."""

import itertools

import micro_files
import numpy as np
import pytest
from micro_files import NUMPY, OF_ONE_TYPE, converting, operator, weighted
from small_files import VALID, Net, options, random_codes, run_litert, schema

from benchmarks import micro_interpreter
from mmx_tf.export.reading.micro_operators import FORMS, SOFTMAX_LIMIT, refusals, resolver_method
from mmx_tf.export.reading.tflite_file import parse

pytestmark = [pytest.mark.broad, micro_files.interpreter_needed]

WEIGHT_TYPES = ("INT8", "INT4", "INT2", "UINT8", "INT16", "FLOAT16", "FLOAT32")
CONVERTING = ("QUANTIZE", "DEQUANTIZE")


def test_the_operators_of_the_table_are_those_that_micro_has():
    # A custom operator is looked for by a name of its own.
    kinds = [k for k, code in vars(schema.BuiltinOperator).items() if isinstance(code, int) and k != "CUSTOM"]
    jobs = []
    for kind in kinds:
        net = Net(3)
        x, y = net.input("x", (4,)), net.tensor("y", (4,))
        jobs.append((net.file_of(kind, [x], y), [np.ones((1, 4), np.int8)]))
    answers = micro_interpreter.run(jobs)
    lacking = {k for k, answer in zip(kinds, answers, strict=True) if "Didn't find op" in answer.refusal}
    assert lacking == {kind for kind in kinds if resolver_method(kind) is None}
    assert "BUCKETIZE" in lacking and len(kinds) - len(lacking) == 100


def test_the_types_of_the_table_are_those_that_micro_takes():
    """Every operator of the table in every type, the weights of those that have some too."""
    jobs = {(kind, name): build(name) for kind, build in OF_ONE_TYPE.items() for name in NUMPY}
    for kind, source, result in itertools.product(CONVERTING, NUMPY, NUMPY):
        jobs[kind, f"{source} {result}"] = converting(kind, source, result)
    for kind, source, weights in itertools.product(micro_files.WEIGHTED, NUMPY, WEIGHT_TYPES):
        jobs[kind, f"{source} {weights}"] = weighted(kind, source, weights, per_channel=False)
    answers = dict(zip(jobs, micro_interpreter.run(jobs.values()), strict=True))
    measured = {kind: set() for kind, _ in jobs}
    for (kind, form), answer in answers.items():
        if answer.outputs is not None:
            measured[kind].add(form)
        assert bool(refusals(parse(jobs[kind, form][0]))) == (answer.outputs is None), (kind, form)
    assert measured == FORMS


def softmax(classes, kind="INT8"):
    fields = options("Softmax", beta=1.0)
    return operator("SOFTMAX", [(kind, (classes,))], (kind, (classes,)), fields)


def concatenation(scales, kind="INT8"):
    fields = options("Concatenation", axis=3)
    return operator("CONCATENATION", [(kind, (4, 4, 3))] * 2, (kind, (4, 4, 6)), fields, scales=scales)


RULES = {
    "with INT4 weights of several scales": (
        weighted("FULLY_CONNECTED", weights="INT4"),
        [weighted("FULLY_CONNECTED", weights="INT4", per_channel=False), weighted("FULLY_CONNECTED")],
    ),
    "with INT2 weights": (weighted("CONV_2D", weights="INT2"), [weighted("CONV_2D", weights="INT4")]),
    "whose bias is left out": (
        weighted("DEPTHWISE_CONV_2D", bias="left out"),
        [weighted("DEPTHWISE_CONV_2D", bias="none"), weighted("CONV_2D", bias="left out")],
    ),
    "of an input on another grid than the output's": (
        concatenation([0.1, 0.2]), [concatenation([0.1, 0.1]), concatenation([0.1, 0.2], "FLOAT32")],
    ),
    "of 512 classes or more (where they are nearly equal, it aborts)": (
        softmax(SOFTMAX_LIMIT), [softmax(SOFTMAX_LIMIT - 1), softmax(SOFTMAX_LIMIT, "FLOAT32")],
    ),
    "of UINT8 to FLOAT16": (converting("DEQUANTIZE", "UINT8", "FLOAT16"), []),
}  # fmt: skip


def test_what_else_is_refused_is_refused_and_its_neighbours_are_not():
    for reason, (refused, taken) in RULES.items():
        (refusal,) = refusals(parse(refused[0]))
        assert refusal.reason == reason and refusal.instead and refusal.tensor
        first, *others = micro_interpreter.run([refused, *taken])
        assert first.outputs is None, reason
        for (data, _), answer in zip(taken, others, strict=True):
            assert refusals(parse(data)) == () and answer.outputs is not None, reason


def random_layer(rng, seed):
    """A convolution, depthwise convolution or dense layer of int8 codes with random sizes and weights."""
    kind = rng.choice(list(micro_files.WEIGHTED))
    height, width, inputs, outputs, window, stride = rng.integers(1, [8, 8, 10, 9, 4, 3])
    options_name, fields = micro_files.WEIGHTED[kind][-1]
    if kind == "FULLY_CONNECTED":
        layout = ((outputs, inputs), 0, (inputs,), (outputs,), (options_name, fields))
    else:
        height, width = height + window, width + window
        fields = fields | {"padding": VALID, "strideH": stride, "strideW": stride}
        depthwise = kind == "DEPTHWISE_CONV_2D"
        outputs = inputs if depthwise else outputs
        shape = (1 if depthwise else outputs, window, window, inputs)
        result = ((height - window) // stride + 1, (width - window) // stride + 1, outputs)
        layout = (shape, 3 if depthwise else 0, (height, width, inputs), result, (options_name, fields))
    weights, per_channel = rng.choice(["INT8", "INT4"]), bool(rng.integers(2))
    return kind, *weighted(kind, weights=weights, per_channel=per_channel, layout=layout, seed=seed)


def test_layers_of_any_size_run_as_predicted_with_the_codes_of_litert_reference_kernels():
    """Allowed: FULLY_CONNECTED, which LiteRT's kernels round once and Micro's twice, by one code."""
    rng, layers = np.random.default_rng(11), []
    for seed in range(80):
        layers.append(random_layer(rng, seed))
    answers = micro_interpreter.run([(data, inputs) for _, data, inputs in layers])
    differing, codes = {kind: 0 for kind in micro_files.WEIGHTED}, 0
    for (kind, data, (images,)), answer in zip(layers, answers, strict=True):
        assert bool(refusals(parse(data))) == (answer.outputs is None)
        if answer.outputs is not None:
            # Its batch is fixed, as Micro wants it.
            rows = [run_litert(data, {"x": image[None]}, "reference")["y"] for image in images]
            found = np.abs(np.concatenate(rows).astype(int) - answer.outputs[0])
            assert found.max() <= (1 if kind == "FULLY_CONNECTED" else 0), kind
            differing[kind] += np.count_nonzero(found)
            codes += found.size
    assert codes > 3000 and differing["FULLY_CONNECTED"] < 20
    assert sum(answer.outputs is None for answer in answers) > 3


def test_every_other_operator_gives_the_codes_of_litert_reference_kernels():
    rng, jobs = np.random.default_rng(12), []
    for build in OF_ONE_TYPE.values():
        data, inputs = build("INT8")
        jobs.append((data, [random_codes(rng, (40, *values.shape[1:])) for values in inputs]))
    for (kind, (data, inputs)), answer in zip(
        zip(OF_ONE_TYPE, jobs, strict=True), micro_interpreter.run(jobs), strict=True
    ):
        rows = []
        for row in zip(*inputs, strict=True):
            named = {f"x{place}": values[None] for place, values in enumerate(row)}
            rows.append(run_litert(data, named, "reference")["y"])
        np.testing.assert_array_equal(np.concatenate(rows), answer.outputs[0], err_msg=kind)
