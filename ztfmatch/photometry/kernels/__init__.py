"""Kernels of photometry: arrays in, arrays out."""
