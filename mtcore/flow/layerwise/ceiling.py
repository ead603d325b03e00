"""The ceiling on host memory: refused beforehand where it cannot hold, watched while the run goes."""

from __future__ import annotations

from dataclasses import dataclass

from mtcore.errors import CalibrationError
from mtcore.files import peak_bytes, resident_bytes, show_bytes, trim_memory


@dataclass(frozen=True)
class Ceiling:
    """At most `limit` bytes may be resident in this process; None: any number."""

    limit: int | None

    def check_beforehand(self, largest: str, size_bytes: int) -> None:
        """Refuse a run whose largest part, with what the process holds already, is over the ceiling.

        Raises:
            CalibrationError: it is; or the system does not tell how much memory the process holds.
        """
        if self.limit is None:
            return
        trim_memory()
        held = resident_bytes()
        if held is None:
            raise CalibrationError("a memory ceiling needs Linux, which tells what a process holds")
        if held + size_bytes > self.limit:
            raise CalibrationError(
                f"{show_bytes(self.limit)} of memory are too little: the process holds {show_bytes(held)} before "
                f"the first block, and the weights of {largest} alone need {show_bytes(size_bytes)}"
            )

    def check(self, after: str) -> None:
        """Stop a run that went over the ceiling.

        Raises:
            CalibrationError: it did.
        """
        trim_memory()
        peak = peak_bytes()
        if self.limit is not None and peak is not None and peak > self.limit:
            raise CalibrationError(
                f"{after}: the process held {show_bytes(peak)}, more than the {show_bytes(self.limit)} that were "
                "allowed. What is done is kept: allow more, or take fewer or shorter samples a batch"
            )
