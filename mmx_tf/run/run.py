"""What all stages of a run are given, one frozen value.

In outline:

    run = Run(workdir, recipe, data, teacher=None, command="mmx_tf train --recipe=quick")
    run.of_target(workdir_of_target, 4_500_000_000).recipe.target_bops     # (4500000000,)
"""

import dataclasses
from collections.abc import Iterable

import tf_keras as keras

from mmx_tf.data.examples import Examples
from mmx_tf.distribution.job import Job
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.workdir.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Run:
    """A run in its workdir.

    Attributes:
      workdir: opened.
      recipe: with its task told.
      data: of the recipe, for that task.
      teacher: what weight training distils; None for nothing.
      command: command line, for the report.
    """

    workdir: Workdir
    recipe: Recipe
    data: Examples
    teacher: keras.Model | None = None
    command: str = ""

    @property
    def job(self) -> Job:
        """The processes that share the run."""
        return self.workdir.job

    def evaluation(self) -> Iterable:
        """The evaluation images of the run, in batches."""
        return evaluation(self.recipe, self.data)

    @property
    def evaluation_images(self) -> int:
        """Number of the evaluation images of the run."""
        return evaluation_images(self.recipe, self.data)

    def of_target(self, workdir: Workdir, bops: int) -> "Run":
        """The run of one of several targets, in a workdir of its own."""
        return dataclasses.replace(self, workdir=workdir, recipe=self.recipe.for_target(bops))


def evaluation(recipe: Recipe, data: Examples) -> Iterable:
    """The evaluation images of a recipe, in batches."""
    return data.evaluation(batch_size=min(recipe.batch_size, 128), limit=recipe.eval_images)


def evaluation_images(recipe: Recipe, data: Examples) -> int:
    """Number of the evaluation images of a recipe."""
    return min(recipe.eval_images or data.eval_images, data.eval_images)
