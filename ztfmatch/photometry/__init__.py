"""Photometry against PS1: corrections derived from it, and the report on how good magnitudes are."""
