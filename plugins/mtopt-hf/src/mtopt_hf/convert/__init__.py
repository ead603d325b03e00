"""From one dialect of checkpoint to another where nothing is lost, with a proof for every layer.

It imports nothing: `mtopt --help` lists the command of this package and must stay quick.
"""
