"""Exported encoders are complete files that timm loads in one line, with the same features."""

import json

import pytest
import safetensors.torch
import timm
import torch
from safetensors import safe_open

from datasets.registry import open_data
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.cell_state import without_checkpoints
from trainables.engine import Engine
from trainables.models.encoders import make_encoder
from trainables.models.export import save_encoder
from trainables.models.imagenet import IMAGENET_MEAN, IMAGENET_STD, imagenet_encoder
from trainables.pretrain import pretrain
from trainables.recipe import Encoder
from trainables.run_cell import first_encoder, run_cell

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def moved(recipe, **options):
    """An encoder with changed batch-norm statistics and zero-initialised weights."""
    torch.manual_seed(0)
    encoder = make_encoder(recipe, **options)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    encoder.train()(torch.rand(4, options.get("bands", 3), 64, 64))
    return encoder.eval()


def metadata(path):
    with safe_open(path, "pt") as file:
        return {name: json.loads(value) if name != "timm" else value for name, value in file.metadata().items()}


def normalised(images, facts):
    mean, std = (torch.tensor(facts[name])[:, None, None] for name in ("mean", "std"))
    return (images - mean) / std


@torch.no_grad()
def test_the_plain_resnet18_is_loaded_by_the_documented_line(tmp_path):
    encoder, path = moved(Encoder()), tmp_path / "encoders" / "key.safetensors"
    save_encoder(encoder, path, Encoder())
    model = timm.create_model("resnet18", num_classes=0)
    assert str(model.load_state_dict(safetensors.torch.load_file(path))) == "<All keys matched successfully>"
    facts = metadata(path)
    assert facts["options"] == {}
    found = model.eval().forward_features(normalised(IMAGES, facts))
    torch.testing.assert_close(found, encoder(IMAGES), rtol=1e-4, atol=1e-5)
    assert [one.name for one in path.parent.iterdir()] == ["key.safetensors"]


@pytest.mark.parametrize(
    "recipe",
    [Encoder(output_stride=8), Encoder(slim=0.125, output_stride=8), Encoder(slim=0.25), Encoder(name="resnet34")],
)
@pytest.mark.parametrize("bands", [3, 5])
@torch.no_grad()
def test_the_metadata_say_how_other_encoders_are_made(tmp_path, recipe, bands):
    encoder, path = moved(recipe, bands=bands), tmp_path / "key.safetensors"
    save_encoder(encoder, path, recipe, bands=bands)
    facts = metadata(path)
    model = timm.create_model(facts["timm"], num_classes=0, **facts["options"]).eval()
    model.load_state_dict(safetensors.torch.load_file(path))
    images = torch.rand(2, bands, 64, 64)
    torch.testing.assert_close(model.forward_features(normalised(images, facts)), encoder(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", [Encoder(stages=3, output_stride=16), Encoder(stages=2, output_stride=8, slim=0.25)])
@torch.no_grad()
def test_the_metadata_make_a_list_with_the_last_map_of_the_first_stages(tmp_path, recipe):
    encoder, path = moved(recipe), tmp_path / "key.safetensors"
    save_encoder(encoder, path, recipe)
    facts = metadata(path)
    model = timm.create_model(facts["timm"], num_classes=0, **facts["options"]).eval()
    model.load_state_dict(safetensors.torch.load_file(path))
    (found,) = model(normalised(IMAGES, facts))
    torch.testing.assert_close(found, encoder(IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "recipe",
    [Encoder(small_stem=True, output_stride=16), Encoder(stem_pool=False, slim=0.25, output_stride=8, stages=3)],
)
@torch.no_grad()
def test_stems_of_our_own_are_made_anew_from_the_metadata(tmp_path, recipe):
    encoder, path = moved(recipe), tmp_path / "key.safetensors"
    save_encoder(encoder, path, recipe)
    again = make_encoder(Encoder(**metadata(path)["encoder"])).eval()
    again.network.load_state_dict(safetensors.torch.load_file(path))
    assert torch.equal(again(IMAGES), encoder(IMAGES))


def test_the_normalisation_of_imagenet_weights_is_told(tmp_path):
    torch.save(timm.create_model("resnet18", num_classes=0).state_dict(), tmp_path / "weights.pth")
    save_encoder(imagenet_encoder(Encoder(), tmp_path / "weights.pth"), tmp_path / "key.safetensors", Encoder())
    facts = metadata(tmp_path / "key.safetensors")
    assert facts["mean"] == pytest.approx(IMAGENET_MEAN)
    assert facts["std"] == pytest.approx(IMAGENET_STD)


def test_the_layout_in_memory_plays_no_part(tmp_path):
    kept = []
    for layout in ("channels_last", "contiguous"):
        torch.manual_seed(0)
        engine = Engine(precision="fp32", layout=layout, compile="no", threads=1)
        save_encoder(make_encoder(Encoder(slim=0.125), engine), tmp_path / layout, Encoder(slim=0.125))
        kept.append(safetensors.torch.load_file(tmp_path / layout))
    assert all(torch.equal(value, kept[1][name]) for name, value in kept[0].items())


def test_a_cell_keeps_the_encoder_that_it_probed(recipe, bank, tmp_path):
    cell, cpu = Cell(objective="moco", rho=0.5, nu=0.5), torch.device("cpu")
    job = CellJob(recipe=recipe, source=bank)
    run_cell(cell, job, cpu, report=lambda *point: None, export_to=tmp_path / "encoders" / "key.safetensors")
    encoder = first_encoder(cell, job)
    state = without_checkpoints(lambda *point: None)
    pretrain(encoder, open_data(recipe.data, bank, cell.seed, cpu), cell, recipe, state)
    kept = safetensors.torch.load_file(tmp_path / "encoders" / "key.safetensors")
    own = encoder.network.state_dict()
    assert kept.keys() == own.keys()
    assert all(torch.equal(kept[name], own[name]) for name in own)


def test_a_file_that_cannot_be_written_is_an_error_of_the_cell(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        save_encoder(make_encoder(Encoder(slim=0.125)), tmp_path / "file" / "key.safetensors", Encoder(slim=0.125))
