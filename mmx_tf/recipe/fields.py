"""The flags of a run, each declared once: type, default, help, and what its value may be.

`mmx_tf.recipe.recipe.Recipe` makes them a value; `mmx_tf.recipe.rules` has the rules between them.
"""

from dataclasses import dataclass

from mmx_tf import choices, devices
from mmx_tf.recipe.allowed import AboveZero, BelowOne, Between, OneOf, flag
from mmx_tf.recipe.options import RecipeOptions
from mmx_tf.recipe.practice import TrainingPractice
from mmx_tf.recipe.report_options import ReportOptions
from mmx_tf.recipe.search_settings import SearchSettings


@dataclass(frozen=True, kw_only=True)
class RecipeFields(TrainingPractice, RecipeOptions, SearchSettings, ReportOptions):
    """All flags; the help text of each is beside it."""

    model: str = flag(
        "mobilenet_v2",
        "Built-in network: {allowed}. Ignored with a file as --float_model.",
        group="float network",
        allowed=OneOf(choices.NETWORKS),
    )
    image_size: int = flag(
        0,
        "Height and width of the images in pixels; 0 takes the dataset's own. Arrays are not resized.",
        allowed=Between(8, 2048, or_zero=True),
    )
    network_variant: str = flag(
        "auto",
        "Strides of the built-in network: {allowed}. As published they reduce images by 32; those for small "
        "images reduce them by 8, for about ten times the operations. auto takes these below 96 pixels.",
        allowed=OneOf(choices.NETWORK_VARIANTS),
    )
    width: float = flag(1.0, "Multiplier of the built-in network's channel counts.", allowed=AboveZero())
    task: str = flag(
        "",
        "What the outputs stand for: {allowed}; empty: told from the network and the labels. With binary "
        "the built-in network has one output.",
        allowed=OneOf(("", *choices.TASKS)),
    )
    num_classes: int = flag(
        0,
        "Number of classes; 0 takes the dataset's, any other value must equal it. For arrays: how many "
        "classes there are.",
        allowed=Between(2, or_zero=True),
    )
    float_model: str = flag(
        "",
        "Trained float network: a .keras or .h5 file of Keras 2 (tf_keras) or Keras 3, a SavedModel folder "
        "of Keras 2, or 'imagenet' for Keras's ImageNet weights of --model.",
    )
    float_epochs: int = flag(
        0, "Without --float_model: train the built-in network this many epochs first.", allowed=Between(0)
    )
    float_learning_rate: float = flag(0.05, "Peak learning rate of that float training.", allowed=AboveZero())

    dataset: str = flag(
        "digits",
        "'digits', the name of a TFDS dataset, 'folder:PATH' (one subfolder per class), 'npz:FILE.npz' "
        "(arrays x and y, or x_train, y_train, x_test, y_test), or 'module:NAME:FUNCTION' (returns two "
        "tf.data.Datasets).",
        group="data",
    )
    data_dir: str = flag("", "Folder of prepared TFDS datasets; empty takes TFDS's own default.")
    pixel_scaling: tuple[float, float] | tuple[()] = flag(
        (),
        "scale,offset of uint8 pixels: the network is given pixel * scale + offset, such as 1/255,0 or 1,0 "
        "(empty: 1/127.5,-1). For an array of other numbers: how they were made from pixels, which the file "
        "then takes (empty: the network gets the numbers as they are, and the file's input a learnt grid).",
        text=True,
    )
    augmentation: str = flag(
        "",
        "What training does to images: {allowed}; empty: what suits the dataset. crop shifts small "
        "images and cuts windows out of large ones, crop_flip mirrors them too.",
        allowed=OneOf(("", *choices.AUGMENTATIONS)),
    )
    batch_size: int = flag(128, "Images per training step.", allowed=Between(1))
    steps_per_epoch: int = flag(0, "Training steps per epoch; 0 takes the whole dataset.", allowed=Between(0))
    eval_images: int = flag(0, "Images to evaluate on; 0 takes all.", allowed=Between(0))
    validation_images: int = flag(
        0,
        "Training images that are held out, the same by --seed in all phases: every epoch, and so the best "
        "one, is judged on them, and the evaluation images are left for the end. 0: epochs of weight "
        "training are judged on the evaluation images.",
        allowed=Between(0),
    )

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
    first_last_bits: int = flag(
        8, "Weight and activation bit-width of the first and the last layer.", allowed=OneOf((8, 4, 3, 2))
    )
    target_bops: tuple[int, ...] = flag(
        (),
        "Budget in bit operations per image, such as 5.3G (empty: --target_average_bits). Several, "
        "separated by commas, are searched on one meta-state, and each has a folder in the workdir, such "
        "as target_5.3G.",
        text=True,
    )
    export_target: int = flag(
        0,
        "With several --target_bops: the one that is fine-tuned and exported (empty: each). The others can "
        "follow: the same command with another value goes on from the same search.",
        text=True,
    )
    target_average_bits: float = flag(
        0.0, "Budget in average activation bits (0: --target_bops; 4 if neither is given).", text=True
    )
    average_bits_weighting: str = flag(
        "operations",
        "What --target_average_bits weights layers by: {allowed}.",
        allowed=OneOf(choices.WEIGHTINGS),
    )
    cost_table: str = flag(
        "", "JSON file of one's own costs of layers and bits, such as latencies, for --target_cost."
    )
    target_cost: float = flag(0.0, "Budget in the unit of --cost_table.")
    target_bytes: int = flag(
        0,
        "Budget in bytes of the .tflite, such as 2.9M, for several --weight_bits and packed "
        "--weight_storage; activation bits have no cost in it.",
        text=True,
    )
    target_ram: int = flag(
        0,
        "Budget in bytes of RAM of the C source with packed activations, such as 48K. Layers that do not "
        "fill it keep the most bits.",
        text=True,
    )
    target_flash: int = flag(
        0,
        "Budget in bytes of constants of the C source with packed weights, such as 300K, for several "
        "--weight_bits; activation bits have no cost in it, so --target_ram may stand beside it.",
        text=True,
    )
    target_latency: float = flag(
        0.0,
        "Budget in time of one image on --device, such as 2ms or 150us (a number alone: milliseconds): "
        "for an ethos-u Vela estimates it, for cpu it is measured on this machine.",
        text=True,
    )
    device: str = flag(
        "bops",
        "The part that the network is made for: {allowed}. It sets --weight_storage, --input_type and "
        "--output_type where they are not given, says what bits cost, makes its own form of the file in "
        "W/device and judges it. bops: no part in particular.",
        allowed=OneOf(devices.NAMES),
    )
    repair: bool = flag(
        True,
        "Where the largest alphas take more than the budget, select the bits with the largest sum of alphas "
        "within it; without, the largest alphas whatever they cost.",
    )

    select_epochs: int = flag(
        2,
        "Epochs of bit selection: the first is meta training, the rest meta and search steps. Steps count: "
        "6 / --alpha_learning_rate search steps are enough, which are many epochs of a small dataset.",
        group="training",
        allowed=Between(2),
    )
    train_epochs: int = flag(10, "Epochs of weight training at the selected bits.", allowed=Between(1))
    folded_epochs: int = flag(
        0,
        "The last of --train_epochs that are trained on the folded graph: batch-norm statistics frozen, "
        "biases rounded as in the file.",
    )
    learning_rate: float = flag(
        0.04, "Peak learning rate of weight training (warm-up, then cosine).", allowed=AboveZero()
    )
    warmup_epochs: float = flag(0.0, "Epochs of linear warm-up in weight training.", allowed=Between(0))
    weight_decay: float = flag(
        1e-5,
        "Decay wd of kernels w (not of batch norm, biases, step sizes, alpha) in all phases; "
        "--weight_decay_kind says what it does.",
        allowed=Between(0, 1),
    )
    weight_decay_kind: str = flag(
        "decoupled",
        "{allowed}. decoupled: w <- w - lr * wd * w beside the step, as Keras's weight_decay and AdamW; "
        "l2: g + wd * w is the step's gradient, as PyTorch's weight_decay. With momentum m, l2 is 1 / (1 - "
        "m) times as strong at the same number.",
        allowed=OneOf(choices.WEIGHT_DECAYS),
    )
    momentum: float = flag(0.9, "Momentum of the SGD optimizers.", allowed=BelowOne())
    nesterov: bool = flag(True, "Nesterov momentum.")
    select_learning_rate: float = flag(
        0.004, "Constant learning rate of the weights in bit selection.", allowed=AboveZero()
    )
    step_learning_rate: float = flag(
        0.004, "Learning rate of the quantizers' step sizes.", allowed=AboveZero()
    )
    alpha_learning_rate: float = flag(
        0.01, "Learning rate of the architectural parameters alpha.", allowed=AboveZero()
    )

    weight_storage: str = flag(
        "int8", "Weights in the .tflite: {allowed}.", group="export", allowed=OneOf(choices.STORAGES)
    )
    input_type: str = flag(
        "",
        "Input of the .tflite: {allowed}. uint8 takes pixels, int8 pixels less 128, float32 images as "
        "the network sees them; empty: uint8 for pixels and images, int8 for other arrays.",
        allowed=OneOf(("", *choices.INPUT_TYPES)),
    )
    output_type: str = flag(
        "int8",
        "Output of the .tflite: {allowed}. int8 and float32 are logits; class is "
        "the class index and int8 probabilities.",
        allowed=OneOf(choices.OUTPUT_TYPES),
    )
    parity_images: int = flag(
        256,
        "Evaluation images for the parity certificate, which compares every operator of the file under three "
        "sets of kernels (an eighth of them under the slow reference kernels).",
        allowed=Between(1),
    )
    max_disagreement: float = flag(
        1.0,
        "Largest share of its codes in which an operator of the file, or its logits, may differ from the "
        "folded network under XNNPACK; beyond it the run fails. 0 demands equality, 1 allows anything.",
        allowed=Between(0, 1),
    )

    compute_dtype: str = flag(
        "float32",
        "Number format of the convolutions in training: {allowed}. Weights, batch norm "
        "and quantizers are float32 in any case.",
        group="run",
        allowed=OneOf(choices.COMPUTE_DTYPES),
    )
    jit_compile: bool = flag(
        False, "Compile whole training steps with XLA: for accelerators; slower on a CPU."
    )
    strategy: str = flag(
        "none",
        "What training is spread over: {allowed}. mirrored takes all GPUs of this "
        "machine, multi_worker those of the machines in TF_CONFIG. --batch_size is that of all together.",
        allowed=OneOf(("none", "mirrored", "multi_worker", "tpu")),
    )
    tpu: str = flag("", "With --strategy=tpu: the TPU's name or address, or 'local' on its own machine.")
    seed: int = flag(0, "Seed of initial weights, shuffling and augmentation.", allowed=Between(0, 2**31 - 1))
    deterministic: bool = flag(
        False,
        "Results that are the same in every byte whenever the run is repeated, or killed and resumed, on one "
        "kind of machine: TensorFlow's deterministic kernels alone, and oneDNN off.",
    )
    checkpoint_minutes: float = flag(
        10.0,
        "Minutes between checkpoints within an epoch; 0 for none (at an epoch's end there always is one).",
        allowed=Between(0),
    )
    keep_checkpoints: int = flag(
        2,
        "Checkpoints that are kept of each phase, beside that of weight training's best epoch.",
        allowed=Between(1),
    )
    on_divergence: str = flag(
        "stop",
        "What to do when training diverges (a loss or weight is NaN or infinite, a step size falls to its "
        "floor, an alpha saturates in the first steps): stop (exit code 4), or recover: go back to the last "
        "checkpoint and on at half the learning rates, three times in a phase at most.",
        allowed=OneOf(("stop", "recover")),
    )
    workdir: str = flag("", "Folder of everything that the run writes; an interrupted run resumes there.")

    @property
    def told_task(self) -> str:
        """The task, one of `choices.TASKS`; that of a recipe without one, once it is settled."""
        return self.task or "classification"

    @property
    def searches(self) -> bool:
        """Whether bits are searched; else they are drawn, the same everywhere, or those of a file."""
        return self.selection == "search" and not self.bit_selection

    @property
    def searches_weights(self) -> bool:
        """Whether there are several candidates for the weight bits."""
        return isinstance(self.weight_bits, tuple)
