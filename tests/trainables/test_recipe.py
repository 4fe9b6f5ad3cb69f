"""The recipe: fingerprints outlive added settings, and parts that do not fit together are refused in one line."""

from dataclasses import asdict, dataclass, fields, replace

import pytest

from datasets.errors import InputError
from datasets.manifest.config import ManifestSettings
from datasets.types import Target
from datasets.xbd.config import XbdSettings
from trainables.cell import digest
from trainables.recipe import ADDED, ADDED_PARTS, Dense, Encoder, Moco, Pretrain, Probe, Recipe

CHANGED = {
    ("data", "min_share"): 0.05,
    ("data", "ood"): ("some-flood",),
    ("data", "shift"): 3.0,
    ("data", "turn"): 5.0,
    ("data", "scale"): 10.0,
    ("encoder", "stages"): 3,
    ("data", "select"): (3, 2, 1),
    ("data", "nodata"): ("0", "alpha"),
    ("data", "align"): "crop",
    ("data", "columns"): ("image=before",),
    ("data", "holdout"): (0.2, 0.2),
    ("data", "holdout_seed"): 1,
    ("encoder", "weights"): "/some/where 0123456789abcdef",
    ("dense", "denominator"): "public",
    ("dense", "norm"): True,
    ("pretrain", "optimizer"): "lars",
    ("pretrain", "schedule"): "constant",
    ("pretrain", "average"): 0.99,
    ("probe", "head"): "linear",
    ("probe", "neighbours"): 5,
    ("probe", "positions"): 100,
    ("probe", "labels"): 0.1,
    ("probe", "split"): "ood",
    ("probe", "finetune"): True,
    ("probe", "encoder_lr"): 1e-3,
    ("probe", "every"): 10,
    ("probe", "target"): "change",
    ("probe", "join"): "both",
}


def without_parts(recipe):
    """The settings of the parts that recipes have always had."""
    return {part: values for part, values in asdict(recipe).items() if part not in ADDED_PARTS}


def test_a_recipe_without_added_settings_has_the_fingerprint_of_its_other_settings():
    before = without_parts(Recipe())
    for part, name in ADDED:
        before[part].pop(name, None)  # a setting of other data
    assert Recipe().fingerprint == digest(before)


@pytest.mark.parametrize(("part", "name"), ADDED)
def test_an_added_setting_with_another_value_changes_the_fingerprint(part, name):
    data = XbdSettings() if hasattr(XbdSettings(), name) or part != "data" else ManifestSettings()
    target: Target = "change" if name == "join" else "classes"  # without effect on another one
    base = Recipe(data=data, encoder=Encoder(output_stride=8), probe=Probe(target=target))
    other = replace(base, **{part: replace(getattr(base, part), **{name: CHANGED[part, name]})})
    values = without_parts(other)
    for one, its in ADDED:
        if (one, its) != (part, name) and not (name == "join" and its == "target"):
            values[one].pop(its, None)  # a setting of other data
    if name == "weights":  # only the content of the file counts
        values[part][name] = "0123456789abcdef"
    assert other.fingerprint == digest(values) != base.fingerprint


@pytest.mark.parametrize("part", ADDED_PARTS)
def test_a_changed_setting_of_an_added_part_is_all_that_the_fingerprint_has_of_it(part):
    base = Recipe()
    (name, *_), default = (one.name for one in fields(getattr(base, part))), getattr(base, part)
    other = base.with_settings({f"{part}.{name}": 0.7})
    values = without_parts(other)
    for one, its in ADDED:
        values[one].pop(its, None)
    assert getattr(default, name) != 0.7
    assert other.fingerprint == digest({**values, part: {name: 0.7}}) != base.fingerprint


def test_records_on_real_tiles_from_before_min_share_keep_their_recipe():
    recipe = Recipe(
        data=XbdSettings(size=128),
        encoder=Encoder(slim=0.25, output_stride=16),
        moco=Moco(lr=0.06, momentum=0.99, queue=512),
        dense=Dense(within_lr=1.0, cross_lr=1.0, clip=0.05),
        pretrain=Pretrain(steps=200, batch=16, warmup=40, evaluations=4),
        probe=Probe(steps=300, batch=16, lr=3e-3, class_weights=True, evaluations=2),
    )
    assert recipe.fingerprint == "0afd3e97c58c2d7e"  # of xbd-quick until 2026-11-30


def test_a_setting_of_that_name_in_a_data_set_outside_the_project_stays_in_the_fingerprint():
    @dataclass(frozen=True)
    class Outside:
        min_share: float
        dataset: str = "my.module:Outside"

    recipe = Recipe()
    object.__setattr__(recipe, "data", Outside(0.0))
    before = without_parts(recipe)
    for part, name in ADDED:
        if part != "data":
            del before[part][name]
    assert recipe.fingerprint == digest(before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Encoder(stages=5), "--encoder.stages 5: should be less than or equal to 4"),
        (lambda: Encoder(stages=0), "--encoder.stages 0: should be greater than or equal to 1"),
        (lambda: Encoder(stages=3), "--encoder.stages 3 ends at stride 16.*use --encoder.output-stride 16"),
        (
            lambda: Encoder(stages=2, output_stride=8, stem_pool=False),
            "--encoder.stages 2 ends at stride 4.*use --encoder.output-stride 4",
        ),
        (lambda: Encoder(stages=1, output_stride=4, stem_pool=False), "--encoder.stages 1 ends.*use more stages"),
        (lambda: Encoder(stem_pool=False), "--encoder.stages 4 ends at stride 16.*use --encoder.output-stride 16"),
        (lambda: Encoder(output_stride=4), "--encoder.output-stride 4: needs --encoder.stages 1, or use 8"),
        (lambda: Dense(denominator="theirs"), "--dense.denominator theirs: should be 'printed' or 'public'"),
        (lambda: Pretrain(optimizer="lamb"), "--pretrain.optimizer lamb: should be 'sgd', 'adamw' or 'lars'"),
        (lambda: Pretrain(optimizer="lars", weight_decay=0), "--pretrain.optimizer lars: .* --pretrain.weight-decay"),
        (lambda: Pretrain(schedule="step"), "--pretrain.schedule step: should be 'cosine' or 'constant'"),
        (lambda: Pretrain(average=1), "--pretrain.average 1: should be less than 1"),
    ],
)
def test_mistakes_are_one_line_that_says_what_is_valid(make, message):
    with pytest.raises(InputError, match=rf"\A{message}[^\n]*\Z"):
        make()
