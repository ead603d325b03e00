"""An example of a plugin for mtcore, written with its public names alone."""
