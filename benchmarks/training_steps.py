"""What a step of the bit search and of fixed-bit training costs, in float training steps.

    python -m benchmarks.training_steps --json=results/performance/training_steps.json   # about 20 minutes

The unit is one training step (forward, backward, update) of the float network, same batch, same machine. A
bit-meta step with B = 3 candidates cannot cost less than B of them, a bit-search step (no weight gradients)
about 2/3, a fixed-bit step 1. Peers are tfmot's default 8-bit quantization-aware training and its n-bit
scheme at 4 bits; where one refuses a network, its error stands in the results. All steps are interleaved.
A way to train may be asked for with `:bfloat16` behind it, for convolutions in that format.
`benchmarks.ways_to_train` says what each step is.
"""

import sys

from benchmarks import command_line, measuring
from benchmarks.ways_to_train import NETWORKS, WAYS, PeerRefusedError, prepared
from mmx_tf import quiet

MODULE = "benchmarks.training_steps"
IN_BFLOAT16 = tuple(f"{way}:bfloat16" for way in ("float", "meta", "search", "fixed"))


def measured(network: str, *, ways: list[str], batch_size: int, rounds: int) -> dict[str, dict]:
    """The summary of all ways to train one network; first calls and errors included."""
    steps, first_calls, errors = {}, {}, {}
    for way in ways:
        try:
            name, _, dtype = way.partition(":")
            steps[way] = prepared(name, network, batch_size=batch_size, compute_dtype=dtype or "float32")
            first_calls[way] = measuring.seconds_of(steps[way])
        except PeerRefusedError as error:
            errors[way] = {"error": str(error)}
    measuring.interleaved(steps, rounds=1)
    seconds = measuring.interleaved(steps, rounds=rounds)
    summary = measuring.summarized(seconds, reference="float")
    return {
        way: errors[way] if way in errors else summary[way] | {"first_call": first_calls[way]} for way in ways
    }


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the tables; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__, rounds=15)
    command_line.add_choice(parser, "--networks", NETWORKS)
    command_line.add_choice(parser, "--ways", [*WAYS, *IN_BFLOAT16])
    command_line.add_batch_size(parser)
    options = parser.parse_args(argv)
    if "float" not in options.ways:
        parser.error("--ways needs float, the unit of the ratios.")
    quiet.set_up_logging()
    results = {}
    for name in options.networks:
        results[name] = measured(
            name, ways=options.ways, batch_size=options.batch_size, rounds=options.rounds
        )
        print(measuring.table(name, results[name]), flush=True)
    command_line.write_results(MODULE, options, unit="s", results=results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
