"""Running a .tflite in LiteRT, and asking what XNNPACK takes of it."""
