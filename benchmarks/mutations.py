"""Do the tests see it when a line that matters is wrong? Breaks such lines one by one and runs tests.

    python -m benchmarks.mutations --json=results/mutations.json
    python -m benchmarks.mutations --only=search_loss_without_task    # one of them

Each mutation changes one place of a copy of the repository, so that it computes something else, and runs the
test files that are to notice. It is *caught* where a test fails, and the first that did is named; one that
*survives* is a hole in the tests. A run takes about half a minute for each mutation.
"""

import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from benchmarks import command_line

MODULE = "benchmarks.mutations"
ROOT = pathlib.Path(__file__).resolve().parents[1]
TIMEOUT = 900
COPIED = ("mmx_tf", "layers", "export", "benchmarks", "tests", "pyproject.toml", "quick.flags")


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One place of a file that is changed.

    Attributes:
      name: says what is then wrong.
      file: path from the repository's root.
      line: text that stands there exactly once.
      mutated: what takes its place.
      tests: test files that are run, the likeliest first.
    """

    name: str
    file: str
    line: str
    mutated: str
    tests: tuple[str, ...]


STEPS = "mmx_tf/metamix/algorithm.py"
PASSES = "mmx_tf/metamix/passes.py"
MUTATIONS = (
    Mutation(
        "search_loss_without_task", STEPS,
        "tf.reduce_sum(task_loss) + search", "0.0 * tf.reduce_sum(task_loss) + search",
        ("search_test", "fit_loss_test"),
    ),
    Mutation(
        "search_loss_without_regularizer", STEPS,
        "search.regularizer_weight * regularizer", "0.0 * search.regularizer_weight * regularizer",
        ("search_test", "targets_search_test"),
    ),
    Mutation(
        "search_step_in_inference_mode", STEPS,
        "search(images, training=True, branch=MIXED", "search(images, training=False, branch=MIXED",
        ("search_test", "targets_search_test"),
    ),
    Mutation(
        "search_step_keeps_new_statistics", PASSES,
        "    assign(search.batch_norm_statistics, statistics)\n", "",
        ("search_test",),
    ),
    Mutation(
        "meta_gradient_is_a_sum", PASSES,
        "return [gradient / branches for gradient in gradients]", "return list(gradients)",
        ("search_test",),
    ),
    Mutation(
        "meta_statistics_of_the_last_branch", PASSES,
        "assign(running, [value / branches for value in new_statistics])", "pass",
        ("search_test",),
    ),
    Mutation(
        "weight_branch_does_not_rotate", PASSES,
        "(i + tf.cast(search.optimizer.iterations, tf.int32))", "(i + 0)",
        ("weight_search_test",),
    ),
    Mutation(
        "search_begins_an_epoch_late", "mmx_tf/metamix/search.py",
        "searching.assign(finished >= self.meta_epochs)",
        "searching.assign(finished > self.meta_epochs)",
        ("search_test",),
    ),
    Mutation(
        "regularizer_not_relative", "mmx_tf/metamix/target.py",
        "(selected_cost(alpha, costs, budget) - goal) / goal", "(selected_cost(alpha, costs, budget) - goal)",
        ("targets_search_test", "search_test"),
    ),
    Mutation(
        "hard_bits_without_softmax_gradient", "layers/lsq/straight_through.py",
        "return probabilities * (upstream - inner)", "return upstream - inner",
        ("straight_through_test", "bops_test"),
    ),
    Mutation(
        "alpha_gradient_without_softmax", "layers/lsq/formulas.py",
        "probabilities * (slopes - tf.reduce_sum(probabilities * slopes))",
        "slopes - tf.reduce_sum(probabilities * slopes)",
        ("lsq_test",),
    ),
    Mutation(
        "step_gradient_without_the_inside", "layers/lsq/formulas.py",
        "- tf.where(inside, scaled, 0.0)", "- tf.where(inside, tf.round(scaled), 0.0)",
        ("lsq_test",),
    ),
    Mutation(
        "gradient_passes_where_clipped", "layers/lsq/formulas.py",
        "return (x >= grid.first) & (x <= grid.last)", "return x >= grid.first",
        ("lsq_test",),
    ),
    Mutation(
        "rounding_half_up", "layers/lsq/formulas.py",
        "tf.clip_by_value(tf.round(x / grid.step_size), grid.low",
        "tf.clip_by_value(tf.floor(x / grid.step_size + 0.5), grid.low",
        ("lsq_test",),
    ),
    Mutation(
        "gradient_scale_of_the_batch", "layers/lsq/lsq.py",
        "return 1.0 / math.sqrt(elements * high)", "return 1.0 / (elements * high)",
        ("lsq_test", "activation_quantizer_test"),
    ),
    Mutation(
        "first_step_size_half", "layers/lsq/lsq.py",
        "tf.maximum(2.0 * mean / tf.sqrt", "tf.maximum(1.0 * mean / tf.sqrt",
        ("lsq_test",),
    ),
    Mutation(
        "running_variance_of_the_sample", "layers/batch_norm.py",
        "variance * samples / tf.maximum(samples - 1.0, 1.0)", "variance",
        ("batch_norm_test",),
    ),
    Mutation(
        "batch_norm_gradient_two_percent_off", "layers/batch_norm.py",
        "arithmetic.gradients(norm, upstream)", "arithmetic.gradients(norm, 1.01 * upstream)",
        ("batch_norm_test",),
    ),
    Mutation(
        "step_size_of_the_first_branch", "mmx_tf/metamix/rebuild.py",
        "branch = quantizer.bit_widths.index(bits)", "branch = 0",
        ("rebuild_test",),
    ),
    Mutation(
        "zero_point_one_off", "layers/grid.py",
        "return cls(step_size, HIGHEST - highest_code)", "return cls(step_size, HIGHEST - 1 - highest_code)",
        ("fold_test", "flatbuffer_test"),
    ),
    Mutation(
        "mean_not_folded_into_the_bias", "mmx_tf/folding/bias.py",
        "beta + (bias - _float64(batch_norm.moving_mean)) * factor", "beta + bias * factor",
        ("fold_test",),
    ),
    Mutation(
        "end_layers_cost_nothing", "mmx_tf/budget/budget.py",
        "sum(cost.macs for cost in self.costs if cost.end) * self.first_last_bits**2", "0",
        ("budget_test", "golden_bops_test"),
    ),
)  # fmt: skip


def broken(root: pathlib.Path, mutation: Mutation) -> None:
    """Changes the file of a mutation below a copy of the repository.

    Raises:
      ValueError: if the line does not stand there exactly once: it has changed, and this list has to follow.
    """
    path = root / mutation.file
    text = path.read_text()
    if text.count(mutation.line) != 1:
        raise ValueError(
            f"mutation {mutation.name}: {mutation.line!r} stands {text.count(mutation.line)} times in "
            f"{mutation.file}; it must stand there once. Follow the change in {MODULE}."
        )
    path.write_text(text.replace(mutation.line, mutation.mutated))


def caught_by(mutation: Mutation, *, root: pathlib.Path = ROOT) -> str | None:
    """The first test that fails with a mutation; None if it survives.

    Raises:
      RuntimeError: if the tests cannot be run at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder)
        for name in COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(root / name, copy / name)
        broken(copy, mutation)
        tests = [f"tests/{name}.py" for name in mutation.tests]
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
            cwd=copy, capture_output=True, text=True, timeout=TIMEOUT,
            env={**os.environ, "PYTHONPATH": str(copy)},
        )  # fmt: skip
    failed = re.search(r"^FAILED (.+?)(?: - .*)?$", run.stdout, re.MULTILINE)
    if run.returncode == 1 and failed:
        return failed.group(1)
    if run.returncode == 0:
        return None
    raise RuntimeError(f"mutation {mutation.name}: pytest ended with {run.returncode}: {run.stdout[-2000:]}")


def main(arguments=None) -> int:
    """Runs the mutations, prints what catches each, returns 1 if one survives."""
    parser = command_line.argument_parser(MODULE, __doc__)
    command_line.add_choice(parser, "--only", [mutation.name for mutation in MUTATIONS])
    options = parser.parse_args(arguments)
    results = {}
    for mutation in MUTATIONS:
        if mutation.name in options.only:
            found = caught_by(mutation)
            results[mutation.name] = dataclasses.asdict(mutation) | {"caught_by": found}
            print(f"{mutation.name:40s} {found or 'SURVIVES'}", flush=True)
    command_line.write_results(MODULE, options, unit="mutations", results=results)
    return int(any(row["caught_by"] is None for row in results.values()))


if __name__ == "__main__":
    sys.exit(main())
