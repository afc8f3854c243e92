"""Measurements of references and exposures, by field and readout channel."""
