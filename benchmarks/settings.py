"""What TensorFlow's allocator and oneDNN's kernels do for a float training step on this CPU.

    python -m benchmarks.settings --json=results/performance/settings.json        # about 10 minutes

`mmx_tf.startup` turns the first on. Each combination is timed by `benchmarks.training_steps` in
processes of its own, which alternate, since TensorFlow reads its settings once.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from benchmarks import command_line, measuring
from benchmarks.ways_to_train import NETWORKS

MODULE = "benchmarks.settings"
SETTINGS = {
    "neither": {"TF_CPU_ALLOCATOR_USE_BFC": "0", "TF_ENABLE_ONEDNN_OPTS": "0"},
    "allocator": {"TF_CPU_ALLOCATOR_USE_BFC": "1", "TF_ENABLE_ONEDNN_OPTS": "0"},
    "onednn": {"TF_CPU_ALLOCATOR_USE_BFC": "0", "TF_ENABLE_ONEDNN_OPTS": "1"},
    "both": {"TF_CPU_ALLOCATOR_USE_BFC": "1", "TF_ENABLE_ONEDNN_OPTS": "1"},
}
_ROOT = pathlib.Path(__file__).resolve().parents[1]


def seconds_with(settings: dict[str, str], network: str, options) -> float:
    """The median seconds of a float step of a network, in a process with these environment variables.

    Raises:
      RuntimeError: with the process's own words, if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "steps.json")
        arguments = [f"--networks={network}", "--ways=float", f"--batch_size={options.batch_size}"]
        arguments += ["--rounds=5", f"--json={path}"]
        command = [sys.executable, "-m", "benchmarks.training_steps", *arguments]
        done = subprocess.run(
            command, cwd=_ROOT, env={**os.environ, **settings}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return json.loads(path.read_text())["results"][network]["float"]["median"]


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the tables; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__, rounds=3)
    command_line.add_choice(parser, "--networks", NETWORKS)
    command_line.add_batch_size(parser)
    options = parser.parse_args(argv)
    results = {}
    for network in options.networks:
        seconds = {name: [] for name in SETTINGS}
        for _ in range(options.rounds):
            for name, settings in SETTINGS.items():
                seconds[name].append(seconds_with(settings, network, options))
        results[network] = measuring.summarized(seconds, reference="neither")
        print(measuring.table(network, results[network]), flush=True)
    command_line.write_results(MODULE, options, unit="s", results=results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
