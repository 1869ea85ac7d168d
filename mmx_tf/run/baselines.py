"""What a run's file is compared with: plain int8, and one bit-width everywhere after the same training.

baselines/int8/model.tflite       the float network as AI Edge Quantizer makes it int8, nothing trained
baselines/uniform/                a workdir: the bits, the network, its checkpoints, its model.tflite
baselines/NAME/facts.json         what was found; written last

Each is made once and kept, in whatever run of the same workdir asks for it. Times of all files are taken
together, interleaved, so they are new whenever a baseline is added.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
import tf_keras as keras
from absl import logging

from mmx_tf import choices
from mmx_tf.budget.budget import Budget
from mmx_tf.errors import DivergenceError, RecipeError
from mmx_tf.export.atomic import write_atomically
from mmx_tf.export.c_source.memory_facts import memory_facts
from mmx_tf.export.comparing.whole_file import verify
from mmx_tf.files.loading import load_model
from mmx_tf.folding.fold import FoldError
from mmx_tf.metamix.search import SearchModel
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.network.heads import head_of
from mmx_tf.recipe.rules import FLOAT_TEACHER
from mmx_tf.run import device_budget, stages
from mmx_tf.run.export_stage import folded_and_file
from mmx_tf.run.latency import latency
from mmx_tf.run.reasons import choice_of
from mmx_tf.run.run import Run
from mmx_tf.training.phase import epoch_seed
from mmx_tf.waiting import busy
from mmx_tf.workdir import results
from mmx_tf.workdir.workdir import Workdir

FOLDER = "baselines"
CALIBRATION_IMAGES = 256
"""Training images on which the ranges of the int8 file's activations are measured."""


@dataclasses.dataclass(frozen=True)
class Baselines:
    """The baselines of a run, or of a target of it.

    Attributes:
      run: of the target, with its teacher.
      float_network: gives the float network, trained; all processes of the job call it.
      start: gives the search network that weight training starts from, in the same way.
    """

    run: Run
    float_network: Callable[[], keras.Model]
    start: Callable[[], SearchModel]

    def missing(self, metrics: Mapping) -> bool:
        """Whether the recipe asks for a baseline that metrics do not have."""
        return not set(self.run.recipe.baselines) <= set(metrics.get("baselines", {}))

    def measured(self, selection: BitSelection) -> dict:
        """The entries `baselines` and `latency` of the metrics; {} where no baseline was ever asked for.

        The workdir has its model.tflite. All processes of the job call it.

        Args:
          selection: bits of the run's own file.
        """
        job, recipe = self.run.job, self.run.recipe
        make, found = {"int8": self._int8, "uniform": self._uniform}, {}
        for name in choices.BASELINES:
            facts = self._kept(name) if job.is_chief else None
            if job.chief_says(facts is None and name in recipe.baselines):
                with self.run.workdir.timed(f"baseline {name}"), busy(f"making the baseline {name}"):
                    facts = make[name](selection)
            if facts is not None:
                found[name] = facts
        return (job.on_chief(lambda: self._timed(found)) or {}) if job.chief_says(bool(found)) else {}

    def _timed(self, found: dict) -> dict:
        files = {"tflite": self.run.workdir.path(results.FILE)}
        files |= {name: self._path(name, results.FILE) for name, f in found.items() if "refused" not in f}
        if len(files) < 2:
            return {"baselines": found}
        with busy("timing the files on this CPU"):
            return {"baselines": found, "latency": latency(files)}

    def _path(self, *parts: str) -> pathlib.Path:
        return self.run.workdir.path(FOLDER, *parts)

    def _kept(self, name: str) -> dict | None:
        """The facts of a baseline that was made before; None where it has to be made."""
        try:
            facts = json.loads(self._path(name, "facts.json").read_text())
            known = "refused" in facts or results.digests(self._path(name), [results.FILE]) == {
                results.FILE: facts["file_sha256"]
            }
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return facts if known else None

    def _keep(self, name: str, facts: dict) -> dict:
        self._path(name).mkdir(parents=True, exist_ok=True)
        write_atomically(self._path(name, "facts.json"), json.dumps(facts, indent=1) + "\n")
        return facts

    def _refused(self, name: str, reason: str, *, kept: bool = True) -> dict:
        """The facts of a baseline that there cannot be; the run goes on without. Call it in the chief.

        Args:
          name: of the baseline.
          reason: a sentence.
          kept: whether it is so for good, and no later run need try.
        """
        facts = {"refused": f"there is no {name} baseline: {reason}"}
        logging.warning("%s", facts["refused"])
        return self._keep(name, facts) if kept else facts

    def _int8(self, selection: BitSelection) -> dict | None:
        try:
            model = self.float_network()
        except RecipeError as error:  # of a finished run whose checkpoints are gone
            reason = f"the float network is gone. {error}"
            return self.run.job.on_chief(lambda: self._refused("int8", reason, kept=False))
        return self.run.job.on_chief(lambda: self._int8_of(model, selection))

    def _int8_of(self, model: keras.Model, selection: BitSelection) -> dict:
        # Loaded here: only runs with this baseline wait for AI Edge Quantizer.
        from mmx_tf.run.int8_baseline import int8_baseline, judged_file

        run, head = self.run, head_of(model, model.name)
        try:
            content = int8_baseline(model, _calibration(run))
            quality = judged_file(content, task=run.recipe.told_task, head=head, evaluation=run.evaluation())
        except Exception as error:  # what the tool and LiteRT raise of an operator has no common class
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            return self._refused("int8", f"AI Edge Quantizer cannot make this network int8 ({reason}).")
        bops = sum(layer.macs for layer in selection.layers) * 64
        return self._made("int8", content, bops, quality)

    def _uniform(self, selection: BitSelection) -> dict | None:
        run, job = self.run, self.run.job
        try:
            search = self.start()
        except RecipeError as error:  # of a finished run whose checkpoints are gone
            reason = f"the run's meta-state is gone. {error}"
            return job.on_chief(lambda: self._refused("uniform", reason, kept=False))
        budget, limit = search.budget, max(selection.bops, selection.target_bops or 0)
        pair = uniform_pair(budget, limit)
        bits = dict(zip(("weight_bits", "activation_bits"), budget.pairs[pair], strict=True))
        choice = [pair] * len(budget.searched)
        if choice_of(search, selection) == choice:
            words = f"{bits['activation_bits']}-bit activations and {bits['weight_bits']}-bit weights"
            reason = f"the run's own bits are the same everywhere, {words}."
            return job.on_chief(lambda: self._refused("uniform", reason))
        logging.info(
            "baseline: %d-bit activations and %d-bit weights everywhere, trained in the same way.",
            bits["activation_bits"], bits["weight_bits"],
        )  # fmt: skip
        target = next((i for i, t in enumerate(search.targets)
                       if t.budget.target_bops == selection.target_bops), 0)  # fmt: skip
        chosen = search.selection_of(choice, target=target)
        recipe = dataclasses.replace(run.recipe, workdir=str(self._path("uniform")), baselines=())
        if recipe.teacher == FLOAT_TEACHER:
            # A finished run has not loaded it.
            run = dataclasses.replace(run, teacher=run.teacher or self.float_network())
        try:
            with Workdir.opened(recipe, job, run.workdir.inputs) as workdir:
                own = dataclasses.replace(run, workdir=workdir, recipe=recipe)
                fixed = self._trained(own, search, chosen)
                found = job.on_chief(lambda: _file_of(own, fixed, chosen))
        except (DivergenceError, FoldError) as error:
            reason = f"its training failed. {error}"
            return job.on_chief(lambda: self._refused("uniform", reason))
        return job.on_chief(lambda: self._made("uniform", found[0], chosen.bops, found[1], bits))

    @staticmethod
    def _trained(own: Run, search: SearchModel, chosen: BitSelection) -> keras.Model:
        path = own.workdir.path(results.NETWORK)
        fixed = stages.finished_network(path)
        if own.job.chief_says(fixed is None):
            fixed = stages.weight_stage(own, search, chosen)
            own.job.on_chief(lambda: stages.save_atomically(fixed, path))
            fixed = load_model(path)
        return fixed

    def _made(self, name: str, content: bytes, bops: int, quality: Mapping, more: Mapping | None = None):
        """Writes the file and its facts, which are returned."""
        self._path(name).mkdir(parents=True, exist_ok=True)
        write_atomically(self._path(name, results.FILE), content)
        memory = memory_facts(content)
        if "refused" not in memory:
            memory = {
                width: {key: facts[key] for key in ("ram_bytes", "flash_bytes")}
                for width, facts in memory.items()
            }
        facts = {
            **(more or {}),
            "quality": dict(quality),
            "bops": bops,
            "file_bytes": len(content),
            "file_sha256": hashlib.sha256(content).hexdigest(),
            "microcontroller": memory,
            **device_budget.of_baseline(self.run, content),
        }
        return self._keep(name, facts)


def uniform_pair(budget: Budget, limit: float) -> int:
    """The candidate (`Budget.pairs`) that takes the most BOPs within a limit when all layers have it.

    Of several the one whose smaller bit-width is the largest; where none is within it, the cheapest.
    """
    layers = len(budget.searched)
    costs = [budget.bops_of([index] * layers) for index in range(len(budget.pairs))]
    fitting = [index for index, cost in enumerate(costs) if cost <= limit]
    if not fitting:
        return costs.index(min(costs))
    return max(fitting, key=lambda index: (costs[index], min(budget.pairs[index])))


def _calibration(run: Run) -> np.ndarray:
    """Training images as they are: without augmentation, the same ones in every run of a seed."""
    size = min(CALIBRATION_IMAGES, run.data.train_images)
    seed = epoch_seed(run.recipe.seed, "train", 0)
    images, _ = next(iter(run.data.train(batch_size=size, seed=seed, augment=False)))
    return np.asarray(images)


def _file_of(own: Run, fixed: keras.Model, chosen: BitSelection) -> tuple[bytes, dict]:
    """(bytes of the file, its metrics) of the uniform network."""
    chosen.save(own.workdir.path(results.SELECTION))
    folded, content = folded_and_file(own, fixed, chosen)
    found = verify(folded, content, own.evaluation(), task=own.recipe.told_task, traced_images=0)
    return content, {name: values["tflite"] for name, values in found.metrics.items()}
