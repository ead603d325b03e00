"""QuantModuleRegistry and QuantizeModeRegistry: register layers and algorithms of one's own from a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from mtcore.errors import PluginError
from mtcore.nn import QuantModule, QuantModuleSpec, WeightSlot
from mtcore.plugins import default_registry
from mtcore.plugins.local import LOCAL

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
    from mtcore.plan import Plan

_Quantized = TypeVar("_Quantized", bound=type[nn.Module])
_Driver = TypeVar("_Driver", bound="Callable[[CalibrationRun, Any], None]")


class ModuleRegistry:
    """Quantized layers by the class that they replace: those of mtcore, of plugins, and of this process.

    A package yields `QuantModuleSpec` records from the hook `mtcore_quant_modules` instead; this is for scripts and
    notebooks. What is registered here is part of `default_registry()` from then on, and of no other registry.
    """

    def register(
        self,
        classes: Mapping[type[nn.Module], str],
        *,
        weights: Sequence[WeightSlot] = (WeightSlot(),),
        activations: Sequence[str] = ("input", "output"),
        feature_axis: int = -1,
        by_name_only: bool = False,
    ) -> Callable[[_Quantized], _Quantized]:
        """A decorator for a quantized class: a subclass of QuantModule and of the classes that it replaces.

        Args:
            classes: class → name of its type in rules.
            weights, activations, feature_axis, by_name_only: see `QuantModuleSpec`.

        Raises:
            PluginError: the class is no such subclass, or mtcore or a plugin has a layer of this name.

        Example:
            >>> from mtcore.nn import QuantLinear
            >>> class Scaled(nn.Linear):
            ...     def forward(self, input):
            ...         return 2 * super().forward(input)
            >>> @QuantModuleRegistry.register({Scaled: "Scaled"})
            ... class QuantScaled(QuantLinear, Scaled):
            ...     def forward(self, input):
            ...         return 2 * super().forward(input)
            >>> QuantModuleRegistry[Scaled] is QuantScaled
            True
            >>> QuantModuleRegistry.unregister(Scaled)
        """

        def decorate(quantized: _Quantized) -> _Quantized:
            for original, name in classes.items():
                _check_layer(original, name, quantized)
                LOCAL.add_quant_module(
                    QuantModuleSpec(
                        name,
                        original,
                        quantized,
                        tuple(weights),
                        tuple(activations),
                        feature_axis=feature_axis,
                        by_name_only=by_name_only,
                    )
                )
            return quantized

        return decorate

    def unregister(self, original: type[nn.Module]) -> None:
        """Take back what was registered for a class in this process; KeyError if nothing was."""
        for spec in tuple(LOCAL.quant_modules.values()):
            if spec.original is original:
                LOCAL.remove(spec.name)
                return
        raise KeyError(original)

    def get(self, original: type[nn.Module]) -> type[nn.Module] | None:
        """The quantized class for exactly this class, or None."""
        spec = self._specs().get(original)
        return None if spec is None else spec.quantized

    def __getitem__(self, original: type[nn.Module]) -> type[nn.Module]:
        return self._specs()[original].quantized

    def __contains__(self, original: object) -> bool:
        return original in self._specs()

    def __iter__(self) -> Iterator[type[nn.Module]]:
        return iter(self._specs())

    def __len__(self) -> int:
        return len(self._specs())

    def _specs(self) -> dict[type[nn.Module], QuantModuleSpec]:
        specs = default_registry().quant_modules.values()
        return {spec.original: spec for spec in specs if spec.found_by == "type"}


class ModeRegistry:
    """Calibration algorithms by name: what `algorithm` of a recipe can say. As `ModuleRegistry` for its scope."""

    def register(
        self,
        name: str,
        options: type[BaseModel],
        *,
        summary: str = "",
        needs_data: bool = True,
        folds: bool = False,
    ) -> Callable[[_Driver], _Driver]:
        """A decorator for a driver `run(calibration_run, options)`.

        Args:
            name: what a recipe writes.
            options: pydantic model of its options.
            summary: one line for listings; the first line of the driver's docstring where empty.
            needs_data: whether it cannot run without a forward loop.
            folds: whether it scales parameters through the plan's folds, which are then proven beforehand.

        Raises:
            PluginError: mtcore or a plugin has an algorithm of this name.

        Example:
            >>> from pydantic import BaseModel
            >>> class Options(BaseModel): ...
            >>> @QuantizeModeRegistry.register("nothing", Options, needs_data=False)
            ... def run_nothing(run, options):
            ...     '''Leave every scale to the tensor.'''
            >>> QuantizeModeRegistry["nothing"].summary
            'Leave every scale to the tensor.'
            >>> QuantizeModeRegistry.unregister("nothing")
        """

        def decorate(driver: _Driver) -> _Driver:
            from mtcore.calibration.spec import AlgorithmSpec

            _check_free(name, default_registry().algorithms, LOCAL.algorithms, "algorithm")
            text = summary or (driver.__doc__ or name).strip().splitlines()[0]

            def needed(plan: Plan) -> bool:
                return needs_data

            LOCAL.add_algorithm(AlgorithmSpec(name, text, options, needed, driver, folds=folds))
            return driver

        return decorate

    def unregister(self, name: str) -> None:
        """Take back an algorithm of this process; KeyError if there is none of this name."""
        if name not in LOCAL.algorithms:
            raise KeyError(name)
        LOCAL.remove(name)

    def __getitem__(self, name: str) -> AlgorithmSpec:
        return default_registry().algorithms[name]

    def __contains__(self, name: object) -> bool:
        return name in default_registry().algorithms

    def __iter__(self) -> Iterator[str]:
        return iter(default_registry().algorithms)

    def __len__(self) -> int:
        return len(default_registry().algorithms)


QuantModuleRegistry = ModuleRegistry()
"""The quantized layers that this process can use, by the class that they replace."""

QuantizeModeRegistry = ModeRegistry()
"""The calibration algorithms that this process can use, by name."""


def _check_layer(original: type[nn.Module], name: str, quantized: type[nn.Module]) -> None:
    if not issubclass(quantized, QuantModule) or not issubclass(quantized, original):
        raise PluginError(
            f"{quantized.__name__} cannot be the quantized form of {original.__name__}: declare it as "
            f"class {quantized.__name__}(QuantModule, {original.__name__})"
        )
    _check_free(name, default_registry().quant_modules, LOCAL.quant_modules, "quantized layer")


def _check_free(name: str, known: Mapping[str, Any], local: Mapping[str, Any], kind: str) -> None:
    if name in known and name not in local:
        raise PluginError(f"there is a {kind} named {name!r} already; give yours another name")
