"""Loops of the packed form that numba compiles, when they are first used, for the processor at hand."""
