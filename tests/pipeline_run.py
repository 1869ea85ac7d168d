"""A whole run of the command line on digits, as tests look at it."""

import shutil
import subprocess
import sys
from pathlib import Path

from mmx_tf.recipe.recipe import Recipe

ROOT = Path(__file__).parents[1]


EVAL_IMAGES = 64


METRICS = {
    "float_top1", "fixed_top1", "folded_top1", "tflite_top1", "top1_agreement", "code_disagreement",
    "eval_images", "bops", "target_bops", "average_bits", "file_bytes", "seconds", "versions",
    # Beyond the contract:
    "tensor_codes_compared", "tensor_codes_differing", "xnnpack_partitions", "xnnpack_left_outside",
    "file_sha256", "microcontroller", "search",
}  # fmt: skip


def arguments_of(float_file, workdir) -> list[str]:
    return [
        f"--float_model={float_file}", "--image_size=16", "--batch_size=64", "--steps_per_epoch=4",
        "--train_epochs=2", f"--eval_images={EVAL_IMAGES}", "--target_average_bits=4.5",
        # Eight steps of a cosine bear no large one.
        "--learning_rate=0.002",
        f"--workdir={workdir}",
    ]  # fmt: skip


def recipe_of(float_file, workdir, *more) -> Recipe:
    recipe = Recipe.from_flagfile("\n".join([*arguments_of(float_file, workdir), *more]))
    recipe.validate()
    return recipe


def finished_run(float_file, workdir):
    """(recipe, workdir, what the command printed) of one whole run of the command line."""
    recipe = recipe_of(float_file, workdir)
    done = command("mmx_tf.train", *arguments_of(float_file, workdir))
    assert done.returncode == 0, done.stderr
    return recipe, workdir, done


def command(module, *arguments) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", module, *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def again(workdir, folder, *flags) -> Path:
    """A workdir whose export is still to come, with other flags for it."""
    shutil.copytree(workdir, folder)
    for name in ("model.tflite", "metrics.json", "report.html", "parity.json"):
        (folder / name).unlink()
    lines = [(folder / "run.flags").read_text(), *flags, f"--workdir={folder}"]
    (folder / "run.flags").write_text(Recipe.from_flagfile("\n".join(lines)).to_flagfile())
    return folder


def contents(folder: Path):
    """Every file below a folder with its content and the time at which it was written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
