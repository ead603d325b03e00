"""Quantized LSTM, GRU and RNN: several layers, both directions, projections, packed sequences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from mtcore.nn.quant_module import QuantModule, is_idle
from mtcore.nn.recurrence import StepWeights, step
from mtcore.nn.spec import QuantModuleSpec, WeightSlot

State = tuple[Tensor, Tensor | None]
"""Hidden state [layers · directions, batch, size], and the cell state of an LSTM."""


class QuantRNNBase(QuantModule, nn.RNNBase):
    """Slots: every weight, input (of every layer), hidden_input (the state where it is multiplied), output.

    torch's fused kernel runs where it computes the same: if nothing but weights, the input of a single layer and
    the output are quantized. Else the recurrence is unrolled step by step in python.
    """

    input_quantizer: nn.Module
    hidden_input_quantizer: nn.Module
    output_quantizer: nn.Module

    def forward(self, input: Any, hx: Any = None) -> Any:
        if self.idle:
            return super().forward(input, hx)
        fused = is_idle(self.hidden_input_quantizer)
        fused = fused and (self.num_layers == 1 or is_idle(self.input_quantizer))
        output, state = self._fused(input, hx) if fused else self.unrolled(input, hx)
        return _with_data(output, self.output_quantizer(_data(output))), state

    def _fused(self, input: Any, hx: Any) -> tuple[Any, Any]:
        x = _with_data(input, self.input_quantizer(_data(input)))
        with self._quantized_flat_weights():
            output, state = super().forward(x, hx)
        return output, state

    @contextmanager
    def _quantized_flat_weights(self) -> Iterator[None]:
        flat = self._flat_weights
        self._flat_weights = [
            None if value is None else self._quantized(name, value)
            for name, value in zip(self._flat_weights_names, flat, strict=True)
        ]
        try:
            yield
        finally:
            self._flat_weights = flat

    def unrolled(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """The forward of torch, step by step; the output quantizer is left to the caller."""
        packed = isinstance(input, PackedSequence)
        single = not packed and input.dim() == 2
        if packed:
            data, sizes = input.data, input.batch_sizes.tolist()
        else:
            x = input.unsqueeze(1) if single else input.transpose(0, 1) if self.batch_first else input
            data, sizes = x.reshape(-1, x.shape[-1]), [x.shape[1]] * x.shape[0]
        h, c = self._first_state(hx, data, sizes[0], single, input.sorted_indices if packed else None)
        data, (h, c) = self._layers(data, sizes, h, c)
        if packed:
            output: Any = _with_data(input, data)
            h = _in_order(h, input.unsorted_indices)
            c = None if c is None else _in_order(c, input.unsorted_indices)
        else:
            output = data.reshape(len(sizes), sizes[0], -1)
            output = output.squeeze(1) if single else output.transpose(0, 1) if self.batch_first else output
        last = [s.squeeze(1) if single else s for s in (h, c) if s is not None]
        return output, tuple(last) if self.mode == "LSTM" else last[0]

    def _first_state(self, hx: Any, data: Tensor, batch: int, single: bool, order: Tensor | None) -> State:
        rows = self.num_layers * (2 if self.bidirectional else 1)
        if hx is None:
            h = data.new_zeros(rows, batch, self.proj_size or self.hidden_size)
            return h, data.new_zeros(rows, batch, self.hidden_size) if self.mode == "LSTM" else None
        parts = [part.unsqueeze(1) if single else part for part in (hx if self.mode == "LSTM" else (hx,))]
        parts = [_in_order(part, order) for part in parts]
        return parts[0], parts[1] if self.mode == "LSTM" else None

    def _layers(self, data: Tensor, sizes: list[int], h: Tensor, c: Tensor | None) -> tuple[Tensor, State]:
        directions = 2 if self.bidirectional else 1
        last_h: list[Tensor] = []
        last_c: list[Tensor] = []
        for layer in range(self.num_layers):
            x = self.input_quantizer(data)
            outputs = []
            for direction in range(directions):
                row = layer * directions + direction
                weights = self._step_weights(f"_l{layer}{'_reverse' if direction else ''}")
                state = (h[row], None if c is None else c[row])
                output, (end_h, end_c) = self._one_direction(x, sizes, state, weights, reverse=bool(direction))
                outputs.append(output)
                last_h.append(end_h)
                last_c += [] if end_c is None else [end_c]
            data = torch.cat(outputs, dim=-1)
            if self.dropout and layer < self.num_layers - 1:
                data = F.dropout(data, self.dropout, self.training)
        return data, (torch.stack(last_h), torch.stack(last_c) if last_c else None)

    def _one_direction(
        self, x: Tensor, sizes: list[int], state: State, weights: StepWeights, *, reverse: bool
    ) -> tuple[Tensor, State]:
        """One layer over all steps; `sizes` are the sequences that still run at each step, longest first."""
        h, c = state
        from_inputs = F.linear(x, weights.weight_ih, weights.bias_ih)
        steps = torch.split(from_inputs, sizes)
        outputs: list[Tensor] = []
        for from_input in steps[::-1] if reverse else steps:
            running = len(from_input)
            now_c = None if c is None else c[:running]
            now_h, now_c = step(self.mode, from_input, h[:running], now_c, weights, self.hidden_input_quantizer)
            outputs.append(now_h)
            h = torch.cat((now_h, h[running:]))
            c = None if c is None or now_c is None else torch.cat((now_c, c[running:]))
        return torch.cat(outputs[::-1] if reverse else outputs), (h, c)

    def _step_weights(self, suffix: str) -> StepWeights:
        found = {}
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"):
            value = self._parameters.get(name + suffix)
            found[name] = None if value is None else self._quantized(name + suffix, value)
        return StepWeights(**found)  # type: ignore[arg-type]

    def _quantized(self, name: str, value: Tensor) -> Tensor:
        if name not in self.slots:
            return value
        quantized: Tensor = self.get_submodule(self.slots[name])(value)
        return quantized


def _data(x: Any) -> Tensor:
    data: Tensor = x.data if isinstance(x, PackedSequence) else x
    return data


def _in_order(state: Tensor, order: Tensor | None) -> Tensor:
    return state if order is None else state.index_select(1, order)


def _with_data(like: Any, data: Tensor) -> Any:
    return like._replace(data=data) if isinstance(like, PackedSequence) else data


class QuantLSTM(QuantRNNBase, nn.LSTM):
    """nn.LSTM; see QuantRNNBase. The cell state stays unquantized."""


class QuantGRU(QuantRNNBase, nn.GRU):
    """nn.GRU; see QuantRNNBase."""


class QuantRNN(QuantRNNBase, nn.RNN):
    """nn.RNN; see QuantRNNBase."""


_WEIGHTS = (WeightSlot("weight_*"),)
_SLOTS = ("input", "hidden_input", "output")

RECURRENT = (
    QuantModuleSpec("nn.LSTM", nn.LSTM, QuantLSTM, _WEIGHTS, _SLOTS),
    QuantModuleSpec("nn.GRU", nn.GRU, QuantGRU, _WEIGHTS, _SLOTS),
    QuantModuleSpec("nn.RNN", nn.RNN, QuantRNN, _WEIGHTS, _SLOTS),
)
