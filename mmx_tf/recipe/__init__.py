"""The recipe of a run: every flag once, and the rules between them. Nothing here loads TensorFlow."""
