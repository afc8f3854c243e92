"""Kernels of release: arrays in, arrays out."""
