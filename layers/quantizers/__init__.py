"""Layers that quantize in training: activations, weights, branches, gates, pixels."""
