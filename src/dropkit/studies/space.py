"""What a search chooses: the rate of each role, the kind of dropout, the weight decay beside them."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dropkit.errors import DropkitError, unknown
from dropkit.models.kinds import KINDS
from dropkit.models.policy import Policy
from dropkit.runs.config import TrainConfig
from dropkit.studies.arms import arm_config

if TYPE_CHECKING:
    from optuna import Trial

STEP = 0.05  # between two rates: finer ones cannot be told apart, and nobody wants to type them
MAPS_MOST = 0.5  # the rates that Srivastava et al. use for convolutions end at .5 (JMLR 2014, appendix B)
UNITS_MOST = 0.8
TUTORIAL_RATE = 0.5
DECAYS = (0.0, 1e-5, 1e-4, 1e-3)
DEFAULT_KINDS = ("unit", "channel", "dropblock")
_FLAT = ("fc", "head")
DECAY = "weight_decay"

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """What is dropped at one site: its name, the kinds to choose from, and the highest rate."""

    site: str
    kinds: tuple[str, ...]
    most: float

    @property
    def kind_name(self) -> str:
        """What the choice of the kind is called among the parameters."""
        return f"{self.site} kind"

    def rates(self) -> list[float]:
        """Return the rates that may be chosen, 0 among them.

        >>> Choice("fc", ("unit",), 0.2).rates()
        [0.0, 0.05, 0.1, 0.15, 0.2]
        """
        return [round(i * STEP, 10) for i in range(round(self.most / STEP) + 1)]

    def item(self, params: Params) -> str | None:
        """Return the policy's item; None at rate 0."""
        rate = float(params[self.site])
        kind, slash, argument = str(params.get(self.kind_name, self.kinds[0])).partition("/")
        named = "" if kind == "unit" else f"{kind}:"
        return f"{self.site}={named}{rate:g}{slash}{argument}" if rate else None


@dataclass(frozen=True)
class Space:
    """The space of a search.

    Attributes:
        choices: one for each site.
        decays: weight decays to choose from; the training's own is the first.
        tutorial: the tutorial's policy in this network.
    """

    choices: tuple[Choice, ...]
    decays: tuple[float, ...]
    tutorial: str

    @property
    def size(self) -> int:
        """How many different trainings there are in it: at rate 0 all kinds are the same.

        Example:
            >>> Space((Choice("fc", ("unit", "gaussian"), 0.1),), (0.0, 1e-4), "fc=0.5").size
            10
        """
        rates = (1 + (len(choice.rates()) - 1) * len(choice.kinds) for choice in self.choices)
        return math.prod(rates) * len(self.decays)

    def key(self, params: Params) -> tuple[str, float]:
        """Return what makes two trials the same: the policy, and the weight decay."""
        return self.policy(params), float(params.get(DECAY, self.decays[0]))

    def suggest(self, trial: "Trial") -> None:
        """Have optuna choose every parameter of a trial."""
        for choice in self.choices:
            trial.suggest_float(choice.site, 0.0, choice.rates()[-1], step=STEP)
            if len(choice.kinds) > 1:
                trial.suggest_categorical(choice.kind_name, choice.kinds)
        if len(self.decays) > 1:
            trial.suggest_categorical(DECAY, self.decays)

    def policy(self, params: Params) -> str:
        """Return the policy that the parameters mean.

        Example:
            >>> choices = Choice("conv", ("unit", "channel"), 0.5), Choice("fc", ("unit",), 0.8)
            >>> space = Space(choices, (0.0,), "fc=0.5")
            >>> space.policy({"conv": 0.15, "conv kind": "channel", "fc": 0.4}), space.policy({"conv": 0, "fc": 0})
            ('conv=channel:0.15,fc=0.4', 'none')
        """
        items = [item for choice in self.choices if (item := choice.item(params)) is not None]
        return ",".join(items) or "none"

    def samples(self) -> list[dict[str, Any]]:
        """Return parameters in which every site drops something, and every kind occurs."""
        width = max(len(choice.kinds) for choice in self.choices)
        plain: dict[str, Any] = {choice.site: STEP for choice in self.choices} | {DECAY: self.decays[0]}
        return [
            plain | {choice.kind_name: choice.kinds[index % len(choice.kinds)] for choice in self.choices}
            for index in range(width)
        ]

    def levels(self) -> dict[str, tuple[Any, ...]]:
        """Return what each parameter may be."""
        found: dict[str, tuple[Any, ...]] = {}
        for choice in self.choices:
            found[choice.site] = tuple(choice.rates())
            if len(choice.kinds) > 1:
                found[choice.kind_name] = choice.kinds
        return {**found, DECAY: self.decays} if len(self.decays) > 1 else found

    def title(self, name: str) -> str:
        """Return what a parameter is called for people.

        Example:
            >>> space = Space((Choice("fc", ("unit",), 0.8),), (0.0, 1e-4), "fc=0.5")
            >>> space.title("fc"), space.title("weight_decay")
            ('fc rate', 'weight decay')
        """
        return f"{name} rate" if any(name == choice.site for choice in self.choices) else name.replace("_", " ")

    def describe(self, params: Params) -> str:
        """Return the policy that the parameters mean, and the weight decay where that is one of the choices."""
        decay = f", weight decay {params[DECAY]:g}" if len(self.decays) > 1 else ""
        return self.policy(params) + decay

    def config(self, base: TrainConfig, params: Params) -> TrainConfig:
        """Return the training that the parameters mean."""
        policy, decay = self.key(params)
        return dataclasses.replace(arm_config(base, policy), weight_decay=decay)

    def references(self) -> list[tuple[str, dict[str, Any] | None]]:
        """Return the policies that are always tried, with their parameters; None for one outside the space."""
        plain: dict[str, Any] = {choice.site: 0.0 for choice in self.choices}
        plain |= {choice.kind_name: choice.kinds[0] for choice in self.choices if len(choice.kinds) > 1}
        plain |= {DECAY: self.decays[0]} if len(self.decays) > 1 else {}
        flat = self.tutorial.partition("=")[0]
        there = next((choice for choice in self.choices if choice.site == flat and "unit" in choice.kinds), None)
        if there is None:
            return [("none", plain), (self.tutorial, None)]
        kind = {there.kind_name: "unit"} if len(there.kinds) > 1 else {}
        return [("none", plain), (self.tutorial, {**plain, **kind, flat: TUTORIAL_RATE})]

    def to_json(self) -> dict[str, Any]:
        """Return the space as plain JSON."""
        return {
            "sites": {choice.site: {"kinds": list(choice.kinds), "most": choice.most} for choice in self.choices},
            "step": STEP,
            "weight_decays": list(self.decays),
        }


def make_space(
    roles: Collection[str],
    *,
    sites: Sequence[str] | None = None,
    kinds: Sequence[str] | None = None,
    decays: Sequence[float] | None = None,
    decay: float = 0.0,
) -> Space:
    """Return the space of a search in a network.

    Args:
        roles: those of the network's sites.
        sites: which of them, as a policy names them; the roles conv, fc (or head), as far as there are any, when not
            given.
        kinds: what may be dropped; each site takes those that can act there. unit, channel, dropblock when not given;
            a block's side may follow, as in dropblock/3.
        decays: weight decays to choose from; 0, 1e-5, 1e-4, 1e-3 when not given.
        decay: the training's own, always among them.

    Raises:
        DropkitError: if there is nothing to choose, or a name is unknown.
    """
    flat = next((role for role in _FLAT if role in roles), "fc")
    named = tuple(sites) if sites is not None else tuple(role for role in ("conv", flat) if role in roles)
    if not named:
        raise DropkitError("the network has no site to search: name some, as in --sites conv,fc")
    require_names(named, kinds)
    wanted = tuple(kinds) if kinds is not None else DEFAULT_KINDS
    choices = tuple(_choice(site, wanted, given=kinds is not None) for site in named)
    own = (float(decay), *(float(each) for each in (DECAYS if decays is None else decays)))
    return Space(choices, tuple(dict.fromkeys(own)), f"{flat}={TUTORIAL_RATE:g}")


def require_names(sites: Sequence[str] | None, kinds: Sequence[str] | None) -> None:
    """Refuse names that are wrong in any network.

    Raises:
        DropkitError: naming them.
    """
    for site in sites or ():
        if "=" in site or ":" in site:
            raise DropkitError(f"sites are names alone, such as conv or fc[0], and got {site!r}: rates are searched")
    for what, names in (("sites", sites or ()), ("kinds", kinds or ())):
        if len(set(names)) < len(names):
            raise DropkitError(f"{what} names one twice: {','.join(names)}")
    for kind in kinds or ():
        name, slash, argument = kind.partition("/")
        if name not in KINDS:
            raise unknown("kind of dropout", kind, KINDS)
        Policy.parse(f"fc={name}:{STEP}{slash}{argument}")  # what is wrong with the number is said there


def _choice(site: str, wanted: Sequence[str], *, given: bool) -> Choice:
    role = site.partition("@")[0].partition("[")[0]
    flat = role in _FLAT
    kinds = tuple(kind for kind in wanted if _acts(KINDS[kind.partition("/")[0]], role, flat))
    if not kinds and role == "path":
        kinds = ("sample",)
    elif not kinds and not given:
        kinds = ("unit",)
    if not kinds:
        raise DropkitError(f"none of the kinds {','.join(wanted)} can act at {site!r}: give others with --kinds")
    for kind in kinds:  # what is wrong with the site, or the argument, is said now
        name, slash, argument = kind.partition("/")
        Policy.parse(f"{site}={name}:{STEP}{slash}{argument}")
    return Choice(site, kinds, UNITS_MOST if flat else MAPS_MOST)


def _acts(kind: Any, role: str, flat: bool) -> bool:
    """Whether a kind of dropout can act at a role; whole maps are dropped where there are maps."""
    if kind.learned:
        return False  # its rate is learned, there is nothing to search
    return bool(kind.path == (role == "path") and not (flat and kind.maps))
