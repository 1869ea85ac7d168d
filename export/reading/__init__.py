"""Reading a .tflite without a runtime: its parts within bounds, its layers, what its bytes are spent on."""
