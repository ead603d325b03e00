"""Scoring: one forward of a batch through the unquantized model, with a look at every choice of every decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mtcore.calibration import forward_batch
from mtcore.errors import CalibrationError
from mtcore.opt.decisions import AS_IT_IS, Decision
from mtcore.opt.spec import Look, SearcherSpec
from mtcore.trace.structure import tensors_in

Loss = Callable[[Any, Any], tuple[Tensor, int]]
"""From the model's output and the batch to the loss, summed over predictions (fp32 [], differentiable), and the
number of these."""

Scores = dict[str, dict[str, float]]
"""Cost by name of the decision and choice; a decision that the batch did not reach is left out."""


@dataclass(frozen=True)
class Scorer:
    """What a batch is scored with.

    Attributes:
        model: as it is, in eval mode; it is so again afterwards.
        twins: by choice, a model with the same parameters whose layers are that choice's quantized forms.
        decisions: what is scored.
        spec: how.
        loss: of the model; needed by searchers that want gradients.
    """

    model: nn.Module
    twins: Mapping[str, nn.Module]
    decisions: Sequence[Decision]
    spec: SearcherSpec
    loss: Loss | None = None

    def scores(self, batch: Any) -> Scores:
        """What every choice costs on a batch.

        Raises:
            CalibrationError: a score is not finite; a layer's output is changed in place before its gradient is
                known; or the searcher wants a loss, and there is none. The layer is named.
        """
        looking = _Looking(self)
        with looking.hooks(), _only_activations(self.model), torch.set_grad_enabled(self.spec.gradients):
            output = forward_batch(self.model, batch)
            if self.spec.gradients:
                if self.loss is None:
                    raise CalibrationError(
                        f"{self.spec.name} needs the gradient of a loss, and the loss of a "
                        f"{type(self.model).__name__} is not known; choose a searcher without (output_error)"
                    )
                loss, looking.samples = self.loss(output, batch)
                if loss.requires_grad:  # else the batch reached no layer that is scored
                    loss.backward()  # type: ignore[no-untyped-call]
        return looking.totals()


@dataclass
class _Looking:
    """The looks of one forward."""

    scorer: Scorer
    samples: int = 1
    found: dict[str, dict[str, list[Tensor]]] = field(default_factory=dict)

    @contextmanager
    def hooks(self) -> Iterator[None]:
        handles = []
        try:
            for decision in self.scorer.decisions:
                for site in decision.sites:
                    hook = self._hook(decision, site)
                    handles.append(
                        self.scorer.model.get_submodule(site).register_forward_hook(hook, with_kwargs=True)
                    )
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, decision: Decision, site: str) -> Callable[..., Any]:
        def look(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            exact = _values(output)
            if not exact.numel():
                return None
            if not self.scorer.spec.gradients:
                self._score(decision, site, args, kwargs, exact, None)
                return None
            begun = None
            if not exact.requires_grad:  # nothing before it needs a gradient, so the graph begins here
                begun = exact = exact.detach().requires_grad_().clone()
                if not isinstance(output, Tensor):
                    raise CalibrationError(
                        f"{site}: it gives several tensors, and no gradient can begin in the first of them; choose "
                        "a searcher without gradients (output_error)"
                    )
            inputs = [exact, *tensors_in((args, kwargs))]
            versions = [tensor._version for tensor in inputs]

            def gradient_known(gradient: Tensor) -> None:
                if [tensor._version for tensor in inputs] != versions:
                    raise CalibrationError(
                        f"{site}: what it reads or gives is changed in place later, so that its gradient comes too "
                        "late; choose a searcher without gradients (output_error)"
                    )
                self._score(decision, site, args, kwargs, exact, gradient)

            exact.register_hook(gradient_known)  # type: ignore[no-untyped-call]
            return begun

        return look

    @torch.no_grad()
    def _score(
        self, decision: Decision, site: str, args: Any, kwargs: Any, exact: Tensor, gradient: Tensor | None
    ) -> None:
        scores = self.found.setdefault(decision.name, {})
        for choice in decision.bits:
            if choice == AS_IT_IS:
                continue
            output = self.scorer.twins[choice].get_submodule(site)(*args, **kwargs)
            look = Look(exact.detach(), _values(output), gradient, self.samples)
            scores.setdefault(choice, []).append(self.scorer.spec.score(look))

    def totals(self) -> Scores:
        """Sums over calls and layers; one wait for the device."""
        totals = {
            name: {choice: float(torch.stack(parts).double().sum()) for choice, parts in scores.items()}
            for name, scores in self.found.items()
        }
        for name, scores in totals.items():
            for choice, score in scores.items():
                if not 0 <= score < float("inf"):
                    raise CalibrationError(
                        f"{name}: its score for {choice} is {score}; check its weights and the calibration data "
                        "for NaN and infinities"
                    )
        return totals


def _values(output: Any) -> Tensor:
    """What a layer computed: the first tensor of numbers in its output."""
    return next(tensor for tensor in tensors_in(output) if tensor.is_floating_point())


@contextmanager
def _only_activations(model: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient meanwhile: those of activations are enough, and take less memory."""
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
