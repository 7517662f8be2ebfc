"""The parts of ``benchmarks/gpu.py``. They need torch, Triton, NumPy, weaver-core and pydantic alone."""
