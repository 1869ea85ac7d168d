"""A recipe is everything that decides a run: one frozen value, made from the command line and then checked.

Each field of `Recipe` is the flag of the same name, with the same default. `Recipe.to_flagfile` writes the
flags that replay the run; `Recipe.differences` says how two runs differ, so that a workdir is never resumed
by another run.

    >>> recipe = Recipe.from_flagfile("--float_epochs=12\\n--workdir=runs/try\\n")
    >>> recipe.candidate_bits, recipe.target_average_bits
    ((8, 4, 3), 4.0)
"""

import dataclasses
import os
from dataclasses import dataclass

from absl import flags

from mmx_tf import models
from mmx_tf.notation import format_bops, target_folder
from mmx_tf.recipe import rules
from mmx_tf.recipe.options import RecipeOptions, flag
from mmx_tf.recipe.rules import CHOICES, TARGETS
from mmx_tf.recipe.texts import RecipeError, parse_bops, parse_bytes, parse_candidate_bits, parse_weight_bits
from mmx_tf.training.compute_dtype import COMPUTE_DTYPES

FREE_FLAGS = ("workdir", "checkpoint_minutes", "keep_checkpoints", "on_divergence", "export_target", "tpu")
"""Flags that may change when a run is resumed: they say where and how it is kept, and which of its results
are made, not what it computes."""

__all__ = ["FREE_FLAGS", "Recipe", "RecipeError", "define_flags", "format_bops", "parse_bops"]


@dataclass(frozen=True, kw_only=True)
class Recipe(RecipeOptions):
    """All settings of one run; the help text of each flag is beside its field. Make it with `from_flags`."""

    model: str = flag(
        "mobilenet_v2",
        f"Built-in network: {', '.join(models.NAMES)}. Ignored with a file as --float_model.",
        group="float network",
    )
    image_size: int = flag(0, "Height and width of the images in pixels; 0 takes the dataset's own.")
    width: float = flag(1.0, "Multiplier of the built-in network's channel counts.")
    task: str = flag(
        "",
        f"What the outputs stand for: {', '.join(filter(None, CHOICES['task']))}; empty: told from the "
        "network and the labels. With binary the built-in network has one output.",
    )
    num_classes: int = flag(0, "Number of classes; 0 takes the dataset's, any other value must equal it.")
    float_model: str = flag(
        "", "Trained float network: a .keras file, or 'imagenet' for Keras's ImageNet weights of --model."
    )
    float_epochs: int = flag(0, "Without --float_model: train the built-in network this many epochs first.")
    float_learning_rate: float = flag(0.05, "Peak learning rate of that float training.")

    dataset: str = flag(
        "digits",
        "'digits', the name of a TFDS dataset, or 'folder:PATH' (one subfolder per class).",
        group="data",
    )
    data_dir: str = flag("", "Folder of prepared TFDS datasets; empty takes TFDS's own default.")
    batch_size: int = flag(128, "Images per training step.")
    steps_per_epoch: int = flag(0, "Training steps per epoch; 0 takes the whole dataset.")
    eval_images: int = flag(0, "Images to evaluate on; 0 takes all.")

    candidate_bits: tuple[int, ...] = flag(
        (8, 4, 3),
        "Candidate activation bit-widths, separated by commas; one alone with --selection=uniform.",
        group="bits and budget",
        text=True,
    )
    weight_bits: int | tuple[int, ...] = flag(
        4,
        "Weight bit-width of all layers but the first and the last; several, separated by commas, are "
        "candidates among which the search chooses for every layer.",
        text=True,
    )
    first_last_bits: int = flag(8, "Weight and activation bit-width of the first and the last layer.")
    target_bops: tuple[int, ...] = flag(
        (),
        "Budget in bit operations per image, such as 5.3G (empty: --target_average_bits). Several, separated "
        "by commas, are searched on one meta-state, and each has a folder in the workdir, such as "
        "target_5.3G.",
        text=True,
    )
    export_target: int = flag(
        0,
        "With several --target_bops: the one that is fine-tuned and exported (empty: each). The others can "
        "follow: the same command with another value goes on from the same search.",
        text=True,
    )
    target_average_bits: float = flag(
        0.0, "Budget in average activation bits (0: --target_bops; 4 if neither is given)."
    )
    average_bits_weighting: str = flag(
        "operations",
        f"What --target_average_bits weights layers by: {', '.join(CHOICES['average_bits_weighting'])}.",
    )
    cost_table: str = flag(
        "", "JSON file of one's own costs of layers and bits, such as latencies, for --target_cost."
    )
    target_cost: float = flag(0.0, "Budget in the unit of --cost_table, in place of the others.")
    target_bytes: int = flag(
        0,
        "Budget in bytes of the .tflite, such as 2.9M, for several --weight_bits and packed "
        "--weight_storage; activation bits have no cost in it.",
        text=True,
    )
    repair: bool = flag(
        True,
        "Where the largest alphas take more than the budget, select the bits with the largest sum of alphas "
        "within it; without, the largest alphas whatever they cost.",
    )

    select_epochs: int = flag(
        2,
        "Epochs of bit selection: the first is meta training, the rest meta and search steps.",
        group="training",
    )
    train_epochs: int = flag(10, "Epochs of weight training at the selected bits.")
    folded_epochs: int = flag(
        0,
        "The last of --train_epochs that are trained on the folded graph: batch-norm statistics frozen, "
        "biases rounded as in the file.",
    )
    learning_rate: float = flag(0.04, "Peak learning rate of weight training (warm-up, then cosine).")
    warmup_epochs: float = flag(0.0, "Epochs of linear warm-up in weight training.")
    weight_decay: float = flag(
        1e-5,
        "Decay wd of kernels w (not of batch norm, biases, step sizes, alpha) in all phases; "
        "--weight_decay_kind says what it does.",
    )
    weight_decay_kind: str = flag(
        "decoupled",
        f"{' or '.join(CHOICES['weight_decay_kind'])}. decoupled: w <- w - lr * wd * w beside the step, as "
        "Keras's weight_decay and AdamW; l2: g + wd * w is the step's gradient, as PyTorch's weight_decay. "
        "With momentum m, l2 is 1 / (1 - m) times as strong at the same number.",
    )
    momentum: float = flag(0.9, "Momentum of the SGD optimizers.")
    nesterov: bool = flag(True, "Nesterov momentum.")
    select_learning_rate: float = flag(0.004, "Constant learning rate of the weights in bit selection.")
    step_learning_rate: float = flag(0.004, "Learning rate of the quantizers' step sizes.")
    alpha_learning_rate: float = flag(0.01, "Learning rate of the architectural parameters alpha.")
    regularizer_weight: float = flag(
        1.0, "lambda_r: the search loss is task loss + lambda_r * |BOPs - target| / target."
    )

    weight_storage: str = flag(
        "int8", f"Weights in the .tflite: {' or '.join(CHOICES['weight_storage'])}.", group="export"
    )
    input_type: str = flag(
        "uint8",
        f"Input of the .tflite: {', '.join(CHOICES['input_type'])}. uint8 takes pixels, int8 pixels less "
        "128, float32 images as the network sees them.",
    )
    output_type: str = flag(
        "int8",
        f"Output of the .tflite: {', '.join(CHOICES['output_type'])}. int8 and float32 are logits; class is "
        "the class index and int8 probabilities.",
    )
    parity_images: int = flag(
        256,
        "Evaluation images for the parity certificate, which compares every operator of the file under three "
        "sets of kernels (an eighth of them under the slow reference kernels).",
    )
    max_disagreement: float = flag(
        1.0,
        "Largest share of its codes in which an operator of the file, or its logits, may differ from the "
        "folded network under XNNPACK; beyond it the run fails. 0 demands equality, 1 allows anything.",
    )

    compute_dtype: str = flag(
        "float32",
        f"Number format of the convolutions in training: {', '.join(COMPUTE_DTYPES)}. Weights, batch norm "
        "and quantizers are float32 in any case.",
        group="run",
    )
    jit_compile: bool = flag(
        False, "Compile whole training steps with XLA: for accelerators; slower on a CPU."
    )
    strategy: str = flag(
        "none",
        f"What training is spread over: {', '.join(CHOICES['strategy'])}. mirrored takes all GPUs of this "
        "machine, multi_worker those of the machines in TF_CONFIG. --batch_size is that of all together.",
    )
    tpu: str = flag("", "With --strategy=tpu: the TPU's name or address, or 'local' on its own machine.")
    seed: int = flag(0, "Seed of initial weights, shuffling and augmentation.")
    deterministic: bool = flag(
        False,
        "Results that are the same in every byte whenever the run is repeated, or killed and resumed, on one "
        "kind of machine: TensorFlow's deterministic kernels alone, and oneDNN off.",
    )
    checkpoint_minutes: float = flag(
        10.0,
        "Minutes between checkpoints within an epoch; 0 for none (at an epoch's end there always is one).",
    )
    keep_checkpoints: int = flag(
        2, "Checkpoints that are kept of each phase, beside that of weight training's best epoch."
    )
    on_divergence: str = flag(
        "stop",
        "What a loss or weight that is no finite number, a step size at its floor, or an alpha that is "
        "saturated in the first steps leads to: stop (exit code 4), or recover: go back to the last "
        "checkpoint and on at half the learning rates, three times in a phase at most.",
    )
    workdir: str = flag("", "Folder of everything that the run writes; an interrupted run resumes there.")

    @property
    def told_task(self) -> str:
        """The task, one of `export.comparing.heads.TASKS`; that of a recipe without one, once it is
        settled."""
        return self.task or "classification"

    @property
    def searches(self) -> bool:
        """Whether bits are searched; else they are drawn, the same everywhere, or those of a file."""
        return self.selection == "search" and not self.bit_selection

    @classmethod
    def from_flags(cls, flag_values: flags.FlagValues) -> "Recipe":
        """Take the parsed flags of `define_flags`; call `validate` on the result before work starts.

        Raises:
            RecipeError: a flag whose text is parsed (bits, targets in BOPs or bytes) cannot be read.
        """
        values = {field.name: flag_values[field.name].value for field in dataclasses.fields(cls)}
        values["candidate_bits"] = parse_candidate_bits(values["candidate_bits"])
        values["weight_bits"] = parse_weight_bits(values["weight_bits"])
        targets, exported = values["target_bops"].strip(), values["export_target"].strip()
        values["target_bops"] = tuple(map(parse_bops, targets.split(","))) if targets else ()
        values["export_target"] = parse_bops(exported, flag="export_target") if exported else 0
        size = values["target_bytes"].strip()
        values["target_bytes"] = parse_bytes(size) if size else 0
        # Average bits are no budget where weight bits are searched too.
        if not (isinstance(values["weight_bits"], tuple) or any(values[name] for name in TARGETS)):
            values["target_average_bits"] = 4.0
        return cls(**values)

    @property
    def searches_weights(self) -> bool:
        """Whether there are several candidates for the weight bits."""
        return isinstance(self.weight_bits, tuple)

    @classmethod
    def from_flagfile(cls, text: str) -> "Recipe":
        """Read back what `to_flagfile` wrote (or any flagfile's text); later lines override earlier ones.

        Raises:
            RecipeError: a line that is no flag of ours or whose value cannot be read.
        """
        flag_values = flags.FlagValues()
        define_flags(flag_values)
        lines = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
        try:
            rest = flag_values(["flagfile", *lines])[1:]
        except flags.Error as error:
            raise RecipeError(f"The flagfile cannot be read: {error}") from error
        if rest:
            raise RecipeError(f"The flagfile has a line that is not --name=value: {rest[0]!r}.")
        return cls.from_flags(flag_values)

    def to_flagfile(self) -> str:
        """The text of a flagfile that replays this run: every flag, in groups, one `--name=value` a line."""
        lines = []
        options = {field.name for field in dataclasses.fields(RecipeOptions)}
        for field in sorted(dataclasses.fields(self), key=lambda field: field.name in options):
            if field.metadata["group"]:
                lines.append(f"# {field.metadata['group']}")
            lines.append(f"--{field.name}={_flag_text(field, getattr(self, field.name))}")
        return "\n".join(lines) + "\n"

    def differences(self, other: "Recipe") -> list[str]:
        """Name the flags that differ, with both values; `FREE_FLAGS` do not count."""
        return [
            f"--{field.name} is {_flag_text(field, mine) or 'empty'} here and "
            f"{_flag_text(field, theirs) or 'empty'} there"
            for field in dataclasses.fields(self)
            for mine, theirs in [(getattr(self, field.name), getattr(other, field.name))]
            if field.name not in FREE_FLAGS
            and mine != theirs
            # A task that is not told yet is that of the network, which is compared by itself.
            and not (field.name == "task" and mine in ("", "classification"))
        ]

    def for_target(self, bops: int) -> "Recipe":
        """The recipe of one of several targets, whose workdir is a folder of this one's."""
        folder = os.path.join(self.workdir, target_folder(bops))
        return dataclasses.replace(self, target_bops=(bops,), export_target=0, workdir=folder)

    @property
    def exported_targets(self) -> tuple[int, ...]:
        """Those of `target_bops` that are fine-tuned and exported, in their order."""
        return (self.export_target,) if self.export_target else self.target_bops

    def validate(self) -> None:
        """Check every field against its allowed set and the fields against each other.

        Raises:
            RecipeError: names the flag, its value, what is allowed and what to do.
        """
        rules.check(self)

    def check_classes(self, *, num_classes: int, dataset: str) -> None:
        """Check --num_classes against the loaded dataset's; a `RecipeError` when they differ."""
        rules.check_classes(self, num_classes=num_classes, dataset=dataset)


def define_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Define one absl flag for each field of `Recipe`; a flag given later overrides an earlier one."""
    define = {
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        bool: flags.DEFINE_bool,
        str: flags.DEFINE_string,
    }
    for field in dataclasses.fields(Recipe):
        kind, default = field.type, field.default
        if field.metadata["text"]:
            kind, default = str, _flag_text(field, default)
        define[kind](field.name, default, field.metadata["help"], flag_values=flag_values)


def _flag_text(field: dataclasses.Field, value) -> str:
    """A field's value as it stands on a command line."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if field.metadata["text"] and not value else str(value)
