"""The whole comparison: what is asked for, what is timed, and the record of it."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, arg

from dropkit.errors import DropkitError

KIB = 1 << 10
SIZES = (4 * KIB, 64 * KIB, 1024 * KIB, 16 * 1024 * KIB, 64 * 1024 * KIB)
UNITS = {"Ki": KIB, "Mi": KIB**2, "Gi": KIB**3}
DTYPES = ("float32", "float64", "bfloat16", "float16")

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What is timed."""

    only: Literal["all", "masks", "networks"] = "all"
    """masks: dropout of an activation by itself; networks: the training steps of two networks."""

    sizes: Annotated[tuple[str, ...], arg(metavar="UNITS ...")] = ("4Ki", "64Ki", "1Mi", "16Mi", "64Mi")
    """Units of the activations: numbers, with Ki, Mi or Gi for 2**10, 2**20, 2**30."""

    dtypes: Annotated[tuple[str, ...], arg(metavar="NAME ...")] = ("float32", "bfloat16")
    """float32, float64, bfloat16, float16."""

    p: float = 0.1
    """Drop probability (the tutorial's network has its own .5)."""

    seconds: float = 1.5
    """How long to time each case; at least five rounds are made."""

    compiled: FlagCreatePairsOff[bool] = True
    """Also time what torch.compile makes of both."""

    threads: Annotated[int | None, arg(metavar="N")] = None
    """CPU threads; torch's own number unless given."""

    device: Annotated[str, arg(metavar="NAME")] = "auto"
    """cpu, cuda or mps; auto takes a GPU where there is one."""


def bench(config: BenchConfig, tell: Tell = lambda line: None) -> dict[str, Any]:
    """Time dropkit beside torch.nn and beside a copy, all in turn; return the record, of plain JSON values.

    Args:
        config: what to time.
        tell: called with a line on what is timed now.

    Raises:
        DropkitError: a size, dtype, rate, time, number of threads or device is none.
    """
    import torch

    from dropkit.masks.kernels.library import instruction_set
    from dropkit.runs.environment import describe_environment
    from dropkit.runs.fitting import pick_device
    from dropkit.runs.training import computing_threads

    sizes, dtypes = _check(config)
    device = pick_device(config.device)
    with computing_threads(config.threads):
        note = _compiler_missing(device.type) if config.compiled else "torch.compile was not asked for"
        record: dict[str, Any] = {
            "environment": describe_environment(device, torch.float32),
            "kernels": instruction_set() if device.type == "cpu" else device.type,
            "p": config.p,
            "compiled": note is None,
            "note": note,
            "masks": [],
            "networks": [],
        }
        del record["environment"]["precision"]  # each row has its own
        if config.only != "networks":
            record["masks"] = list(_masks(config, sizes, dtypes, device.type, note is None, tell))
        if config.only != "masks":
            record["networks"] = list(_networks(config, device.type, tell))
    return record


def parse_units(text: str) -> int:
    """Return how many units a size means.

    Raises:
        DropkitError: it is no size.

    >>> parse_units("64Ki"), parse_units("1000")
    (65536, 1000)
    """
    number, factor = (text[:-2], UNITS[text[-2:]]) if text[-2:] in UNITS else (text, 1)
    if not (number.isascii() and number.isdigit()) or not 0 < int(number) * factor <= 4 * UNITS["Gi"]:
        raise DropkitError(f"--sizes takes numbers of units from 1 to 4Gi, as 1000, 64Ki or 16Mi, but got {text!r}")
    return int(number) * factor


def _check(config: BenchConfig) -> tuple[tuple[int, ...], Sequence[Any]]:
    """Return sizes and dtypes, or say what is wrong with the config."""
    import torch

    from dropkit.errors import unknown
    from dropkit.layers.base import check_p

    for name in config.dtypes:
        if name not in DTYPES:
            raise unknown("dtype", name, DTYPES)
    try:
        check_p(config.p)
    except ValueError as error:
        raise DropkitError(str(error)) from None
    if not 0 < config.seconds < float("inf"):
        raise DropkitError(f"--seconds has to be above 0, but got {config.seconds}")
    if config.threads is not None and config.threads < 1:
        raise DropkitError(f"--threads has to be at least 1, but got {config.threads}")
    if not config.sizes or not config.dtypes:
        raise DropkitError("--sizes and --dtypes take one value or more, but got none")
    sizes = tuple(dict.fromkeys(map(parse_units, config.sizes)))
    return sizes, [getattr(torch, name) for name in dict.fromkeys(config.dtypes)]


def _compiler_missing(device: str) -> str | None:
    """Return why torch.compile does not work here, or None if it does."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:
        return f"torch.compile does not work here ({type(error).__name__}: {str(error).strip().splitlines()[0]})"
    return None


def _masks(
    config: BenchConfig, sizes: tuple[int, ...], dtypes: Sequence[Any], device: str, compiled: bool, tell: Tell
) -> Iterator[dict[str, Any]]:
    from dropkit.bench.masks import mask_cases
    from dropkit.bench.timing import in_turn

    cases = mask_cases(sizes, tuple(dtypes), config.p, device, compiled=compiled)
    for case in _while_there_is_memory(cases):
        dtype = str(case.dtype).removeprefix("torch.")
        tell(f"{dtype}, {case.units:,} units, {case.task}")
        timings = in_turn(case.calls, config.seconds, device)
        base = timings[case.base]
        for name, timing in timings.items():
            yield {
                "task": case.task,
                "dtype": dtype,
                "units": case.units,
                "name": name,
                **_figures(timing),
                "gb_per_second": case.bytes[name] / timing.median / 1e9,
                "base": case.base,
                "ratio": timing.ratio(base),
                "bytes_saved": case.saved.get(name),
            }


def _while_there_is_memory(cases: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from cases
    except (RuntimeError, MemoryError) as error:  # torch has no class of its own for it on CPUs
        if "memory" not in str(error):
            raise
        raise DropkitError("an activation of these --sizes does not fit into memory: leave the largest out") from None


def _networks(config: BenchConfig, device: str, tell: Tell) -> Iterator[dict[str, Any]]:
    from dropkit.bench.networks import NONE, network_cases
    from dropkit.bench.timing import in_turn

    for case in network_cases(config.p, device):
        tell(f"{case.network}, {case.memory_format}")
        timings = in_turn(case.calls, 6 * config.seconds, device)
        for name, timing in timings.items():
            yield {
                "network": case.network,
                "memory_format": case.memory_format,
                "name": name,
                **_figures(timing),
                "base": NONE,
                "ratio": timing.ratio(timings[NONE]),
            }


def _figures(timing: Any) -> dict[str, Any]:
    low, high = timing.quartiles
    return {"seconds": timing.median, "low": low, "high": high, "n": len(timing.seconds)}
