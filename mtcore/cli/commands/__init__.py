"""The commands of `mtopt`, one a file."""
