"""The exported file: writing it, running it in LiteRT, comparing it, timing it.

Imports nothing here, so that `python -m export.benchmark` runs on a device without TensorFlow.
"""
