"""Layers that no canonical network has, with the reason, and what takes their place.

>>> sentences("LSTM")
('feeds its state back into itself at every step, ...', 'Use Conv1D layers ...')
"""

_RECURRENT = (
    "feeds its state back into itself at every step, so that an error of rounding would grow with the steps.",
    "Use Conv1D layers in its place, such as causal ones of growing dilation_rate.",
)
_NORMALIZING = (
    "divides by the deviation of each example, a square root and a quotient of activations that the file has "
    "no exact integer operator for.",
    "Use BatchNormalization, whose statistics are constants of the file.",
)
_ATTENTION = (
    "multiplies activations by each other as matrices. Bits are chosen here for layers with weights, and the "
    "file's int8 operators multiply by constant matrices alone.",
    "Use convolutions, or squeeze-excite (a sigmoid that a Multiply takes), in its place.",
)
_REASONS = {
    **dict.fromkeys(
        ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D"), _RECURRENT
    ),
    **dict.fromkeys(
        ("LayerNormalization", "RMSNormalization", "GroupNormalization", "UnitNormalization"), _NORMALIZING
    ),
    **dict.fromkeys(
        ("MultiHeadAttention", "GroupQueryAttention", "Attention", "AdditiveAttention", "Dot"), _ATTENTION
    ),
    "TimeDistributed": (
        "wraps a layer that it calls for every step.",
        "Call that layer on (None, length, channels) itself: Dense, BatchNormalization and activations "
        "compute the same for every step.",
    ),
    "Embedding": (
        "looks up a row of numbers for each whole number, and inputs here are quantized numbers.",
        "Look it up in the input pipeline, and give the network its rows (None, length, channels).",
    ),
    "Masking": (
        "hides steps from the layers behind it.",
        "Cut or pad the signals to one length in the input pipeline.",
    ),
}


def sentences(kind: str) -> tuple[str, str] | None:
    """Why a class of Keras's is refused, and the way out; None for classes of which nothing is known."""
    return _REASONS.get(kind)
