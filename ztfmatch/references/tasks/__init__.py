"""What is measured of references and exposures, a field and readout channel at a time."""
