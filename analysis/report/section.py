"""The texts of a study in a report: warnings, facts on what was run, and provenance."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.names import in_order
from analysis.records.plan import flat, level_note, planned_levels
from analysis.records.studies import Study, settings_text
from analysis.stats.collapse import is_collapsed, older_note
from analysis.stats.inference import losses_without_gain
from analysis.stats.interaction import grid_of_effects
from analysis.text import first_few

Facts = list[tuple[str, str]]
"""Names and values, as text."""


def warnings(study: Study, plans: Sequence[Mapping[str, Any]], *, own_data: bool) -> list[str]:
    """Warnings that are shown before any number, such as differences from the setting of the paper.

    `own_data`: the paper does not use this data set.
    """
    lines = [study.about]
    if own_data:
        lines.append("The paper does not use these data: they are judged by its sentences about real data.")
    if study.other_task:
        lines.append(f"The paper does not predict {study.other_task}: its sentences are asked of that.")
    if study.dataset == "vts" and not study.source.lower().startswith("dtd"):
        lines.append(f"These are results on {study.source or 'unnamed textures'}, not on DTD.")
    if study.dataset == "cifar10" and not study.source.startswith("CIFAR-10"):
        lines.append(f"These are results on {study.source or 'unnamed images'}, not on CIFAR-10.")
    presets = sorted({str(plan.get("preset") or "") for plan in plans})
    if not presets or not all(name.endswith("-paper") for name in presets):
        setting = f"preset {', '.join(presets)}" if any(presets) else "a setting that the folder does not name"
        lines.append(
            f"This sweep used {setting}, not the setting of the paper (scale, encoder, budget). The verdicts say "
            "whether these records agree with the paper's sentences. They do not reproduce or refute the paper."
        )
    noisy = study.records[(study.records["status"] == "done") & (study.records["rho"] > 0)]
    if noisy["seed"].nunique() < 2:
        lines.append("One seed: there are no intervals and no verdicts. Run the same command with --seeds 0 1 2.")
    if study.grown:
        lines.append(f"{level_note(study.level)}.")
    if losses := losses_without_gain(study.records, study.metric, level=study.level):
        lines.append(
            f"Even without noisy pairs, pretraining with {', '.join(losses)} is not shown to beat the random encoder "
            '(see "Did pretraining learn?"). Then the effect of noisy pairs on these losses means little.'
        )
    collapsed = study.records[is_collapsed(study.records)]
    if len(collapsed):
        counts = collapsed["objective"].value_counts()
        named = ", ".join(f"{name} {counts[name]}" for name in in_order(counts.index))
        lines.append(
            f"{len(collapsed)} of {len(study.records)} cells have collapsed ({named}): pretraining ended at the "
            'plateau of the loss, or with features that are all alike (see "Did pretraining learn?").'
        )
        lines += [f"{older}."] if (older := older_note(study.records)) else []
    return lines


def missing_levels(levels: Sequence[Study], plans: Sequence[Mapping[str, Any]]) -> list[str]:
    """A warning on the levels in `sweep.yaml` that have no cell."""
    known = [{settings_text((one,)) for one in level.settings} for level in levels]
    planned = [
        [settings_text(((name, _number(value)),)) for name, value in one.items()]
        for plan in plans
        for one in planned_levels(plan)
    ]
    absent = [", ".join(texts) for texts in planned if not any(set(texts) <= own for own in known)]
    return [f"No cell is recorded at {first_few(absent, 4, '; ')}. Run the same command again."] if absent else []


def varied_facts(study: Study) -> Facts:
    """The settings that vary, with their values."""
    known = [(name, sorted(study.records[name].dropna().unique())) for name in study.varied]
    texts = [(name, ", ".join(v if isinstance(v, str) else f"{v:g}" for v in values)) for name, values in known]
    return [*texts, ("effects are means over", grid_of_effects(study)), ("score", study.score)]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def facts(study: Study, cells: pd.DataFrame, plans: Sequence[Mapping[str, Any]]) -> Facts:
    """The facts on what was run; `cells` as from `analysis.records.coverage.coverage`."""
    records = study.records
    counts = cells["status"].value_counts()
    states = ", ".join(f"{counts.get(name, 0)} {name}" for name in ("done", "failed", "missing"))
    noisy = records[records["rho"] > 0]
    pairs = [
        ("data", study.source or "not recorded"),
        ("preset", ", ".join(sorted({str(plan["preset"]) for plan in plans if plan.get("preset")})) or "not recorded"),
        ("losses and baselines", ", ".join(in_order(records["objective"]))),
        ("rho, the noisy-pairs rate", _levels(records["rho"])),
        ("nu, the per-image noise", _levels(noisy["nu"]) if (noisy["nu"] > 0).any() else "none: real pairs"),
        ("pairings", ", ".join(sorted(set(noisy["pairing"]))).replace("_", " ") or "none"),
        ("seeds", _levels(records["seed"])),
        ("cells", f"{len(cells)}: {states}"),
        ("score", study.score),
    ]
    steps = records["pretrain_steps"].dropna().unique()
    return [*pairs, ("pretraining", f"{_levels(pd.Series(steps))} steps")] if len(steps) else pairs


def provenance(study: Study) -> Facts:
    """The origin of the records: code, libraries, machines, time."""
    records = study.records
    seconds, started = records["seconds"].dropna(), records["started"].dropna()
    time = f"{seconds.sum() / 3600:.1f} h in total, median {seconds.median():.0f} s per cell" if len(seconds) else ""
    pairs = [
        ("recipe", study.recipe),
        ("data fingerprint", _distinct(records["data"])),
        ("weights", _distinct(records["weights"])),
        ("commit", _distinct(records["commit"])),
        ("noisy-pairs", _distinct(records["version"])),
        ("libraries", "; ".join(_libraries(text) for text in records["versions"].dropna().unique())),
        ("device", _distinct(records["device"])),
        ("arithmetic", _distinct(records["precision"])),
        ("compiled", _distinct(records["compile"])),
        ("CPU threads per cell", _distinct(records["threads"])),
        ("time of cells", time),
        ("started", f"{started.min()} to {started.max()}" if len(started) else ""),
    ]
    return [(name, value) for name, value in pairs if value]


def settings(plans: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Facts]]:
    """All settings in `sweep.yaml`, by folder."""
    return [
        (folder, [(name, _setting_text(value)) for name, value in flat(plan).items()])
        for folder, plan in plans.items()
        if plan
    ]


def _setting_text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _levels(values: pd.Series) -> str:
    return ", ".join(f"{value:g}" for value in sorted(set(values))) or "none"


def _distinct(values: pd.Series) -> str:
    return ", ".join(sorted({str(value) for value in values.dropna()}))


def _libraries(text: str) -> str:
    try:
        return ", ".join(f"{name} {version}" for name, version in json.loads(text).items())
    except (ValueError, AttributeError):
        return text
