"""Symbol and SymMap: the sizes of a model that can change, by module, with how they depend on each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from torch import nn

from mtcore.errors import TraceError


class CLType(Enum):
    """How a symbol crosses layers: not at all, into its layer, out of it."""

    NONE = "none"
    INCOMING = "incoming"
    OUTGOING = "outgoing"


class Symbol:
    """One size of one module. It is in exactly one of four states.

    searchable: an independent decision. free: waits to be linked. dynamic: follows a parent. constant: fixed.

    Example:
        >>> out, into = Symbol(is_searchable=True), Symbol()
        >>> into.link_to(out)
        >>> (out.state, into.state)
        ('searchable', 'dynamic')
        >>> out.disable()
        >>> (out.state, into.state)
        ('constant', 'constant')
    """

    def __init__(
        self,
        is_searchable: bool = False,
        is_sortable: bool = True,
        cl_type: CLType = CLType.NONE,
        elastic_dims: frozenset[int] | None = None,
        *,
        parameter: str = "",
        axis: int = 0,
    ) -> None:
        if (cl_type is CLType.NONE) != (elastic_dims is None):
            raise TraceError("elastic_dims belongs to symbols that cross layers, and only to them")
        self.cl_type, self.elastic_dims = cl_type, elastic_dims
        self.parameter, self.axis = parameter, axis
        self.parent: Symbol | None = None
        self.dependents: list[Symbol] = []
        self._searchable, self._sortable, self._constant = is_searchable, is_sortable, False

    @property
    def state(self) -> str:
        if self._constant:
            return "constant"
        if self.parent is not None:
            return "dynamic"
        return "searchable" if self._searchable else "free"

    @property
    def root(self) -> Symbol:
        return self if self.parent is None else self.parent.root

    @property
    def is_sortable(self) -> bool:
        """Whether the channels may be reordered: true of the whole tree or of none of it."""
        return all(symbol._sortable for symbol in self.root._tree())

    @property
    def is_dangling(self) -> bool:
        """A symbol that crosses layers and was never linked."""
        return self.cl_type is not CLType.NONE and self.state == "free"

    def link_to(self, parent: Symbol) -> None:
        """From now on this symbol follows `parent`; legal from free or searchable."""
        if self.state not in ("free", "searchable"):
            raise TraceError(f"a {self.state} symbol cannot be linked: only free and searchable ones can")
        if parent.root is self:
            raise TraceError("a symbol cannot follow itself")
        if parent._constant:
            self.disable()
            return
        self.parent, self._searchable = parent, False
        parent.dependents.append(self)

    def disable(self) -> None:
        """Makes the whole tree constant."""
        for symbol in list(self.root._tree()):
            symbol._constant, symbol._sortable, symbol._searchable = True, False, False
            symbol.parent = None
            symbol.dependents = []

    def _tree(self) -> Iterator[Symbol]:
        yield self
        for dependent in self.dependents:
            yield from dependent._tree()


@dataclass
class SymInfo:
    """The symbols of one module by name."""

    symbols: dict[str, Symbol] = field(default_factory=dict)
    is_shape_preserving: bool = False


SymbolFunction = Callable[[nn.Module], SymInfo]


@dataclass(frozen=True)
class SymbolSpec:
    """The symbols of one type of module, as a record.

    Attributes:
        name: unique in a registry: "nn.Linear".
        type: the modules' class; subclasses with the same forward are meant too.
        symbols: gives the symbols of one module, new ones at each call.

    Example:
        >>> SymbolSpec("nn.ReLU", nn.ReLU, lambda module: SymInfo(is_shape_preserving=True)).type
        <class 'torch.nn.modules.activation.ReLU'>
    """

    name: str
    type: type[nn.Module]
    symbols: SymbolFunction


class SymbolRules:
    """Module type -> its symbols. A subclass takes its base's rule only while it has the same forward.

    Example:
        >>> rules = SymbolRules()
        >>> @rules.register(nn.Linear)
        ... def linear(module: nn.Module) -> SymInfo:
        ...     return SymInfo({"out_features": Symbol(is_searchable=True)})
        >>> list(rules.find(nn.Linear(2, 3))(nn.Linear(2, 3)).symbols)
        ['out_features']
    """

    def __init__(self) -> None:
        self._rules: dict[type[nn.Module], SymbolFunction] = {}

    @classmethod
    def of(cls, specs: Iterable[SymbolSpec]) -> SymbolRules:
        """The rules of these records.

        Raises:
            TraceError: two records speak of one type.
        """
        rules, names = cls(), dict[type[nn.Module], str]()
        for spec in specs:
            if spec.type in names:
                raise TraceError(
                    f"the symbols of {spec.type.__qualname__} are given by {names[spec.type]!r} and by "
                    f"{spec.name!r}; leave one out"
                )
            names[spec.type] = spec.name
            rules.register(spec.type)(spec.symbols)
        return rules

    def specs(self) -> tuple[SymbolSpec, ...]:
        """The rules as records; one of torch's layers is named as in code: "nn.Linear"."""
        return tuple(SymbolSpec(_type_name(kind), kind, function) for kind, function in self._rules.items())

    def register(
        self, types: type[nn.Module] | Iterable[type[nn.Module]]
    ) -> Callable[[SymbolFunction], SymbolFunction]:
        """Decorates the function that gives the symbols of modules of these types."""
        wanted = [types] if isinstance(types, type) else list(types)

        def decorate(function: SymbolFunction) -> SymbolFunction:
            self._rules.update(dict.fromkeys(wanted, function))
            return function

        return decorate

    def unregister(self, kind: type[nn.Module]) -> None:
        del self._rules[kind]

    def find(self, module: nn.Module) -> SymbolFunction | None:
        for base in type(module).__mro__:
            if base in self._rules and base.forward is type(module).forward:
                return self._rules[base]
        return None


def _type_name(kind: type[nn.Module]) -> str:
    own = kind.__module__.startswith("torch.nn.")
    return f"nn.{kind.__name__}" if own else f"{kind.__module__}.{kind.__qualname__}"


class SymMap:
    """The symbols of a model, by module name and symbol name."""

    def __init__(self, model: nn.Module, rules: SymbolRules) -> None:
        self._infos: dict[str, SymInfo] = {}
        for name, module in model.named_modules():
            rule = rules.find(module)
            if rule is not None:
                self.add_sym_info(name, rule(module))

    def __str__(self) -> str:
        """A symbol a line with its state."""
        return "\n".join(f"{name}: {symbol.state}" for name, symbol in self.named_symbols())

    def add_sym_info(self, module: str, info: SymInfo) -> None:
        """Adds or replaces a module's symbols; their parameters get the module's name in front."""
        for symbol in info.symbols.values():
            if symbol.parameter and module:
                symbol.parameter = f"{module}.{symbol.parameter}"
        self._infos[module] = info

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __contains__(self, module: object) -> bool:
        return module in self._infos

    def get_symbol(self, module: str, name: str) -> Symbol:
        if module not in self._infos or name not in self._infos[module].symbols:
            raise TraceError(f"module {module!r} has no symbol {name!r}")
        return self._infos[module].symbols[name]

    def set_symbol(self, module: str, name: str, symbol: Symbol) -> None:
        self._infos.setdefault(module, SymInfo()).symbols[name] = symbol

    def is_shape_preserving(self, module: str) -> bool:
        return module in self._infos and self._infos[module].is_shape_preserving

    def named_symbols(self, *states: str) -> Iterator[tuple[str, Symbol]]:
        """('module.symbol', symbol) for all symbols, or for those in the given states."""
        for module, info in self._infos.items():
            for name, symbol in info.symbols.items():
                if not states or symbol.state in states:
                    yield f"{module}.{name}" if module else name, symbol

    def prune(self) -> None:
        """Drops modules that have only constants."""
        for module in list(self._infos):
            if all(symbol.state == "constant" for symbol in self._infos[module].symbols.values()):
                del self._infos[module]
