"""Flags of what a run measures for its report, beside the file that it is about."""

from dataclasses import dataclass

from mmx_tf import choices
from mmx_tf.recipe.allowed import Between, SomeOf, flag


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """The part of `mmx_tf.recipe.recipe.Recipe` that says what a run tells beside its file."""

    baselines: tuple[str, ...] = flag(
        (),
        "What the file is compared with, side by side, in report and metrics: {allowed}. int8: the float "
        "network as AI Edge Quantizer makes it int8 after training; uniform: the same weight training from "
        "the same start, at one bit-width everywhere, that of the --candidate_bits (and --weight_bits) whose "
        "BOPs are the closest to the budget without exceeding it. A finished run can be given more of them.",
        group="report",
        text=True,
        allowed=SomeOf(choices.BASELINES),
    )
    sensitivity_images: int = flag(
        256,
        "Training images on which the report tells, for every layer, what the loss would be at the next "
        "lower and the next higher candidate; 0 for none.",
        allowed=Between(1, or_zero=True),
    )
