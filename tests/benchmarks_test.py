"""The arithmetic and the files of the benchmarks, on hand-made values; nothing here is timed."""

import argparse
import json

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import (
    command_line,
    input_pipeline,
    measuring,
    peak_memory,
    performance,
    quantizer_op,
    step_profile,
    tracing,
)
from mmx_tf.data.loading import load
from mmx_tf.export import provenance


def test_every_round_runs_all_and_begins_with_another():
    order = []
    functions = {name: lambda name=name: order.append(name) for name in "abc"}
    measuring.interleaved(functions, rounds=4)
    assert "".join(order) == "abcbcacababc"


def test_a_timing_is_of_one_call():
    # Each timing reads the clock twice: "a" takes 6 s, then 2 s; "b" 4 s, then 8 s; three calls each.
    ticks = iter([0, 6, 10, 14, 20, 28, 30, 32])
    calls = []
    functions = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = measuring.interleaved(functions, rounds=2, calls=2, clock=lambda: next(ticks))
    assert seconds == {"a": [3.0, 1.0], "b": [2.0, 4.0]}
    assert "".join(calls) == "aabbbbaa"


@pytest.mark.parametrize("wrong", [{"functions": {}}, {"rounds": 0}, {"calls": 0}])
def test_nothing_to_time_is_refused(wrong):
    arguments = {"functions": {"a": list}, "rounds": 1, "calls": 1} | wrong
    with pytest.raises(ValueError, match="at least 1 of each"):
        measuring.interleaved(arguments.pop("functions"), **arguments)


def test_seconds_of_one_call():
    ticks = iter([5.0, 7.5])
    assert measuring.seconds_of(list, clock=lambda: next(ticks)) == 2.5


def test_summary():
    # The machine was three times slower in the last round; the ratios of the rounds are 2, 2, 4 and 2.
    measured = {"float": [1.0, 1.0, 1.0, 3.0], "meta": [2.0, 2.0, 4.0, 6.0]}
    summary = measuring.summarized(measured, reference="float")
    # Quartiles of 2, 2, 4, 6: 2 and 4.5 by linear interpolation, around a median of 3.
    assert summary["meta"] == {"median": 3.0, "minimum": 2.0, "spread": pytest.approx(2.5 / 3), "ratio": 2.0}
    assert summary["float"]["ratio"] == 1.0


def test_table_shows_numbers_and_errors():
    summary = {
        "float": {"median": 0.1, "minimum": 0.05, "spread": 0.25, "ratio": 1.0, "first_call": 2.0},
        "peer": {"error": "RuntimeError: no"},
    }
    lines = measuring.table("network", summary).splitlines()
    assert lines[1].split() == ["float", "100.000", "50.000", "25.0%", "1.000", "2000.0"]
    assert lines[2].split(maxsplit=1) == ["peer", "RuntimeError: no"]


def test_a_document_round_trips_with_what_made_it(tmp_path):
    path = tmp_path / "folder" / "result.json"
    measuring.write_json(path, measuring.document("python -m it", unit="s", results={"case": {}}))
    read = json.loads(path.read_text())
    assert read["command"] == "python -m it"
    assert read["results"] == {"case": {}}
    assert read["provenance"]["machine"] == provenance.machine()
    assert read["provenance"]["commit"] == provenance.commit()
    assert {"python", "tensorflow", "tf-keras"} <= set(read["versions"])


def test_the_command_of_options_has_no_path_of_this_machine():
    options = argparse.Namespace(json="/x.json", workdir="/somewhere", threads=[1, 2], rounds=3)
    assert (
        command_line.command("benchmarks.it", options, workdir="W")
        == "python -m benchmarks.it --workdir=W --threads=1,2 --rounds=3"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--networks=a,zebra"], "['zebra'] is unknown; known are a, b."),
        (["--networks="], "nothing is named; known are a, b."),
        (["--rounds=0"], "'0' is no integer of 1 or more."),
        (["--rounds=many"], "'many' is no integer of 1 or more."),
        (["--threads="], "'' is no list of integers"),
    ],
)
def test_wrong_options_are_told(arguments, said, capsys):
    parser = command_line.argument_parser("benchmarks.it", "One line.\n\nMore.", rounds=5)
    command_line.add_choice(parser, "--networks", ("a", "b"))
    parser.add_argument("--threads", type=command_line.integers)
    assert parser.parse_args([]).networks == ["a", "b"]
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def results(tmp_path):
    """A folder of small results: one claim met, one not, one of a refused peer, the rest not measured."""

    def row(median, ratio):
        return {"median": median, "minimum": median, "spread": 0.0, "ratio": ratio}

    steps = {
        "float": row(1.0, 1.0),
        "meta": row(3.3, 3.3),
        "search": row(1.4, 1.25),
        "fixed": row(1.2, 1.2),
        "tfmot_8bit": row(1.5, 1.5),
        "tfmot_n_bit": {"error": "RuntimeError: no"},
    }
    document = {"command": "python -m benchmarks.training_steps", "results": {"small": steps}}
    measuring.write_json(tmp_path / "performance" / "training_steps.json", document)
    tracing = {"float": {"traces": 1, "first_call": 2.0}, "search": {"traces": 2, "first_call": 5.0}}
    document = {"command": "python -m benchmarks.tracing", "results": {"net": tracing}}
    measuring.write_json(tmp_path / "performance" / "tracing.json", document)
    images = {"pipeline": row(1.05, 1.05), "bare_decoding": row(1.0, 1.0)}
    document = {"command": "python -m benchmarks.input_pipeline", "results": {"224 px": images}}
    measuring.write_json(tmp_path / "performance" / "input_pipeline.json", document)
    latency = [
        {"model": "tfmot_8bit", "threads": 2, "median_ms": 4.0},
        {"model": "mmx_tf", "threads": 2, "median_ms": 5.0},
    ]
    measuring.write_json(
        tmp_path / "export" / "latency.json", {"command": "python -m it", "results": latency}
    )
    return tmp_path


def test_claims_are_collected(results):
    rows = performance.collected(results)
    found = {row["claim"]: (row["case"], row["ratio"], row["target"], row["met"]) for row in rows}
    meta, search = "bit-meta step of 3 candidates over a float step", "bit-search step over a float step"
    assert found[meta] == ("small", 3.3, pytest.approx(3.45), True)
    # The ratio of the rounds, 1.25, not that of the medians.
    assert found[search] == ("small", 1.25, 1.0, False)
    assert found["fixed-bit step over a float step"] == ("small", 1.2, 1.2, True)
    assert found["fixed-bit step over tfmot's 8-bit step"] == ("small", pytest.approx(0.8), 1.0, True)
    assert found["fixed-bit step over tfmot's n-bit step"] == (None, None, None, None)
    assert found["traces of the search's training step in 3 epochs"] == ("net", 2.0, 1.0, False)
    assert found["the search's first call over float training's"] == ("net", 2.5, None, None)
    decoding = "time of a training image over that of decoding it"
    assert found[decoding] == ("224 px", 1.05, pytest.approx(10 / 9), True)
    assert found["latency of the file over tfmot's 8-bit file"] == ("2 threads", 1.25, None, None)
    assert found["peak memory of the search over float training"] == (None, None, 1.3, None)


def test_the_command_prints_and_writes_the_table(results, capsys, tmp_path):
    out = tmp_path / "performance.json"
    assert performance.main([f"--results={results}", f"--json={out}"]) == 0
    printed = capsys.readouterr().out
    step = "`python -m benchmarks.training_steps`"
    assert f"| bit-search step over a float step | small | 1.25 | 1.00 | **no** | {step} |" in printed
    assert "| peak memory of the search over float training |  | not measured | 1.30 |  |  |" in printed
    written = json.loads(out.read_text())
    assert written["rows"] == performance.collected(results)
    assert {"commit", "date", "machine"} == set(written["provenance"])


@pytest.mark.parametrize("folder", ["nothing_there", "."])
def test_a_folder_without_results_is_refused(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        performance.main([f"--results={tmp_path / folder}"])
    assert stopped.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_resident_bytes():
    status = "Name:\tpython\nVmHWM:\t    2000 kB\nVmRSS:\t    1500 kB\n"
    assert peak_memory.resident_bytes(status) == (1500 * 1024, 2000 * 1024)
    with pytest.raises(ValueError, match="no VmHWM in the status"):
        peak_memory.resident_bytes("VmRSS:\t1 kB\n")


def test_peaks_are_told_with_what_the_steps_added():
    found = {
        "float": [{"before": 600, "peak": 1000}, {"before": 600, "peak": 1000}],
        "fixed": [{"before": 700, "peak": 1300}, {"before": 700, "peak": 1300}],
        "tfmot_8bit": [{"error": "RuntimeError: no"}] * 2,
    }
    summary = peak_memory.summarized(found)
    assert list(summary) == list(found)
    assert (summary["fixed"]["median"], summary["fixed"]["ratio"]) == (1300.0, 1.3)
    assert (summary["fixed"]["added"], summary["fixed"]["added_ratio"]) == (600.0, 1.5)
    assert summary["tfmot_8bit"] == {"error": "RuntimeError: no"}


def test_first_steps_are_told_apart_from_later_ones():
    row = tracing.row([9.0, 1.0, 4.0, 2.0], 1, first_steps=[0, 2])
    assert (row["first_call"], row["later_step"], row["traces"]) == (13.0, 1.5, 1)


def test_the_plain_quantizer_is_lsq():
    """The peer computes what ours computes: 15 codes of step 0.5, gradients by hand."""
    layer = quantizer_op.PlainLsq()
    x = tf.constant([[-1.0, 0.2, 0.7, 100.0]])
    layer.build(x.shape)
    layer.step_size.assign(0.5)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    dx, ds = tape.gradient(y, [x, layer.step_size], output_gradients=tf.constant([[1.0, 2.0, 3.0, 4.0]]))
    np.testing.assert_allclose(y, [[0.0, 0.0, 0.5, 7.5]], atol=1e-6)
    np.testing.assert_allclose(dx, [[0.0, 2.0, 3.0, 0.0]], atol=1e-6)
    # round(v) - v is -0.4 and -0.4 inside, the highest code is 15; g = 1 / sqrt(4 * 15).
    assert float(ds) == pytest.approx((2 * -0.4 + 3 * -0.4 + 4 * 15) / np.sqrt(60), rel=1e-5)


def test_shapes_are_checked():
    assert quantizer_op.shapes_of("8x4x4x16,1x2x3x4") == ["8x4x4x16", "1x2x3x4"]
    for wrong in ("", "8x4x4", "8x4x4x0", "8x4x4xa"):
        with pytest.raises(argparse.ArgumentTypeError, match="no shape of a batch of images"):
            quantizer_op.shapes_of(wrong)


@pytest.fixture
def photographs(tmp_path):
    """A folder of noise as JPEG files of 160x200 pixels: two classes of five."""
    generator = np.random.default_rng(0)
    for label in ("left", "right"):
        for index in range(5):
            pixels = generator.integers(0, 256, (160, 200, 3)).astype(np.uint8)
            (tmp_path / label).mkdir(exist_ok=True)
            tf.io.write_file(str(tmp_path / label / f"{index}.jpg"), tf.io.encode_jpeg(pixels))
    return tmp_path


def test_bare_decoding_reads_every_image_whole(photographs):
    data = load(f"folder:{photographs}", image_size=96)
    longer = input_pipeline.repeated(data, images=20)
    # 8 of the 10 images are for training.
    assert (data.train_images, longer.train_images) == (8, 24)
    bare = list(input_pipeline.bare_decoding(longer))
    assert {tuple(image.shape) for image, _ in bare} == {(160, 200, 3)}
    counts = np.unique([image.numpy().tobytes() for image, _ in bare], return_counts=True)[1]
    assert list(counts) == [3] * 8
    assert input_pipeline.read_through(input_pipeline.bare_decoding(longer)) == 24
    assert input_pipeline.read_through(longer.train(batch_size=5, seed=0)) == 4


def test_the_input_pipeline_is_told_in_images_a_second(photographs, tmp_path, capsys):
    out = tmp_path / "out.json"
    arguments = [f"--dataset=folder:{photographs}", "--image_size=96", "--batch_size=4", "--images=8"]
    assert input_pipeline.main([*arguments, "--rounds=3", f"--json={out}"]) == 0
    document = json.loads(out.read_text())
    rows = document["results"]["96 px"]
    assert set(rows) == {"pipeline", "bare_decoding"}
    for row in rows.values():
        assert row["images_per_second"] == pytest.approx(1 / row["median"])
        # Three rounds: the median ratio is the same round's, turned round.
        assert row["throughput_ratio"] == pytest.approx(1 / row["ratio"])
    assert "images/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("dataset", "said"), [("digits", "holds pixels"), ("folder:/no/such/folder", "names no folder")]
)
def test_datasets_without_anything_to_decode_are_refused(dataset, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        input_pipeline.main([f"--dataset={dataset}", "--image_size=96"])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_a_profile_is_added_up_by_kind_of_work():
    events = [("Process", 100.0), ("Conv2DBackpropInput", 30.0), ("Conv2D", 10.0), ("Relu6Grad", 5.0)]
    # Two calls of 20 ms in all, 12 of them inside the compiled functions.
    events += [("Start", 20.0), ("@sums", 4.0), ("@forward", 6.0), ("@_moments", 2.0), ("Done", 1.0)]
    times = step_profile.by_kind(events)
    assert times["convolutions"] == 40.0 and times["ReLU"] == 5.0 and times["batch norm"] == 2.0
    assert times["quantizers, with the batch norm and ReLU that they take over"] == 10.0
    assert times[step_profile.CALLING] == 20.0 + 1.0 - 12.0
    assert times[step_profile.OTHER] == 100.0 - 45.0 - 21.0


def test_a_profiled_step_is_mostly_convolutions(tmp_path):
    times = step_profile.profiled("float", "resnet18", batch_size=4, steps=2)
    assert times["convolutions"] > times["ReLU"] > 0
    assert times["quantizers, with the batch norm and ReLU that they take over"] == 0
    step_profile.drawn({"resnet18": {"float": times}}, tmp_path / "profile.png")
    assert (tmp_path / "profile.png").read_bytes().startswith(b"\x89PNG")
