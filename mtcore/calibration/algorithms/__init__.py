"""Calibration drivers: select quantizers, run the data, call the maths, write the result."""
