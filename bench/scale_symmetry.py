"""All scale symmetries of a small model by numbers alone: the null space of its derivatives by log-scales.

The scale of a slice of a parameter changes the outputs at the rate D[:, slice] = sum over the slice of w dy/dw.
A set of log-scales that keeps the outputs for all inputs is a null vector of D, whatever connects the slices:
repeated heads, fused rows, a norm and its readers, experts, factors of two. So the null space is every rescaling
there is, and needs neither the names of parameters nor a trace. Rows of D are random projections of the outputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtcore.trace import FoldGroup, Slices
from mtcore.trace.state import quiet_forward
from mtcore.trace.structure import map_tensors, tensors_in
from mtcore.trace.widen import widened

MOST_SLICES = 600
"""A pair of axes with more slices than this is not taken as one: it would name single elements."""
EXACT = 1e-10
"""Singular values below this part of the largest are zero. Rounding leaves 1e-14; what a norm's epsilon of 1e-6
spoils a little leaves 1e-7."""
INSIDE = 1e-8
"""A rate below this part of the rates that cancel in it is zero."""
ROWS = 8
"""Projections of one forward's outputs."""
TOKENS = ("input_ids", "decoder_input_ids")
LARGER = 8.0
"""Every element of the parameters is multiplied by this, times a number of 1/2 to 2 of its own, to see what holds
at the drawn ones only: below a clamp, in a dead unit."""
EPSILON = 1e-2
"""The epsilons of norms are set to this to see what they spoil by less than EXACT."""


@dataclass(frozen=True)
class Coordinates:
    """Orthonormal coordinates of the log-scales of one parameter that are sums of numbers of its slices.

    `axes` are the sets of axes whose indices name slices; `basis` [slices, rank] leads from sums over slices to
    coordinates. Rows times s with columns divided by s is the same matrix: it has no coordinate.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[tuple[int, ...], ...]
    basis: Tensor

    @classmethod
    def of(cls, name: str, shape: Sequence[int], *, table: bool = False) -> Coordinates:
        """Positions of a convolution along two axes have no slices, nor have the rows of a table of tokens.

        The elements of a bias are slices also where it is a stack.
        """
        wide = [a for a, n in enumerate(shape) if n > 1 and not (table and a == 0)][: 2 if len(shape) > 3 else 3]
        if len(shape) == 2 and name.endswith("bias"):
            axes = [tuple(wide)]
        elif len(wide) < 3:
            axes = [(axis,) for axis in wide] or [()]
        else:
            pairs = list(itertools.combinations(wide, 2))
            axes = [(a, b) for a, b in pairs if shape[a] * shape[b] <= MOST_SLICES] or [(a,) for a in wide]
        ones = torch.ones(tuple(shape), dtype=torch.float64)
        blocks = [[_overlap(ones, a, b) for b in axes] for a in axes]
        values, vectors = torch.linalg.eigh(torch.cat([torch.cat(row, 1) for row in blocks]))
        keep = values > 1e-9 * values[-1]
        return cls(name, tuple(shape), tuple(axes), vectors[:, keep] / values[keep].sqrt())

    @property
    def vector(self) -> bool:
        """Whether it has an element a channel: the direction of a symmetry may depend on the values there."""
        return len(self.shape) == 1 or (len(self.shape) == 2 and self.name.endswith("bias"))

    def project(self, elements: Tensor) -> Tensor:
        """Coordinates [rank] of numbers of the parameter's elements."""
        return self.slices(elements) @ self.basis

    def slices(self, elements: Tensor) -> Tensor:
        """The sums over all slices."""
        return torch.cat([_sum_to(elements, axes).reshape(-1) for axes in self.axes])


def _sum_to(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    gone = [d for d in range(x.dim()) if d not in axes]
    return x.sum(gone) if gone else x


def _overlap(ones: Tensor, a: tuple[int, ...], b: tuple[int, ...]) -> Tensor:
    """How many elements slice i over axes `a` and slice j over axes `b` have in common."""
    shape = ones.shape
    both = tuple(sorted({*a, *b}))
    count = ones.numel() / max(1, torch.tensor([shape[d] for d in both]).prod().item())
    index = torch.cartesian_prod(*(torch.arange(shape[d]) for d in both)).reshape(-1, len(both)) if both else None
    size = [int(torch.tensor([shape[d] for d in s] or [1]).prod()) for s in (a, b)]
    out = torch.zeros(size, dtype=torch.float64)
    if index is None:
        return out + count

    def flat(axes: tuple[int, ...]) -> Tensor:
        place = torch.zeros(len(index), dtype=torch.long)
        for axis in axes:
            place = place * shape[axis] + index[:, both.index(axis)]
        return place

    return out.index_put_((flat(a), flat(b)), torch.tensor(count, dtype=torch.float64), accumulate=True)


class Symmetries:
    """The rescalings of some parameters that keep a model's outputs.

    Args:
        model: is cast to double precision in place.
        inputs: keyword arguments of one forward; tokens and floating tensors are drawn anew for every forward.
        scope: names of the parameters whose scales may change.
        vocabulary: number of tokens.
    """

    def __init__(
        self, model: nn.Module, inputs: Mapping[str, Any], scope: Sequence[str], *, vocabulary: int
    ) -> None:
        self._model, self._inputs, self._vocabulary = model.double(), inputs, vocabulary
        tables = _tables(model)
        self._parameters = {n: p for n, p in model.named_parameters() if n in set(scope)}
        self.coordinates = [Coordinates.of(n, p.shape, table=n in tables) for n, p in self._parameters.items()]
        self.rank = sum(c.basis.shape[1] for c in self.coordinates)
        self._generator = torch.Generator().manual_seed(0)
        self.matrix = self._derivatives(int(1.1 * self.rank) + 32)
        self.used = self.matrix.norm(dim=0) > 1e-12 * self.matrix.norm()
        self.null = null_space(self.matrix)

    def shifts_only(self, rows: Tensor) -> bool:
        """Whether a finite step along null vectors [n, rank] that move vectors only keeps the outputs.

        To first order the shift of a vector is like a rescaling of its elements; a bias that moves into the next
        bias stays right for a step of any length, a rescaling by 1 + t and 1 - t does not.
        """
        state = self._generator.get_state()
        before = self._forward()
        direction = torch.randn(len(rows), generator=torch.Generator().manual_seed(3), dtype=torch.float64) @ rows
        saved = {n: p.detach().clone() for n, p in self._parameters.items()}
        with torch.no_grad():
            for c, part in self._parts():
                if c.vector:
                    step = (c.basis @ direction[part]).reshape(c.shape)
                    self._parameters[c.name].add_(saved[c.name] * step)
        after_state = self._generator.get_state()
        self._generator.set_state(state)
        after = self._forward()
        self._generator.set_state(after_state)
        with torch.no_grad():
            for name, value in saved.items():
                self._parameters[name].copy_(value)
        return all(bool((a - b).norm() <= 1e-9 * b.norm()) for a, b in zip(after, before, strict=True))

    def shifts(self) -> Tensor:
        """Orthonormal [n, rank]: the null vectors that move vectors only, such as a bias into the next bias."""
        return null_space(self.matrix * self._vectors()).T

    def _vectors(self) -> Tensor:
        """bool [rank]: the coordinates of vectors."""
        return torch.cat([torch.full((c.basis.shape[1],), c.vector) for c in self.coordinates])

    def lasting(self, rows: Tensor) -> Tensor:
        """Orthonormal [m, n]: the combinations of null vectors [n, rank] that hold at LARGER and at EPSILON too.

        The part of a direction that lies in vectors may depend on their values (a shift, an offset), so it is found
        anew there: what is left over when all vectors are free must vanish, relative to the rates of its parts.
        """
        kept = torch.eye(len(rows), dtype=torch.float64)
        vectors = self._vectors()
        for change in (self._larger, self._epsilon):
            if len(kept):
                with change():
                    matrix = self._derivatives(int(vectors.sum()) + len(rows) + 32)
                free = matrix[:, vectors].T
                free = free[free.norm(dim=1) > 0]
                _, values, basis = torch.linalg.svd(free / free.norm(dim=1, keepdim=True), full_matrices=False)
                basis = basis[values > EXACT]
                kept = _still(kept @ rows, matrix, basis) @ kept
        return kept

    def rescalings(self) -> Tensor:
        """Orthonormal [m, rank]: the null vectors that are the same at LARGER weights.

        They are the pure rescalings. One that needs a shift of a bias, or an offset, changes with the values.
        """
        rows = self.null.T
        with self._larger():
            matrix = self._derivatives(len(rows) + 32)
        return _still(rows, matrix, torch.zeros(0, len(matrix), dtype=torch.float64)) @ rows

    @contextmanager
    def _larger(self) -> Iterator[None]:
        saved = [p.detach().clone() for p in self._parameters.values()]
        generator = torch.Generator().manual_seed(1)
        try:
            with torch.no_grad():
                for p in self._parameters.values():
                    p.mul_(LARGER * 4 ** (torch.rand(p.shape, generator=generator, dtype=p.dtype) - 0.5))
            yield
        finally:
            with torch.no_grad():
                for p, value in zip(self._parameters.values(), saved, strict=True):
                    p.copy_(value)

    @contextmanager
    def _epsilon(self) -> Iterator[None]:
        found = [
            (module, name, value)
            for module in self._model.modules()
            for name, value in vars(module).items()
            if "eps" in name and isinstance(value, float)
        ]
        try:
            for module, name, _ in found:
                setattr(module, name, EPSILON)
            yield
        finally:
            for module, name, value in found:
                setattr(module, name, value)

    def powers(self) -> Tensor:
        """[n, rank] null vectors of two parameters with exponents other than one: s for rows, s^-k for columns.

        The rates of two such slices are proportional, and k is their ratio.
        """
        sides = []
        for c, part in self._parts():
            for axis in (a for a, n in enumerate(c.shape) if n > 1 and len(c.shape) == 2 and not c.vector):
                sides.append((c.name, torch.zeros(c.shape[axis], self.rank, dtype=torch.float64)))
                for i in range(c.shape[axis]):
                    marked = torch.zeros(c.shape, dtype=torch.float64)
                    marked.select(axis, i).fill_(1.0)
                    sides[-1][1][i, part] = c.project(marked)
        found = [torch.zeros(0, self.rank, dtype=torch.float64)]
        for (p, x), (q, y) in itertools.permutations(sides, 2):
            if p != q and x.shape == y.shape:
                a, b = x @ self.matrix.T, y @ self.matrix.T
                k = (a * b).sum(1) / (b * b).sum(1).clamp_min(1e-300)
                same = (a - k[:, None] * b).norm(dim=1) <= INSIDE * a.norm(dim=1)
                if same.all() and k.min() > 1 + INSIDE and k.max() - k.min() < INSIDE:
                    found.append(x - k[:, None] * y)
        return torch.cat(found)

    def of(self, group: FoldGroup) -> Tensor:
        """Coordinates [channels, rank] of a fold group's channels; what lies outside the scope is left out."""
        out = torch.zeros(group.size, self.rank, dtype=torch.float64)
        parts = {c.name: (c, part) for c, part in self._parts()}
        for sign, sides in ((1.0, group.up), (-1.0, group.down)):
            for side in sides:
                if side.parameter in parts:
                    c, part = parts[side.parameter]
                    for channel in range(group.size):
                        out[channel, part] += sign * c.project(self._log_scale(side, channel))
        return out

    def _log_scale(self, side: Slices, channel: int) -> Tensor:
        """What log s = 1 of one channel is to every element of the parameter."""
        value = self._parameters[side.parameter].detach()
        flat = torch.zeros([value.shape[a] for a in side.axes], dtype=torch.float64).reshape(-1)
        flat[[i for i, k in zip(side.indices, side.channels, strict=True) if k == channel]] = 1.0
        spread = flat.reshape([n if d in side.axes else 1 for d, n in enumerate(value.shape)]).expand(value.shape)
        return spread * (value + side.offset) / value if side.offset else spread  # dw = (w + offset) log s

    def within(self, group: FoldGroup) -> bool:
        """Whether all parameters of a group are in the scope."""
        return set(group.parameters) <= set(self._parameters)

    def change(self, vectors: Tensor) -> Tensor:
        """The rate of change along each of `vectors` [n, rank], relative to the rates of its parts."""
        whole = (vectors @ self.matrix.T).norm(dim=1)
        return whole / (vectors.abs() @ self.matrix.abs().T).norm(dim=1).clamp_min(1e-300)

    def parameters_of(self, vector: Tensor) -> tuple[str, ...]:
        """The parameters that a vector rescales."""
        return tuple(c.name for c, part in self._parts() if vector[part].abs().max() > 1e-3 * vector.abs().max())

    def _parts(self) -> Iterator[tuple[Coordinates, slice]]:
        start = 0
        for c in self.coordinates:
            yield c, slice(start, start + c.basis.shape[1])
            start += c.basis.shape[1]

    def _derivatives(self, rows: int) -> Tensor:
        """[rows, rank] of w dy/dw for random projections y of the outputs."""
        matrix = torch.zeros(rows, self.rank, dtype=torch.float64)
        values = list(self._parameters.values())
        row = 0
        while row < rows:
            outputs = self._forward()
            for _ in range(min(ROWS, rows - row)):
                weights = [torch.randn(o.shape, generator=self._generator, dtype=o.dtype) for o in outputs]
                grads = torch.autograd.grad(outputs, values, weights, retain_graph=True, allow_unused=True)
                for (c, part), value, grad in zip(self._parts(), values, grads, strict=True):
                    if grad is not None:
                        matrix[row, part] = c.project(value.detach() * grad)
                row += 1
        return matrix

    def _forward(self) -> list[Tensor]:
        def draw(name: str, value: Any) -> Any:
            if name in TOKENS:
                return torch.randint(4, self._vocabulary - 8, value.shape, generator=self._generator)
            if isinstance(value, Tensor) and value.is_floating_point() and "mask" not in name:
                return torch.randn(value.shape, generator=self._generator, dtype=torch.float64)
            return map_tensors(value, lambda t: t.double() if t.is_floating_point() else t)

        kwargs = {name: draw(name, value) for name, value in self._inputs.items()}
        with quiet_forward(self._model), widened(), torch.enable_grad():
            outputs = tensors_in(self._model(**kwargs))
        return [o for o in outputs if o.requires_grad]


def _still(rows: Tensor, matrix: Tensor, free: Tensor) -> Tensor:
    """Orthonormal combinations of `rows` whose rates by `matrix` vanish but for the span of `free`."""
    rates = rows @ matrix.T
    rates = rates - (rates @ free.T) @ free
    rates /= (rows.abs() @ matrix.abs().T).norm(dim=1, keepdim=True).clamp_min(1e-300)
    left, values, _ = torch.linalg.svd(rates)
    return left[:, int((values > INSIDE).sum()) :].T


def _tables(model: nn.Module) -> set[str]:
    """Parameters whose rows stand for tokens or places: embeddings, and the output that is like them."""
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    modules = [
        (n, m) for n, m in model.named_modules() if isinstance(m, nn.Embedding) or (m is output and m is not None)
    ]
    return {f"{name}.weight" for name, _ in modules}


def null_space(matrix: Tensor) -> Tensor:
    """Orthonormal columns [rank, n] that `matrix` [rows >= rank, rank] maps to zero, and unused ones apart."""
    size = matrix.norm(dim=0)
    used = size > 1e-12 * size.max()
    _, values, vectors = torch.linalg.svd(matrix[:, used], full_matrices=False)
    null = vectors[values < EXACT * values[:1]].T
    out = torch.zeros(matrix.shape[1], null.shape[1], dtype=torch.float64)
    out[used] = null
    return out
