"""What surgery says about what it did: a line for each dropout that it changed."""

from dataclasses import dataclass

from torch import nn

from dropkit.layers.learned import ConcreteDropout
from dropkit.models import hosts
from dropkit.models.own import rate_attribute


@dataclass(frozen=True)
class Change:
    """One change that was made to a network's dropout.

    Attributes:
        path: path of the module at which, or of the function in which, it drops.
        site: the site as a policy names it, such as `conv[1]`; empty where no site is known.
        before: what dropped there before; `nothing` for nothing.
        after: what drops there now.
        keys: state-dict keys that the change adds (a learned rate has one) or removes.
    """

    path: str
    site: str
    before: str
    after: str
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in a line."""
        site = f" ({self.site})" if self.site else ""
        keys = f"; state-dict keys: {', '.join(self.keys)}" if self.keys else ""
        return f"{self.path or 'the network'}{site}: {self.before} -> {self.after}{keys}"


def site_name(layer: nn.Module) -> str:
    """Return the site at which a layer acts, as a policy names it; empty where none is known."""
    site = hosts.site_of_layer(layer)
    return site.name if site is not None and site.role != "module" else ""


def with_origin(module: nn.Module) -> str:
    """Return what drops in a module, with the library where the name alone does not tell it from dropkit's."""
    library = type(module).__module__.partition(".")[0]
    known = {"torch": " of torch.nn", "torchvision": " of torchvision", "timm": " of timm"}
    return f"{one_line(module)}{known.get(library, '')}"


def rates_set(module: nn.Module) -> tuple[str, ...]:
    """Return the attributes of a module that hold rates which were set; none for a dropout layer."""
    return () if rate_attribute(module) is not None else tuple(module.__dict__.get(hosts.RATES, {}))


def dropping(module: nn.Module, held: tuple[str, ...]) -> str:
    """Return what drops in a module: itself if it is a layer, else the rates that the attributes `held` hold."""
    if not held:
        return one_line(module)
    shown = ", ".join(f"{name}={getattr(module, name):g}" for name in held)
    return f"{type(module).__name__}({shown})"


def one_line(module: nn.Module) -> str:
    """Return what a layer is, without the modules in it."""
    attribute = rate_attribute(module)
    shown = module.extra_repr()
    if not shown and attribute is not None and not isinstance(module, ConcreteDropout):  # on no device it has a rate
        shown = f"{attribute}={getattr(module, attribute):g}"  # timm's and torchvision's need not say
    return f"{type(module).__name__}({shown})"
