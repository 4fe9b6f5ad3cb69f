"""Writing and reading a sweep as YAML, and refused settings."""

import math
from dataclasses import replace

import pytest
import yaml

from datasets.errors import InputError
from sweep.cli import parse
from sweep.config.sweep import Sweep
from sweep.config.yaml_io import from_yaml, recipe_differences, to_yaml
from sweep.prepare import claim, previous_sweep
from sweep.presets import PRESETS, preset
from sweep.storage.run_dir import RunDir


@pytest.mark.parametrize("name", PRESETS)
def test_yaml_holds_everything_and_gives_the_same_cells(name, tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(to_yaml(preset(name)))
    assert from_yaml(path) == preset(name)
    assert from_yaml(path).cells() == preset(name).cells()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rhos": [0]}, "unknown setting 'rhos'; valid: preset, objectives"),
        ({"recipe": {"probe": {"step": 3}}}, "recipe: probe: unknown setting 'step'; valid: steps, batch"),
        ({"rho": [2]}, "sweep.yaml: rho 2: should be less than or equal to 1"),
        ({"rho": "many"}, "rho"),
        (
            {"objectives": ["barlow"]},
            "--losses barlow: choose from moco, within_image, cross_image, rince",
        ),
        ({"recipe": {"moco": {"lr": -1}}}, "recipe.moco.lr -1: should be greater than 0"),
        ({"seeds": []}, "--seeds is empty"),
    ],
)
def test_a_mistake_in_yaml_is_named(tmp_path, change, message):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(change))
    with pytest.raises(InputError, match="--config") as error:
        from_yaml(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_worker_may_be_silent_for_ever_and_a_cell_without_checkpoints(tmp_path):
    path, sweep = tmp_path / "sweep.yaml", replace(preset("vts-smoke"), patience=math.inf, checkpoint_every=math.inf)
    path.write_text(to_yaml(sweep))
    assert from_yaml(path) == sweep


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "\x00", "!!python/object/apply:os.system [ls]"])
def test_what_is_no_mapping_is_refused_and_nothing_is_executed(tmp_path, text):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="--config"):
        from_yaml(path)


def test_a_folder_belongs_to_one_recipe_and_says_what_differs(tmp_path):
    smoke = preset("vts-smoke")
    folder = RunDir(tmp_path / "out")
    claim(folder, smoke, ["data"])
    from dataclasses import replace

    grown = replace(smoke, rho=(0.0, 0.5, 1.0), seeds=(0, 1), workers=1)
    claim(folder, grown, ["data"])
    assert from_yaml(folder.config) == grown
    other = replace(smoke, recipe=replace(smoke.recipe, probe=replace(smoke.recipe.probe, steps=5)))
    assert recipe_differences(smoke, other) == ["probe.steps 40 there, 5 here"]
    with pytest.raises(InputError, match=r"another recipe: probe.steps 40 there, 5 here; choose another --out"):
        claim(folder, other, ["data"])
    with pytest.raises(InputError, match="on other data"):
        claim(folder, grown, ["other data"])
    assert from_yaml(folder.config) == grown


def test_yaml_must_say_which_data_set_its_settings_are_of(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("recipe: {data: {size: 64}}")
    with pytest.raises(InputError, match=r"recipe.data: name the data set, as in 'dataset: vts' \(vts, xbd"):
        from_yaml(path)
    path.write_text("{nu: [], recipe: {data: {dataset: xbd, size: 64}}}")
    assert from_yaml(path).recipe.data.size == 64


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written \(Not a directory\)"):
        claim(RunDir(tmp_path / "file" / "out"), preset("vts-smoke"), ["data"])


def _misregistered(**amounts):
    from datasets.xbd.config import XbdSettings
    from trainables.recipe import Recipe

    data = XbdSettings(size=64, **amounts)
    return Sweep(nu=(), pairings=("noisy", "misregistration"), recipe=Recipe(data=data))


def test_settings_that_do_not_fit_each_other_are_refused():
    from datasets.cifar10.config import Cifar10Settings
    from datasets.manifest.config import ManifestSettings
    from datasets.xbd.config import XbdSettings
    from trainables.engine import Engine
    from trainables.recipe import Encoder, Moco, Pretrain, Probe, Recipe

    for make, message in (
        (lambda: Recipe(pretrain=Pretrain(batch=512), moco=Moco(queue=256)), "--moco.queue 256"),
        (lambda: Recipe(data=Cifar10Settings(), probe=Probe(cached_views=3)), "only 2 flips"),
        (lambda: Recipe(data=ManifestSettings(bands=4)), "--augment.hue"),
        (lambda: Encoder(stem_pool=False, small_stem=True, output_stride=16), "--encoder.output-stride 8"),
        (
            lambda: Sweep(pairings=("noisy",), nu=(), recipe=Recipe(data=Cifar10Settings())),
            "choose from false_positive",
        ),
        (lambda: Sweep(nu=(0.5,), recipe=Recipe(data=XbdSettings())), "leave --nu out"),
        (lambda: _misregistered(shift=0), "nothing is displaced, because --data.shift"),
        (lambda: _misregistered(shift=64), "--data.shift 64: must be below the side of an image, 64 px"),
        (lambda: Sweep(vary=(("data.shift", "1", "2"),)), "--vary data.shift: has no effect without --pairings misreg"),
        (lambda: _misregistered(turn=-1), "--data.turn -1: should be greater than or equal to 0"),
        (lambda: Sweep(nu=()), "--nu is empty"),
        (lambda: Probe(cached_views=9), "--probe.cached-views 9: should be less than or equal to 8"),
        (lambda: Pretrain(warmup=10_000), "--pretrain.warmup"),
        (lambda: Moco(momentum=1.0), "--moco.momentum"),
        (lambda: Encoder(stem_pool=False), "--encoder.output-stride"),
        (lambda: Engine(threads=-1), "--engine.threads"),
        (lambda: Sweep(gpu_share=1.5), "--gpu-share"),
    ):
        with pytest.raises(InputError, match=message):
            make()


def test_a_folder_belongs_to_one_precision(tmp_path):
    from dataclasses import replace

    from trainables.engine import PLAIN, Engine

    smoke = preset("vts-smoke")
    folder = RunDir(tmp_path / "out")
    assert previous_sweep(folder, smoke) is None
    claim(folder, smoke, ["data"])
    assert previous_sweep(folder, replace(smoke, engine=Engine())) == smoke
    previous_sweep(folder, replace(smoke, engine=replace(PLAIN, threads=2)))
    with pytest.raises(InputError, match="records made with precision fp32, not bf16: choose another --out"):
        previous_sweep(folder, replace(smoke, engine=replace(PLAIN, precision="bf16")))


def test_how_a_cell_is_executed_is_no_part_of_its_key():
    from dataclasses import replace

    from trainables.engine import Engine

    smoke = preset("vts-smoke")
    assert replace(smoke, engine=Engine(precision="bf16", threads=2)).cells() == smoke.cells()


def test_a_folder_whose_sweep_yaml_is_gone_goes_on_as_its_records_were_made(tmp_path):
    from dataclasses import replace

    from analysis.records.io import write_record
    from analysis.records.schema import empty_row
    from trainables.engine import PLAIN, Engine

    smoke = replace(preset("vts-smoke"), engine=Engine())
    cell, folder = smoke.cells()[0], RunDir(tmp_path)
    row = empty_row(("a",)) | cell.coordinates
    row |= {"key": cell.key, "status": "failed", "error": "no", "version": "0", "started": "now"}
    row |= {"precision": "bf16", "layout": "contiguous", "compile": "no", "threads": 3}
    write_record(tmp_path, row, ("a",))
    there = Engine(precision="bf16", layout="contiguous", compile="no", threads=3)
    assert smoke.continuing(previous_sweep(folder, smoke)).engine == there
    with pytest.raises(InputError, match="precision bf16, not fp32"):
        previous_sweep(folder, replace(smoke, engine=PLAIN))
    other = replace(smoke, recipe=replace(smoke.recipe, probe=replace(smoke.recipe.probe, steps=5)))
    with pytest.raises(InputError, match="records of another recipe and no"):
        previous_sweep(folder, other)


def test_a_folder_is_deterministic_or_not(tmp_path):
    from dataclasses import replace

    smoke = preset("vts-smoke")
    folder = RunDir(tmp_path / "out")
    claim(folder, smoke, ["data"])
    with pytest.raises(InputError, match="deterministic False, not True"):
        previous_sweep(folder, replace(smoke, engine=replace(smoke.engine, deterministic=True)))


def test_what_the_tools_say_of_presets_is_so():
    from datasets.manifest.__main__ import PRESET as MANIFEST
    from datasets.manifest.__main__ import RATES
    from datasets.xbd.__main__ import PRESET

    assert preset("xbd-quick").recipe.data == PRESET
    assert preset("manifest").recipe.data == MANIFEST
    assert preset("manifest").rho == RATES


def test_a_preset_whose_recipe_was_changed_is_no_longer_called_by_its_name_alone():
    assert parse(["vts-paper", "--seeds", "5"]).sweep.preset == "vts-paper"
    assert parse(["vts-paper", "--probe.steps", "7"]).sweep.preset == "vts-paper, changed"


def test_a_sweep_does_not_replace_a_summary_whose_records_are_elsewhere(tmp_path):
    (tmp_path / "summary.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"summary.parquet without its records.*choose another --out, or move that"):
        previous_sweep(RunDir(tmp_path), preset("vts-smoke"))
