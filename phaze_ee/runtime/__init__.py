"""Runs exported taggers with ONNX Runtime and NumPy alone: nothing here imports torch."""
