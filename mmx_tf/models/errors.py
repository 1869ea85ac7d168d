"""The error of `mmx_tf.models`: a network that cannot be built, or not be filled with weights."""


class ModelError(ValueError):
    """A built-in network that cannot be had as asked; the message is one paragraph that says what to do."""
