"""PHAZE-EE: early exits for the neural networks that recognise jets."""

__version__ = "0.1.0"
