"""Testing: the room of the contracts that plugin authors will subclass; there are none yet."""
