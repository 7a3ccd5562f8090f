"""Which names of networks mean one of a library's, and which the user's own function. Needs no torch."""

from dropkit.callables import code_of, names_function

ZOOS = ("timm", "torchvision")


def is_zoo(name: str) -> bool:
    """Whether a network comes from a library: `timm:NAME` or `torchvision:NAME`.

    >>> is_zoo("timm:resnet18"), is_zoo("cnn"), is_zoo("mine.py:net")
    (True, False, False)
    """
    return name.partition(":")[0] in ZOOS and ":" in name


def is_own(name: str) -> bool:
    """Whether a network is made by a function of the user's own: `module:function` or `path.py:function`.

    >>> is_own("timm:resnet18"), is_own("cnn"), is_own("mine.py:net")
    (False, False, True)
    """
    return names_function(name) and not is_zoo(name)


def code_of_network(name: str) -> str | None:
    """Return what stands for the code of the user's own network, a hash of its file; None for any other network.

    Raises:
        DropkitError: if the function cannot be imported.
    """
    return code_of("model", name) if is_own(name) else None
