"""Quantized recurrent cells: one step of an LSTM, GRU or RNN."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.rnn import RNNCellBase

from mtcore.nn.quant_module import QuantModule, is_idle
from mtcore.nn.recurrence import StepWeights, step
from mtcore.nn.spec import QuantModuleSpec, WeightSlot


class _QuantCell(QuantModule, RNNCellBase):
    input_quantizer: nn.Module
    hidden_input_quantizer: nn.Module
    weight_ih_weight_quantizer: nn.Module
    weight_hh_weight_quantizer: nn.Module
    output_quantizer: nn.Module

    def _next(self, mode: str, input: Tensor, h: Tensor | None, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The next state for input [batch, features] or [features]; no state means zeros."""
        x = self.input_quantizer(input if input.dim() == 2 else input.unsqueeze(0))
        h = x.new_zeros(x.shape[0], self.hidden_size) if h is None else h.view(x.shape[0], -1)
        c = torch.zeros_like(h) if c is None else c.view(x.shape[0], -1)
        weights = StepWeights(
            self.weight_ih_weight_quantizer(self.weight_ih),
            self.weight_hh_weight_quantizer(self.weight_hh),
            self.bias_ih,
            self.bias_hh,
        )
        hidden, cell = self._step(mode, x, h, c, weights)
        hidden = self.output_quantizer(hidden)
        if input.dim() == 2:
            return hidden, cell
        return hidden.squeeze(0), None if cell is None else cell.squeeze(0)

    def _step(self, mode: str, x: Tensor, h: Tensor, c: Tensor, w: StepWeights) -> tuple[Tensor, Tensor | None]:
        if not is_idle(self.hidden_input_quantizer):
            from_input = F.linear(x, w.weight_ih, w.bias_ih)
            return step(mode, from_input, h, c, w, self.hidden_input_quantizer)
        tensors = (w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh)
        if mode == "LSTM":
            hidden, cell = torch.lstm_cell(x, (h, c), *tensors)
            return hidden, cell
        return _TORCH_STEPS[mode](x, h, *tensors), None


_TORCH_STEPS: dict[str, Callable[..., Tensor]] = {
    "GRU": torch.gru_cell,
    "RNN_TANH": torch.rnn_tanh_cell,
    "RNN_RELU": torch.rnn_relu_cell,
}


class QuantRNNCell(_QuantCell, nn.RNNCell):
    """nn.RNNCell with the slots input, hidden_input (the state), weight_ih, weight_hh and output."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._next(f"RNN_{self.nonlinearity.upper()}", input, hx, None)[0]


class QuantGRUCell(_QuantCell, nn.GRUCell):
    """nn.GRUCell, as QuantRNNCell; the state that passes around the product stays unquantized."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._next("GRU", input, hx, None)[0]


class QuantLSTMCell(_QuantCell, nn.LSTMCell):
    """nn.LSTMCell, as QuantRNNCell; output is the hidden state, and the cell state stays unquantized."""

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        h, c = hx if hx is not None else (None, None)
        hidden, cell = self._next("LSTM", input, h, c)
        assert cell is not None
        return hidden, cell


_WEIGHTS = (WeightSlot("weight_ih"), WeightSlot("weight_hh"))
_SLOTS = ("input", "hidden_input", "output")

CELLS = (
    QuantModuleSpec("nn.RNNCell", nn.RNNCell, QuantRNNCell, _WEIGHTS, _SLOTS),
    QuantModuleSpec("nn.GRUCell", nn.GRUCell, QuantGRUCell, _WEIGHTS, _SLOTS),
    QuantModuleSpec("nn.LSTMCell", nn.LSTMCell, QuantLSTMCell, _WEIGHTS, _SLOTS),
)
