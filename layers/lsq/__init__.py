"""Learned step size quantization: the formulas, their fused form, and the gradients."""
