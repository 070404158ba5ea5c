"""How often the default health limits blame an honest judge, and how soon they see a bad one: exact binomial chances.

    python -m benchmarks.health_limits

No model is asked. `alarm_from` asks the rule itself (`svd_loop.loop.health_rule`) at which count of canaries let
through a figure is out of bounds; the chances of reaching it follow from a rate per canary, taken as independent. The
rates at which an honest judge lets canaries through are those of the 25 rounds of the embedded model's jobs in
`benchmarks/results/controls.json`, and higher ones, since another judge has others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from statistics import fmean

from scipy.stats import binom

from benchmarks.controls import REPOSITORY
from svd_loop.config.health import HealthSection
from svd_loop.contracts import HealthFigure, HealthMeasure, HealthReport, PolicyVersion, RoundRecord, Scores
from svd_loop.loop.health_rule import HealthRule
from svd_loop.support.statistics import wilson

STORED = REPOSITORY / "benchmarks" / "results" / "controls.json"
KINDS, ROUNDS = 5, 10
CASCADE, FACTS, GRADE, DRIFT = "false_accept", "false_accept.factuality", "false_accept.correctness", "drift"
RULE = HealthRule(HealthSection())


def alarm_from(name: str, trials: int, first: int | None = None) -> int | None:
    """The smallest number of `trials` canaries let through that raises an alarm; None where all of them do not.

    Args:
        name: the figure.
        trials: canaries it is measured on.
        first: for `drift`, how many the first round let through.
    """
    figure = HealthFigure(HealthMeasure(name.partition(".")[0]), stage if (stage := name.partition(".")[2]) else None)
    cascade = HealthFigure(HealthMeasure.FALSE_ACCEPT)
    history = [] if first is None else [_record(HealthReport({cascade: wilson(first, trials)}))]
    for count in range(trials + 1):
        report = HealthReport({cascade if name == DRIFT else figure: wilson(count, trials)})
        found = RULE.assess(report, history)
        if found and figure in [alarm.figure for alarm in found.alarms]:
            return count
    return None


def chance(name: str, trials: int, rate: float) -> float:
    """That a round raises this alarm, of a judge that lets each canary through at `rate`."""
    needed = alarm_from(name, trials)
    return 0.0 if needed is None else float(binom.sf(needed - 1, trials, rate))


def chance_of_drift(trials: int, rate: float, rounds: int) -> float:
    """That any of the later rounds of a job raises it, of a judge that does not change."""
    total = 0.0
    for first in range(trials + 1):
        needed = alarm_from(DRIFT, trials, first)
        later = 0.0 if needed is None else float(binom.sf(needed - 1, trials, rate))
        total += float(binom.pmf(first, trials, rate)) * (1.0 - (1.0 - later) ** (rounds - 1))
    return total


def over_rounds(per_round: float, rounds: int = ROUNDS) -> float:
    """That at least one of the rounds has it."""
    return 1.0 - (1.0 - per_round) ** rounds


def measured_rates() -> dict[str, list[float]]:
    """Shares of canaries let through by the cascade and two stages in every stored round."""
    rounds = [
        record["metrics"]
        for play in json.loads(STORED.read_text())
        for record in play["rounds"]
        if f"health.{CASCADE}" in record["metrics"]
    ]
    return {name: [metrics[f"health.{name}"] for metrics in rounds] for name in (CASCADE, FACTS, GRADE)}


def honest(per_kind: int, means: Mapping[str, float]) -> list[str]:
    """Rows of false alarms over a job of ten rounds."""
    whole = KINDS * per_kind
    cases = [
        (CASCADE, whole, (means[CASCADE], 0.1)),
        (DRIFT, whole, (means[CASCADE], 0.1)),
        (FACTS, per_kind, (means[FACTS], 0.6, 0.65, 0.75)),
        (GRADE, whole, (means[GRADE], 0.5)),
    ]
    rows = []
    for name, trials, rates in cases:
        needed = alarm_from(name, trials, 0 if name == DRIFT else None)
        for rate in rates:
            found = chance_of_drift(trials, rate, ROUNDS) if name == DRIFT else over_rounds(chance(name, trials, rate))
            rows.append(f"| `{name}` | {needed} of {trials} | {rate:.2f} | {found:.2g} |")
    return rows


def bad(per_kinds: Sequence[int]) -> list[str]:
    """Rows of the chance to be caught in the first bad round by `false_accept`."""
    rates = (0.15, 0.2, 0.3, 0.4, 0.5, 1.0)
    rows = [f"| canaries a kind | {' | '.join(f'{rate:.0%}' for rate in rates)} |", "|---" * (len(rates) + 1) + "|"]
    for per_kind in per_kinds:
        cells = [f"{chance(CASCADE, KINDS * per_kind, rate):.2f}" for rate in rates]
        rows.append(f"| {per_kind} | {' | '.join(cells)} |")
    return rows


def _record(health: HealthReport) -> RoundRecord:
    return RoundRecord(1, PolicyVersion(1, ""), Scores("development", 1, (), (), ()), health=health)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--canaries", type=int, default=HealthSection().canaries, help="of a kind")
    options = parser.parse_args()
    rates = measured_rates()
    spans = [f"{name} {fmean(found):.3f} ({min(found):.3f}-{max(found):.3f})" for name, found in rates.items()]
    lines = [
        f"{len(rates[CASCADE])} rounds, share let through, mean (range): {'; '.join(spans)}",
        f"\n| figure | alarm from | rate a canary | chance in {ROUNDS} rounds |\n|---|---|---|---|",
        *honest(options.canaries, {name: fmean(found) for name, found in rates.items()}),
        "\ncaught in its first round, by the share of canaries that the cascade lets through:",
        *bad((3, 5, 8, options.canaries, 24)),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
