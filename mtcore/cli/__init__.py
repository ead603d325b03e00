"""The `mtopt` command: a thin face on `mtcore.flow`. Torch is imported inside the commands, never by `--help`."""
