"""Photometry against PS1: derive corrections, and report on the quality of magnitudes."""
