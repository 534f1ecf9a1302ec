"""Inputs that are unusual, damaged or hostile, and what img2mesh makes of each: see ``benchmarks/try_inputs.py``."""
