"""Collector: gathers the statistics of one value, matrix by matrix, without waiting for the device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mtcore.backends import ADD_GRAM, COLUMN_STATISTICS, kernel_for
from mtcore.calibration.math import log_counts
from mtcore.calibration.statistics.needs import AMAX, Needs
from mtcore.calibration.statistics.record import SAMPLE_OFFSET, TensorStatistics, sampling_stride
from mtcore.formats import Block
from mtcore.numerics import block_amax, own_column_amax, token_matrix

_MOST_PENDING = 64
"""Batches whose magnitudes wait to be joined, at most."""
_SMALL = 2**23
"""Elements of a matrix on a GPU whose moments torch finds: its four launches take the host less than the two of a
kernel that reads once (0.32 ms a call on the host of an H100, where `awq` spent a third of its time in them)."""

Moments = tuple[Tensor, Tensor]
"""Σ |x| and Σ x² of every column, fp32 [cols]."""


class Collector:
    """What `needs` ask of one value, shown as [..., cols]. It is an observer: a quantizer shows it every matrix.

    Each sum grows batch by batch in the order of the data, so that the same data give the same bits. NaN stays NaN,
    so that it is found later.
    """

    def __init__(self, needs: Needs, known: TensorStatistics | None = None) -> None:
        """
        Args:
            known: of the batches before, gathered with the same needs; to go on where another run stopped.
        """
        self.needs = needs
        self._amax_alone, self._counted = needs == AMAX, needs.moments or needs.histogram
        self.tokens = 0 if known is None else known.tokens
        self.batches = 0 if known is None else known.batches
        self._amax = None if known is None else known.amax
        self._pending: list[Tensor] = []
        self._sums: list[Moments] = []
        self._least = None if known is None else known.least
        self._moments: Moments | None = None
        if known is not None and known.total is not None and known.squares is not None:
            self._moments = known.total, known.squares
        self._counts = None if known is None else known.counts
        self._block_counts = {} if known is None else dict(known.block_counts)
        self._gram = None if known is None or known.gram is None else known.gram.clone()  # it grows in place
        self._mark: dict[str, object] = {}
        self._stride = 1 if known is None else known.stride
        self._sample: list[tuple[int, Tensor]] = []
        if known is not None and known.sample is not None:
            self._sample.append((SAMPLE_OFFSET % self._stride, known.sample))

    def update(self, x: Tensor) -> None:
        """Take in the value of one batch, [..., cols]."""
        if not (elements := x.numel()):
            return
        if not self._counted:
            # torch starts once and reads nearly as fast as a kernel (H100, 4096 x 14336: 52 us to 44). With the two
            # starts of a kernel, `max` on batches of 512 tokens took 1.9 to 2.3 forwards instead of 1.4 to 1.8.
            self._pending.append(own_column_amax(x))
        if not self._amax_alone:
            self._add(token_matrix(x))
        if len(self._pending) == _MOST_PENDING:
            join([self])
        self.tokens += elements // x.shape[-1] if x.dim() else 1
        self.batches += 1

    def _add(self, matrix: Tensor) -> None:
        needs = self.needs
        if self._counted:
            self._add_statistics(matrix)
        for width in needs.blocks:
            counts = log_counts(block_amax(matrix, Block(1, width)))
            known = self._block_counts.get(width)
            self._block_counts[width] = counts if known is None else known + counts
        if needs.sample:
            self._keep_rows(matrix)
        if needs.gram:
            if self._gram is None:
                self._gram = torch.zeros(matrix.shape[1], matrix.shape[1], device=matrix.device)
            kernel_for(ADD_GRAM.name, matrix.device)(self._gram, matrix)

    @property
    def amax(self) -> Tensor | None:
        """The largest magnitudes so far, fp32 [cols]; None where nothing came."""
        join([self])
        return self._amax

    @property
    def nbytes(self) -> int:
        """Of the large parts: rows, products, and what every column has."""
        of_columns = (self._amax, self._gram, *(self._moments or ()))
        parts = [*(rows for _, rows in self._sample), *(tensor for tensor in of_columns if tensor is not None)]
        return sum(part.numel() * part.element_size() for part in parts)

    def result(self) -> TensorStatistics | None:
        """What was gathered so far; None where nothing came."""
        amax = self.amax
        if amax is None or self._least is None:
            return None
        if len(self._sample) > 1:  # as one part, so that the rows are not kept twice
            self._sample = [(self._sample[0][0], torch.cat([rows for _, rows in self._sample]))]
        total, squares = self._moments or (None, None)
        return TensorStatistics(
            self.tokens,
            self.batches,
            amax,
            self._least,
            total,
            squares,
            self._counts,
            self._block_counts,
            self._sample[0][1] if self._sample else None,
            self._stride,
            self._gram,
        )

    def _settle_widths(self) -> None:
        """Keep the magnitude of the whole value alone, where its columns changed from batch to batch."""
        known = () if self._amax is None else (self._amax,)
        if len({part.shape for part in (*self._pending, *known)}) > 1:  # attention weights are as wide as the text
            self._pending = [part.amax()[None] for part in self._pending]
            self._amax = None if self._amax is None else self._amax.amax()[None]

    def mark(self) -> None:
        """Remember the state as it is now, after a whole batch."""
        self._mark = {
            **vars(self),
            "_pending": list(self._pending),
            "_sums": list(self._sums),
            "_sample": list(self._sample),
            "_block_counts": dict(self._block_counts),
        }
        self._mark.pop("_mark", None)

    def marked(self) -> TensorStatistics | None:
        """What was gathered when `mark` was called last; a gram is none of it, for it grows in place."""
        before = Collector(self.needs)
        vars(before).update(self._mark, _gram=None)
        return before.result()

    def _add_statistics(self, matrix: Tensor) -> None:
        needs, operation = self.needs, COLUMN_STATISTICS
        by_torch = matrix.is_cuda and matrix.numel() <= _SMALL and not needs.histogram
        statistics = operation.reference if by_torch else kernel_for(operation.name, matrix.device)
        amax, total, squares, counts = statistics(matrix, needs.moments, needs.histogram)
        self._pending.append(amax)
        if needs.moments:
            self._sums.append((total, squares))
        if needs.histogram:
            self._counts = counts if self._counts is None else self._counts + counts

    def _keep_rows(self, matrix: Tensor) -> None:
        """Keep every `stride`-th row; the stride doubles when more than `needs.sample` would be kept."""
        stride = sampling_stride(self.tokens + len(matrix), self.needs.sample, self._stride)
        while self._stride < stride:
            self._stride *= 2
            self._sample = [part for part in map(self._thinned, self._sample) if len(part[1])]
        first = (SAMPLE_OFFSET - self.tokens) % self._stride
        rows = matrix[first :: self._stride]
        if len(rows):
            self._sample.append((self.tokens + first, rows.clone()))

    def _thinned(self, part: tuple[int, Tensor]) -> tuple[int, Tensor]:
        """Every other row of a part, which begins at row `start` and had half of today's stride."""
        start, rows = part
        skip = int((start - SAMPLE_OFFSET) % self._stride != 0)
        return start + skip * self._stride // 2, rows[skip::2].clone()


def join(collectors: Iterable[Collector]) -> None:
    """Join what the latest batches told: few launches for many batches of many values."""
    collectors = list(collectors)
    add_up(collectors)
    alike: dict[tuple[torch.Size, torch.device, int, bool], list[Collector]] = {}
    for collector in collectors:
        if collector._pending:
            collector._settle_widths()
            first, fresh = collector._pending[0], collector._amax is None
            alike.setdefault((first.shape, first.device, len(collector._pending), fresh), []).append(collector)
    for (_, _, batches, fresh), group in alike.items():
        parts = torch.stack([part for collector in group for part in collector._pending]).float()
        whole = parts.view(len(group), batches, -1)
        amax, least = whole.amax(1), whole.amax(2).amin(1)
        if not fresh:
            known = [(c._amax, c._least) for c in group if c._amax is not None and c._least is not None]
            amax = torch.maximum(amax, torch.stack([one for one, _ in known]))
            least = torch.minimum(least, torch.stack([one for _, one in known]))
        for one in zip(group, amax.unbind(), least.unbind(), strict=True):
            one[0]._pending, one[0]._amax, one[0]._least = [], *one[1:]


def add_up(collectors: Iterable[Collector]) -> None:
    """Add the moments that wait, batch by batch in their order: one launch for the same batch of all values."""
    waiting = [(collector, collector._sums) for collector in collectors if collector._sums]
    for number in range(max((len(sums) for _, sums in waiting), default=0)):
        adding: dict[torch.device, list[tuple[Collector, Moments, Moments]]] = {}
        for one, sums in waiting:
            if number >= len(sums):
                continue
            if one._moments is None:
                one._moments = sums[number]
            else:
                adding.setdefault(sums[number][0].device, []).append((one, one._moments, sums[number]))
        for group in adding.values():
            known = [tensor for _, moments, _ in group for tensor in moments]
            added = torch._foreach_add(known, [tensor for _, _, moments in group for tensor in moments])
            for (one, _, _), total, squares in zip(group, added[::2], added[1::2], strict=True):
                one._moments = total, squares
    for one, _ in waiting:
        one._sums = []
