"""Runs a .tflite on this machine with the command line and the output format of LiteRT's benchmark_model.

Its times are measured: by LiteRT's interpreter, and by LiteRT's profiler for --enable_op_profiling. The
format is that of tflite/tools/benchmark and tsl/util/stats_calculator. It stands where the tool stands on a
phone; the environment can make it an older release (DEVICE_OLD: averages, no medians) or one without the flag
for XNNPACK (DEVICE_WITHOUT_XNNPACK_FLAG), or have it die (DEVICE_DIES).
"""

import os
import pathlib
import statistics
import sys

from mmx_tf.export.benchmark.interpreter import operators, partitions, run, start
from mmx_tf.export.benchmark.profiler import profile


def main():
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
    path, threads = pathlib.Path(flags.pop("graph")), int(flags.pop("num_threads"))
    runs, warmup = int(flags.pop("num_runs")), int(flags.pop("warmup_runs"))
    assert float(flags.pop("min_secs")) == float(flags.pop("warmup_min_secs")) == 0
    say = lambda text: print(f"INFO: {text}")  # noqa: E731
    say("STARTING!")
    say("Log parameter values verbosely: [0]")
    if "DEVICE_WITHOUT_XNNPACK_FLAG" in os.environ:
        print("WARN: Unconsumed cmdline flags: --use_xnnpack=true")
    if "DEVICE_DIES" in os.environ:
        os.abort()
    say(f"Loaded model {path}")
    try:
        interpreter, init_ms, first_ms = start(path, threads)
    except ValueError as error:
        print(f"ERROR: {error}\nERROR: Benchmarking failed.", file=sys.stderr)
        return 1
    assert flags.pop("use_xnnpack") == "true"
    taken = partitions(interpreter)
    if len(taken) == 1 and len(taken[0]) == len(operators(interpreter)):
        how = "completely executed by the delegate."
    else:
        how = f"partially executed by the delegate w/ {len(taken)} delegate kernels."
    say(f"Explicitly applied XNNPACK delegate, and the model graph will be {how}")
    say(f"Initialized session in {init_ms}ms.")
    warm = [round(1e3 * ms) for ms in [first_ms, *(run(interpreter) for _ in range(warmup - 1))]]
    say(f"{statistics_of(warm)}\n")
    times = [round(1e3 * run(interpreter)) for _ in range(runs)]
    say(f"{statistics_of(times)}\n")
    say(
        f"Inference timings in us: Init: {round(1e3 * init_ms)}, First inference: {warm[0]}, "
        f"Warmup (avg): {statistics.mean(warm):g}, Inference (avg): {statistics.mean(times):g}"
    )
    say("Memory footprint delta from the start of the tool (MB): init=1.5 overall=2.25")
    if flags.pop("enable_op_profiling", "false") == "true":
        say("Profiling Info for Benchmark Initialization:")
        print_table([("AllocateTensors", 0.25, 1, "AllocateTensors/0")])
        say("Operator-wise Profiling Info for Regular Benchmark Runs:")
        print_table(rows_of(path, threads, runs, operators(interpreter)))
    assert not flags, flags
    return 0


def statistics_of(values):
    if min(values) == max(values):
        text = f"count={len(values)} curr={values[-1]}" + ("(all same)" if len(values) > 1 else "")
    else:
        text = (
            f"count={len(values)} first={values[0]} curr={values[-1]} min={min(values)} max={max(values)} "
            f"avg={statistics.mean(values):g} std={int(statistics.pstdev(values))}"
        )
    if "DEVICE_OLD" in os.environ:
        return text
    order = sorted(values)
    at = {percent: order[len(order) * percent // 100] for percent in (5, 50, 95)}
    return f"{text} p5={at[5]} median={at[50]} p95={at[95]}"


def rows_of(path, threads, runs, own):
    rows, place = {}, 0
    for kernel in profile(path, threads=threads, runs=runs, warmup=0)[0]:
        if kernel.operator is None:
            name, place = f"Delegate/{kernel.name}:{place}", place + 1
        else:
            # Only a new partition counts its kernels from 0 again; the tool adds up equal names.
            name, place = f"[{own[kernel.operator].output}]:{kernel.operator}", 0
        times = rows.setdefault(name, (kernel.name, []))[1]
        times.append(kernel.median_ms)
    return [(kind, statistics.mean(times), len(times), name) for name, (kind, times) in rows.items()]


def print_table(rows):
    def line(kind, first, average, share, cumulated, memory, calls, name):
        fields = (first, 9), (average, 9), (share, 8), (cumulated, 8), (memory, 10), (calls, 9)
        print("\t".join(["", kind.rjust(40), *(str(text).rjust(width) for text, width in fields), name]))

    for title in ("Run Order", "Top by Computation Time"):
        print(f"{30 * '='} {title} {30 * '='}")
        line("[node type]", "[first]", "[avg ms]", "[%]", "[cdf%]", "[mem KB]", "[times called]", "[Name]")
        for kind, average, calls, name in rows:
            line(kind, f"{average:.3f}", f"{average:.3f}", "1.000%", "1.000%", "0.000", calls, name)
        print()


if __name__ == "__main__":
    sys.exit(main())
