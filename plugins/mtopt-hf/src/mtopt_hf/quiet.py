"""Silence: the log lines and progress bars of transformers and its companions, off for a while."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import huggingface_hub.utils
import tqdm  # type: ignore[import-untyped]
from loguru import logger as compressed_tensors_log
from transformers.utils import logging as transformers_log

_LOGGERS = ("compressed_tensors", "huggingface_hub", "accelerate")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Nothing on the screen below an error while the context is open; everything is put back afterwards.

    Our own report says what happens; a second bar over it helps nobody. Raised errors are not touched.
    """
    hub: Any = huggingface_hub.utils
    transformers: Any = transformers_log
    verbosity = transformers_log.get_verbosity()
    transformers_bars = transformers_log.is_progress_bar_enabled()
    hub_bars = not hub.are_progress_bars_disabled()
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    show_bar = tqdm.tqdm.__init__

    @functools.wraps(show_bar)
    def hidden_bar(self: Any, *args: Any, **kwargs: Any) -> None:
        show_bar(self, *args, **{**kwargs, "disable": True})

    transformers_log.set_verbosity(logging.ERROR)
    transformers.disable_progress_bar()
    hub.disable_progress_bars()
    compressed_tensors_log.disable("compressed_tensors")
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    # compressed-tensors draws its own bars and has no switch for them
    tqdm.tqdm.__init__ = hidden_bar
    try:
        yield
    finally:
        tqdm.tqdm.__init__ = show_bar
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        compressed_tensors_log.enable("compressed_tensors")
        if hub_bars:
            hub.enable_progress_bars()
        if transformers_bars:
            transformers.enable_progress_bar()
        transformers_log.set_verbosity(verbosity)
