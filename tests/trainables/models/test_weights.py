"""Weights from a file: what is loaded, whose statistics images get, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from safetensors import safe_open

from datasets.errors import InputError
from tests.helpers import tiny_models
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.models.encoders import make_encoder
from trainables.models.export import save_encoder
from trainables.models.weights import check_encoder, pretrained_encoder
from trainables.recipe import Encoder
from trainables.run_cell import first_encoder, run_cell
from trainables.weights_file import checked_path

SWIN, DINO = tiny_models.tiny_swin.__name__, tiny_models.tiny_dinov3.__name__
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
VIT = Encoder(name="test_vit", output_stride=16)


def seeded_encoder(recipe, seed, **options):
    torch.manual_seed(seed)
    return make_encoder(recipe, **options).eval()


@pytest.mark.parametrize(
    ("recipe", "bands"),
    [
        (Encoder(slim=0.125, output_stride=8), 3),
        (Encoder(name="test_convnext"), 5),
        (Encoder(name="test_convnext", stages=2, output_stride=8), 3),
        (VIT, 5),
        (replace(VIT, output_stride=8), 3),
        (Encoder(name=SWIN), 3),
        (Encoder(name=SWIN, stages=2, output_stride=8), 3),
        (Encoder(name=DINO, output_stride=16), 3),
    ],
)
@torch.no_grad()
def test_an_exported_encoder_starts_the_next_one_and_timm_builds_it(tmp_path, recipe, bands):
    encoder, path = seeded_encoder(recipe, 0, bands=bands), tmp_path / "key.safetensors"
    save_encoder(encoder, path, recipe, bands=bands)
    check_encoder(recipe, path, bands=bands)
    images = torch.rand(2, bands, 64, 64)
    torch.manual_seed(1)
    assert torch.equal(pretrained_encoder(recipe, path, bands=bands).eval()(images), encoder(images))
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    model = timm.create_model(facts["timm"], num_classes=0, **json.loads(facts["options"])).eval()
    model.load_state_dict(safetensors.torch.load_file(path))
    mean, std = (torch.tensor(json.loads(facts[name]))[:, None, None] for name in ("mean", "std"))
    found = eval(json.loads(facts["map"]), {"model": model, "images": (images - mean) / std})
    torch.testing.assert_close(found, encoder(images))


@pytest.mark.parametrize("kind", ["safetensors", "plain", "checkpoint"])
@torch.no_grad()
def test_files_of_other_programs_give_their_weights_and_the_statistics_of_the_model(tmp_path, kind):
    torch.manual_seed(3)
    whole = timm.create_model("test_vit", num_classes=10, dynamic_img_size=True).eval()
    state, path = whole.state_dict(), tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pth")
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(
            state if kind == "plain" else {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, path
        )
    mean, std = (torch.tensor(whole.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
    assert mean.flatten().tolist() != [0.5, 0.5, 0.5] or std.flatten().tolist() != [0.25, 0.25, 0.25]
    expected = whole.forward_intermediates((IMAGES - mean) / std, indices=1, norm=True, intermediates_only=True)[0]
    torch.testing.assert_close(pretrained_encoder(VIT, path).eval()(IMAGES), expected)


@pytest.mark.parametrize("name", ["test_convnext", SWIN])
def test_first_stages_take_their_share_of_a_file_of_the_whole_model(tmp_path, name):
    whole = timm.create_model(name, num_classes=10)
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    first = pretrained_encoder(Encoder(name=name, stages=2, output_stride=8), tmp_path / "whole.pth")
    theirs = {value.double().sum().item() for value in whole.state_dict().values()}
    assert {value.double().sum().item() for value in first.network.state_dict().values()} <= theirs


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (VIT, r"does not fit test_vit .*: \d+ missing \(blocks.*, \.\.\.\); \d+ unexpected \(bn1"),
        (Encoder(name="test_resnet", slim=0.5), r"does not fit test_resnet .*: .*of another shape \("),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line_that_says_why(tmp_path, recipe, message):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "a.pth")
    for refuse in (check_encoder, pretrained_encoder):
        with pytest.raises(InputError, match=rf"\A--encoder.weights [^\n]*a.pth: {message}[^\n]*\Z"):
            refuse(recipe, tmp_path / "a.pth")


def test_files_that_hold_no_weights_are_refused_and_nothing_is_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harm",)

    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save({"a": Harmful()}, tmp_path / "harmful.pth")
    torch.save({"a": Harmful()}, tmp_path / "harmful.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("text.safetensors", "empty.pth", "harmful.pth", "harmful.safetensors", "list.pth", "absent.pth"):
        with pytest.raises(InputError, match=rf"\A--encoder.weights [^\n]*{name}: [^\n]*\Z"):
            check_encoder(VIT, tmp_path / name)
    assert not (tmp_path / "harm").exists()


def test_losses_and_the_baseline_pretrained_start_from_the_file_and_random_does_not(recipe, bank, tmp_path):
    torch.manual_seed(5)
    save_encoder(make_encoder(recipe.encoder), tmp_path / "a.safetensors", recipe.encoder)
    given = replace(recipe, encoder=replace(recipe.encoder, weights=str(tmp_path / "a.safetensors")))
    kept = safetensors.torch.load_file(tmp_path / "a.safetensors")
    job = CellJob(recipe=given, source=bank)
    for objective, same in (("moco", True), ("supervised", True), ("pretrained", True), ("random", False)):
        own = first_encoder(Cell(objective=objective), job).network.state_dict()
        assert all(torch.equal(value, kept[name]) for name, value in own.items()) == same
    found = run_cell(Cell(objective="pretrained"), job, torch.device("cpu"), report=lambda *point: None)
    assert "pretrain_loss" not in found
    (tmp_path / "a.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match=r"\A--encoder.weights [^\n]*a.safetensors: has changed: [^\n]*\Z"):
        first_encoder(Cell(objective="moco"), job)


def test_the_recipe_means_the_content_of_the_file_wherever_it_is(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in (("a", b"1"), ("b b", b"1"), ("c", b"2")):
        Path(name).write_bytes(content)
    a, b, c = (replace(recipe, encoder=replace(recipe.encoder, weights=name)) for name in ("a", "b b", "c"))
    assert a.fingerprint == b.fingerprint
    assert len({recipe.fingerprint, a.fingerprint, c.fingerprint}) == 3
    assert checked_path(b.encoder.weights) == tmp_path / "b b"
    Path("a").unlink()
    assert replace(a, encoder=Encoder(weights=a.encoder.weights)).encoder.weights == a.encoder.weights
    with pytest.raises(InputError, match=r"\A--encoder.weights a: no such file\Z"):
        Encoder(weights="a")
    with pytest.raises(InputError, match=r"\A--encoder.weights [^\n]*a: cannot be read [^\n]*\Z"):
        checked_path(a.encoder.weights)
