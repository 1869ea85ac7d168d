"""What format a file or folder of a network has, told by what it holds. No TensorFlow is loaded for it."""
