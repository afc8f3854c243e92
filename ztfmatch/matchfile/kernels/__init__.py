"""Kernels of matchfile: arrays in, arrays out."""
