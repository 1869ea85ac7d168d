"""Values that flags, arguments of the notebook and commands have in common, each declared once.

They stand below everything else, so that a wrong flag is refused before TensorFlow is loaded.
"""

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "resnet8", "resnet18")
"""The built-in networks (`mmx_tf.models`)."""
NETWORK_VARIANTS = ("auto", "published", "small_images")
"""Strides of a built-in network: they reduce images by 32 as published, or by 8; auto goes by their size."""
TASKS = ("classification", "binary", "multi_label", "regression", "segmentation")
"""What a network's outputs stand for (`export.comparing.heads`)."""
AUGMENTATIONS = ("none", "crop", "crop_flip")
"""What training does to images: nothing, shifts or random crops, and mirrors them too (`mmx_tf.data`)."""
WEIGHTINGS = ("operations", "elements", "plain")
"""What the average of activation bits weights a layer by (`mmx_tf.budget.budget`)."""
BASELINES = ("int8", "uniform")
"""What a run compares its file with (`mmx_tf.run.baselines`)."""
OPTIMIZERS = ("sgd", "adam", "adamw")
"""Optimizers of weight training (`mmx_tf.training.optimizers`)."""
WEIGHT_DECAYS = ("decoupled", "l2")
"""Kinds of weight decay (`mmx_tf.training.weight_decay`)."""
COMPUTE_DTYPES = ("float32", "bfloat16")
"""Number formats of convolutions in training (`mmx_tf.training.compute_dtype`)."""
STORAGES = ("int8", "int4", "int4_xnnpack", "int4_micro")
"""How weights are stored in the file (`layers.integer.storage`)."""
INPUT_TYPES = ("uint8", "int8", "float32")
OUTPUT_TYPES = ("int8", "float32", "class")
"""Types at the ends of the file (`export.writing.borders`)."""
PIXEL_SCALING = (1 / 127.5, -1.0)
"""Scale and offset: images are pixel * scale + offset, in [-1, 1], where nothing else is asked for."""
SMALL_IMAGE_BELOW = 96
"""Pixels from which on training cuts windows out of images, and evaluation takes their centre."""
EVAL_MARGIN = 256 / 224
"""Evaluation resizes the shorter side of larger images to so many crops, of which it takes the centre."""
