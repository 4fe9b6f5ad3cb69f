"""`python -m benchmarks.sequential`: simulate the effect of adaptive seeds on intervals.

It prints three tables: the coverage of the interval, for three distributions of errors and several ratios of target to
spread; how often a mean on the bound of a claim is judged to be beyond it, if the claim and the monitored quantity
differ; and the number of seeds used, compared with a fixed number. No sweep is run.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import special, stats

from analysis.names import LEVEL
from analysis.stats.sequential import adjusted_level

SEED = 20_261_124

#: Targets (half-widths) in standard deviations between seeds.
RATIOS = (0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)

Law = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def _lognormal(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """With skewness 1.75."""
    law = stats.lognorm(0.5)
    return (generator.lognormal(0, 0.5, shape) - law.mean()) / law.std()


#: Distributions of the error of a seed, with mean 0 and variance 1.
LAWS: Mapping[str, Law] = {
    "normal": lambda generator, shape: generator.standard_normal(shape),
    "Student t, 3 degrees": lambda generator, shape: generator.standard_t(3, shape) / math.sqrt(3),
    "lognormal, skewness 1.75": _lognormal,
}


def half_widths(values: np.ndarray, first: int, level: float) -> np.ndarray:
    """The half-width of the t interval after `first` seeds, after one more, and so on.

    Values have the shape (runs, seeds), the result (runs, seeds - first + 1).
    """
    numbers = np.arange(1, values.shape[1] + 1)
    sums, squares = values.cumsum(axis=1), (values**2).cumsum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(np.maximum(squares - sums**2 / numbers, 0) / (numbers - 1) / numbers)
        found: np.ndarray = (special.stdtrit(numbers - 1, (1 + level) / 2) * spread)[:, first - 1 :]
    return found


def stops(half: np.ndarray, target: float, first: int) -> np.ndarray:
    """The number of seeds after which each run ends."""
    narrow = half < target
    narrow[:, -1] = True
    found: np.ndarray = narrow.argmax(axis=1) + first
    return found


def ended(values: np.ndarray, numbers: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and half-width of the first `numbers` values of each run."""
    rows = np.arange(len(values))
    means = values.cumsum(axis=1)[rows, numbers - 1] / numbers
    return means, half_widths(values, 2, level)[rows, numbers - 2]


def holds(values: np.ndarray, ratio: float, first: int, level: float) -> tuple[float, float]:
    """How often the interval contains the true mean 0, and the mean number of seeds."""
    numbers = stops(half_widths(values, first, level), ratio, first)
    means, half = ended(values, numbers, level)
    return float((np.abs(means) <= half).mean()), float(numbers.mean())


def beyond(watched: np.ndarray, claimed: np.ndarray, ratio: float, first: int, level: float) -> float:
    """How often the interval of a claimed quantity excludes its true mean 0, if another one decides the seeds.

    Returns the rate of the worse side.
    """
    numbers = stops(half_widths(watched, first, level), ratio, first)
    means, half = ended(claimed, numbers, level)
    return float(max((means > half).mean(), (means < -half).mean()))


def likely_narrow(numbers: np.ndarray, ratio: float) -> np.ndarray:
    """The probability that the 95 % interval over so many seeds is narrow enough, with normal errors."""
    t = special.stdtrit(numbers - 1, (1 + LEVEL) / 2)
    found: np.ndarray = special.chdtr(numbers - 1, numbers * (numbers - 1) * (ratio / t) ** 2)
    return found


def fixed(ratio: float, share: float = 0.9) -> int:
    """The smallest number of seeds whose 95 % interval is narrow enough in this share of cases, with normal errors."""
    numbers = np.arange(2, 2_000)
    return int(numbers[np.argmax(likely_narrow(numbers, ratio) >= share)])


def _coverage(generator: np.random.Generator, runs: int, first: int, most: int, level: float) -> None:
    print(f"Coverage, %, for {first} to {most} seeds; plain: 95 % intervals; widened: {100 * level:.4g} % intervals")
    print(f"  {'errors':<26}{'target / sd':>12}{'plain':>8}{'widened':>9}{'seeds':>8}{'three fixed':>13}")
    for name, law in LAWS.items():
        values = law(generator, (runs, most))
        few = holds(values[:, :3], math.inf, 3, LEVEL)[0]
        for ratio in RATIOS:
            plain, (held, used) = holds(values, ratio, first, LEVEL)[0], holds(values, ratio, first, level)
            print(f"  {name:<26}{ratio:>12g}{100 * plain:>8.1f}{100 * held:>9.1f}{used:>8.1f}{100 * few:>13.1f}")


def _verdicts(generator: np.random.Generator, runs: int, first: int, most: int, level: float) -> None:
    print("\nA mean on the bound judged to be beyond it, % (nominal: 2.5), for the worse side and the worst ratio,")
    print("by the correlation between the claimed and the monitored quantity")
    print(f"  {'errors':<26}{'correlation':>12}{'plain':>8}{'widened':>9}")
    for name, law in LAWS.items():
        watched, other = law(generator, (runs, most)), law(generator, (runs, most))
        for correlation in (1.0, 0.7, 0.0, -0.7):
            claimed = correlation * watched + math.sqrt(1 - correlation**2) * other
            worst = [max(beyond(watched, claimed, r, first, own) for r in RATIOS) for own in (LEVEL, level)]
            print(f"  {name:<26}{correlation:>12g}{100 * worst[0]:>8.1f}{100 * worst[1]:>9.1f}")


def _saved(generator: np.random.Generator, runs: int, first: int, most: int, level: float) -> None:
    print(f"\nSeeds used, and the fixed number whose 95 % interval is as narrow in 90 % of cases (at most {most})")
    print(f"  {'target / sd':>13}{'used':>8}{'narrow, %':>11}{'fixed':>8}{'narrow, %':>11}")
    values = LAWS["normal"](generator, (runs, most))
    used = {}
    for ratio in sorted({k * r for r in RATIOS for k in (1, 2, 4)}):
        numbers = stops(half_widths(values, first, level), ratio, first)
        used[ratio] = numbers.mean()
        if ratio in RATIOS:
            narrow = (ended(values, numbers, level)[1] < ratio).mean()
            number = min(max(fixed(ratio), first), most)
            likely = likely_narrow(np.array(number), ratio)
            print(f"  {ratio:>13g}{used[ratio]:>8.1f}{100 * narrow:>11.0f}{number:>8}{100 * likely:>11.0f}")
    print("\nThree losses with spreads 1 : 1/2 : 1/4; the target is in units of the largest")
    print(f"  {'target / sd':>13}{'used':>8}{'fixed':>8}{'saved, %':>10}")
    for ratio in RATIOS:
        rule, beforehand = sum(used[k * ratio] for k in (1, 2, 4)), 3 * min(max(fixed(ratio), first), most)
        print(f"  {ratio:>13g}{rule:>8.1f}{beforehand:>8}{100 * (1 - rule / beforehand):>10.0f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sequential", description=__doc__)
    parser.add_argument("--first", type=int, default=3, help="number of seeds at the start (default: 3)")
    parser.add_argument("--most", type=int, default=12, help="largest number of seeds (default: 12)")
    parser.add_argument("--runs", type=int, default=100_000, help="number of simulated sweeps (default: 100,000)")
    options = parser.parse_args(arguments)
    generator = np.random.default_rng(SEED)
    try:
        level = adjusted_level(options.first, options.most)
    except ValueError as error:
        parser.error(str(error))
    for table in (_coverage, _verdicts, _saved):
        table(generator, options.runs, options.first, options.most, level)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
