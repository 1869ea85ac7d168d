"""The last stage of a run: folding, the file, and how the file was compared with the folded network."""

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib import metadata

import tf_keras as keras
from absl import logging

from mmx_tf.export.atomic import write_atomically
from mmx_tf.export.c_source.memory_facts import memory_facts
from mmx_tf.export.comparing.certificate import Certificate, certify
from mmx_tf.export.comparing.trace import Trace
from mmx_tf.export.comparing.whole_file import verify
from mmx_tf.folding.convert import convert
from mmx_tf.folding.fold import fold
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.report import scores
from mmx_tf.run.run import Run
from mmx_tf.training import task
from mmx_tf.waiting import busy, images_done
from mmx_tf.workdir import results

VERSIONED = (
    "tensorflow",
    "tf-keras",
    "tensorflow-model-optimization",
    "tensorflow-datasets",
    "ai-edge-litert",
    "numpy",
)

END_TO_END = (
    "eval_images", "fixed_top1", "folded_top1", "tflite_top1", "top1_agreement", "code_disagreement",
    "task", "quality", "agreement",
)  # fmt: skip


def export_and_verify(run: Run, fixed: keras.Model, selection: BitSelection) -> dict:
    """Writes model.tflite and parity.json into the workdir; returns the metrics.

    Raises:
      DisagreementError: if the file differs from the folded network by more than the recipe allows.
    """
    workdir, recipe, evaluation = run.workdir, run.recipe, run.evaluation()
    with workdir.timed("convert"), busy("writing the file"):
        folded, content = folded_and_file(run, fixed, selection)
        write_atomically(workdir.path(results.FILE), content)
    with workdir.timed("verify"):
        trace = Trace(folded)
        with images_done("verifying the file", run.evaluation_images) as progress:
            parity = verify(
                folded, content, evaluation, task=recipe.told_task, trace=trace, progress=progress
            )
        with busy("evaluating the trained network"):
            fixed_quality = task.judged(recipe.told_task, fixed, evaluation)
        with busy("comparing every operator of the file under three sets of kernels"):
            certificate = certificate_of(run, folded, content, trace)
    metrics = {
        **scores.metrics(workdir.state, fixed_quality, parity),
        "code_disagreement": parity.code_disagreement,
        "eval_images": parity.eval_images,
        "tensor_codes_compared": sum(tensor.codes for tensor in parity.tensors),
        "tensor_codes_differing": sum(tensor.differing for tensor in parity.tensors),
        "xnnpack_partitions": parity.partitions,
        "xnnpack_left_outside": [name for _, name in parity.left_outside],
        "bops": selection.bops,
        "target_bops": selection.target_bops,
        **selection.cost_entries,
        "average_bits": selection.average_bits,
        **({"search": workdir.state["searches"][0]} if workdir.state.get("searches") else {}),
        "file_bytes": len(content),
        "file_sha256": hashlib.sha256(content).hexdigest(),
        "microcontroller": memory_facts(content),
        "seconds": workdir.state["seconds"],
        "versions": versions(),
    }
    _tell_of_memory(recipe, metrics["microcontroller"])
    write_atomically(workdir.path(results.PARITY), parity_text(certificate, metrics))
    certificate.check(max_disagreement=recipe.max_disagreement)
    return metrics


def _tell_of_memory(recipe: Recipe, memory: Mapping) -> None:
    """Warns of a file whose C source takes more than the budgets, which were measured before training."""
    taken = memory["packed"]["ram_bytes"] if "packed" in memory else 0
    if recipe.target_ram and taken > recipe.target_ram:
        logging.warning(
            "the C source of the file takes %d bytes of RAM, more than the %d of --target_ram: training has "
            "made grids equal that differed when RAM was measured, and this changes which tensors are "
            "stored. Give a smaller --target_ram.",
            taken, recipe.target_ram,
        )  # fmt: skip
    flash = memory["packed"]["flash_bytes"] if "packed" in memory else 0
    if recipe.target_flash and recipe.device in ("bops", "cortex-m4") and flash > recipe.target_flash:
        logging.warning(
            "the C source of the file has %d bytes of constants, more than the %d of --target_flash: its "
            "tables are larger than when flash was measured. Give a smaller --target_flash.",
            flash, recipe.target_flash,
        )  # fmt: skip


def folded_and_file(run: Run, fixed: keras.Model, selection: BitSelection):
    """The folded network of a fixed one, and the bytes of its file.

    Raises:
      FoldError: if its numbers have no integer form.
    """
    folded = fold(fixed, weight_storage=run.recipe.weight_storage)
    options = convert_options(run.recipe, run.data.class_names)
    return folded, convert(folded, target_bops=selection.target_bops, **options)


def parity_text(certificate: Certificate, metrics: Mapping) -> str:
    """The contents of parity.json: a certificate, and what of the metrics is of the whole file."""
    end_to_end = {name: metrics[name] for name in END_TO_END if name in metrics}
    document = certificate.to_json() | {"end_to_end": end_to_end, "versions": versions()}
    return json.dumps(document, indent=1) + "\n"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a run computes."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in VERSIONED}


def convert_options(recipe: Recipe, class_names) -> dict:
    """The arguments of `convert` that a recipe's file is made with, but for its budget."""
    return {
        "weight_storage": recipe.weight_storage,
        "input_type": recipe.input_type or None,
        "output_type": recipe.output_type,
        "labels": class_names or None,
        "task": recipe.told_task,
    }


def certificate_of(run: Run, folded: keras.Model, content: bytes, trace: Trace | None = None) -> Certificate:
    """The certificate of a run's file; an operator that differs under XNNPACK is a warning.

    Args:
      run: of the target.
      folded, content: the folded network and its file.
      trace: of `folded`, if there is one already.
    """
    recipe = run.recipe
    # The reference kernels take as long for one image as the others for many.
    limits = {"xnnpack": recipe.parity_images, "builtin": recipe.parity_images}
    limits["reference"] = max(1, recipe.parity_images // 8)
    images = min(recipe.parity_images, run.evaluation_images)
    with images_done("verifying operators", images) as progress:
        certificate = certify(
            folded,
            content,
            run.evaluation(),
            kernels=tuple(limits),
            max_images=tuple(limits.values()),
            task=recipe.told_task,
            progress=progress,
            trace=trace,
        )
    for operator in certificate.runtimes["xnnpack"].operators:
        if operator.differing:
            logging.warning(
                "%s (%s): %d of %d codes differ between the folded model and the file, by %d at most",
                operator.name, operator.kind, operator.differing, operator.codes,
                operator.largest_difference,
            )  # fmt: skip
    return certificate
