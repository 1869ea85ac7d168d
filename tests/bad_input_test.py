"""Flags and flagfiles that cannot be run: told in one paragraph, with exit code 2 and every file as before.

Datasets, networks and workdirs are in bad_input_*_test, ranges of single flags in recipe_refusals_test,
networks of a wrong shape in train_test, hostile files in safe_loading_test.
"""

import pytest
from commands import called, train_main
from refusals import refused

# case: (arguments, parts of the message)
FLAGS = {
    "minutes": (["--checkpoint_minutes=-1"], ["--checkpoint_minutes=-1", "0 or more"]),
    "minutes that are no number": (["--checkpoint_minutes=nan"], ["--checkpoint_minutes=nan", "0 or more"]),
    "no checkpoint kept": (["--keep_checkpoints=0"], ["--keep_checkpoints=0", "1 or more"]),
    "no parity image": (["--parity_images=0"], ["--parity_images=0", "1 or more"]),
    "share above one": (["--max_disagreement=1.5"], ["--max_disagreement=1.5", "0 to 1"]),
    "unknown way on": (["--on_divergence=retry"], ["--on_divergence=retry", "stop, recover"]),
    "neither true nor false": (["--repair=maybe"], ["--repair=maybe"]),
    "half a pixel": (["--image_size=16.5"], ["--image_size=16.5"]),
    "image too large": (["--image_size=4096"], ["--image_size=4096", "8 to 2048"]),
    "unknown unit": (["--target_bops=5.3X"], ["--target_bops=5.3X", "K, M, G or T"]),
    "budget below zero": (["--target_bops=-1G"], ["--target_bops=-1G", "above 0"]),
    "endless bits": (["--target_average_bits=inf"], ["--target_average_bits=inf", "a number above 0"]),
    "budget beyond all": (["--target_bops=1e99"], ["1" + 30 * "0", "332288 to 508928 BOPs"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FLAGS)
def test_flags(capsys, tmp_path, good, case):
    arguments, parts = FLAGS[case]
    message = refused(capsys, tmp_path, f"--float_model={good}", *arguments)
    for part in parts:
        assert part in message


FLAGFILES = {
    "no text": (b"\xff\xfe\x00", ["{path}", "is no text"]),
    "words": (b"\nbatch_size=4\n", ["{path}, line 2: 'batch_size=4' is not a flag"]),
    "unknown flag": (b"--seed=1\n--batchsize=4\n", ["{path}, line 2: Unknown", "batchsize", "batch_size"]),
    "bad value": (b"# mine\n--batch_size=4 # small\n", ["{path}, line 2: flag --batch_size=4 # small: inv"]),
    "not allowed": (b"--batch_size=8\n--batch_size=0\n", ["{path}, line 2: --batch_size=0 is not allowed"]),
    "no number": (b"// mine\n\n--target_bops=many\n", ["{path}, line 3: --target_bops=many is not a number"]),
    "switched off": (b"--norepair\n--width=-1\n", ["{path}, line 2: --width=-1"]),
    "a folder": (None, ["--flagfile={path} cannot be read: Is a directory."]),
}


@pytest.mark.parametrize("case", FLAGFILES)
def test_flagfiles(capsys, tmp_path, case):
    content, parts = FLAGFILES[case]
    path = tmp_path / "my.flags"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    message = refused(capsys, tmp_path, f"--flagfile={path}", "--float_epochs=1")
    for part in parts:
        assert part.format(path=path) in message


@pytest.mark.parametrize("case", [name for name in FLAGFILES if name not in ("no text", "a folder")])
def test_a_flagfile_that_another_one_names(capsys, tmp_path, case):
    content, parts = FLAGFILES[case]
    path, outer = tmp_path / "my.flags", tmp_path / "outer.flags"
    path.write_bytes(content)
    outer.write_text(f"--seed=3\n--flagfile={path}\n")
    message = refused(capsys, tmp_path, "--flagfile", outer, "--float_epochs=1")
    for part in parts:
        assert part.format(path=path) in message
    path.unlink()
    message = refused(capsys, tmp_path, f"--flagfile={outer}", "--float_epochs=1")
    assert message.startswith(f"{outer}, line 2: --flagfile={path}: there is no such file.")


def test_what_the_command_line_gives_is_not_put_on_a_flagfile(capsys, tmp_path):
    path = tmp_path / "my.flags"
    path.write_text(f"--batch_size=8\n--flagfile={path}\n")  # it names itself too
    words = [f"--flagfile={path}", "--float_epochs=1", f"--workdir={tmp_path / 'run'}"]
    for value, said in {"0": "--batch_size=0 is not allowed", "x": "flag --batch_size=x: invalid"}.items():
        done = called(capsys, train_main, *words, f"--batch_size={value}")
        # absl says before that the file names itself.
        assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(said)


@pytest.mark.parametrize(
    "name, advice", [("quick.flags", " Did you mean --recipe=quick?"), ("mine.flags", ""), ("mvb2", "mbv2?")]
)
def test_a_flagfile_that_is_not_there(capsys, tmp_path, name, advice):
    path = tmp_path / name
    message = refused(capsys, tmp_path, f"--flagfile={path}", "--float_epochs=1")
    assert message.startswith(f"--flagfile={path}: there is no such file.")
    assert message.strip().endswith(advice or "file.")


def test_an_unknown_flag_of_the_command_line_names_no_flagfile(capsys, tmp_path):
    (tmp_path / "my.flags").write_text("--batchsize=4\n")
    message = refused(capsys, tmp_path, "--batchsize=4", f"--flagfile={tmp_path / 'my.flags'}")
    assert message.startswith("Unknown command line flag 'batchsize'")
