"""Kernels of kowalski: arrays in, arrays out."""
