"""The codes of findings: each names one misuse of dropout, for good."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """What a code stands for.

    Attributes:
        title: the misuse, in a few words.
        severity: of its findings, as a rule: `error`, `warning` or `note`. A finding may be milder.
    """

    title: str
    severity: str


CODES: dict[str, Code] = {
    # Modes: when dropout acts (modes.py, ranks.py)
    "DK001": Code("functional dropout that stays on in eval mode", "error"),
    "DK002": Code("a dropout layer that train() and eval() do not reach", "error"),
    "DK003": Code("two evaluations of the same input differ", "error"),
    "DK004": Code("train() or eval() leaves a dropout layer in the other mode", "error"),
    "DK005": Code("dropout layers are in another mode than the network", "warning"),
    "DK006": Code("no_grad taken for eval", "warning"),
    "DK007": Code("the same masks on all ranks", "warning"),
    "DK008": Code("a dropout rate that changes nothing", "warning"),
    # Rates (rates.py)
    "DK010": Code("everything is dropped", "error"),
    "DK011": Code("a rate that is no probability", "error"),
    "DK012": Code("a rate that looks like the probability of keeping", "warning"),
    "DK013": Code("all rates are 0", "note"),
    # Kinds (kinds.py)
    "DK015": Code("the input's rank does not fit the kind of dropout", "error"),
    "DK016": Code("alpha dropout without SELU", "warning"),
    "DK017": Code("inplace that alpha dropout ignores", "note"),
    # Implementations (implementations.py)
    "DK018": Code("DropBlock at another rate than asked", "warning"),
    "DK019": Code("dropout in bfloat16 with a biased scale", "note"),
    # Norms (norms.py)
    "DK020": Code("dropout upstream of batch-norm", "warning"),
    # The flow of values (flow.py)
    "DK021": Code("dropout on the logits", "error"),
    "DK022": Code("the result of a dropout call is unused", "error"),
    "DK023": Code("a dropout layer that is never called", "warning"),
    "DK024": Code("a frozen backbone with live dropout", "warning"),
    "DK025": Code("dropout on the result of dropout", "note"),
    # The backward pass (backward.py)
    "DK030": Code("dropout in place that breaks the backward pass", "error"),
    "DK031": Code("inf or NaN with dropout alone", "error"),
    # Reuse (reuse.py)
    "DK035": Code("one dropkit layer called in several places", "note"),
}
