"""The baselines: weights that `imagenet` accepts and refuses, the data of `supervised`, and a cell of each task."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch

from datasets.errors import InputError
from datasets.seeding import seeded
from trainables.batches import Batches
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.cell_state import without_checkpoints
from trainables.models import imagenet
from trainables.models.encoders import make_encoder
from trainables.models.heads import downstream_head, scores
from trainables.models.imagenet import imagenet_encoder, weights_file
from trainables.pretrain import cell_objective, pretrain
from trainables.recipe import Encoder
from trainables.run_cell import run_cell
from trainables.views import dihedral
from trainables.weights_file import file_digest

CPU = torch.device("cpu")
SUPERVISED = Cell(objective="supervised")


def silent(*point):
    pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file like torchvision's: the state dictionary of a ResNet-18 with its classifier."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "resnet18-0123.pth"
    torch.save(timm.create_model("resnet18", num_classes=1000).state_dict(), path)
    return path


# --- imagenet


def test_imagenet_weights_give_torchvisions_own_features(tmp_path):
    from torchvision.models import resnet18

    torch.manual_seed(1)
    theirs = resnet18().eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = imagenet_encoder(Encoder(), tmp_path / "weights.pth").eval()
    images = torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    features = torch.nn.Sequential(*list(theirs.children())[:-2])((images - mean[:, None, None]) / std[:, None, None])
    # For values around 1: processors differ in the order of sums.
    torch.testing.assert_close(ours(images), features, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [8, 16])
def test_a_smaller_output_stride_takes_the_same_weights(weights, stride):
    with torch.no_grad():
        assert imagenet_encoder(Encoder(output_stride=stride), weights).eval()(torch.rand(1, 3, 64, 64)).shape == (
            *(1, 512, 64 // stride, 64 // stride),
        )


def test_first_stages_take_their_share_of_the_weights(weights):
    whole, first = (
        imagenet_encoder(Encoder(output_stride=16, stages=stages), weights).network.state_dict() for stages in (4, 3)
    )
    assert len(first) < len(whole)
    assert all(torch.equal(value, whole[name]) for name, value in first.items())
    with pytest.raises(InputError, match="do not fit"):
        imagenet_encoder(Encoder(output_stride=16, stages=3, slim=0.25), weights)


@pytest.mark.parametrize("encoder", [Encoder(slim=0.25), Encoder(name="resnet34"), Encoder(name="resnet50")])
def test_weights_that_do_not_fit_are_refused_in_one_line(weights, encoder):
    with pytest.raises(InputError, match=r"\A[^\n]*do not fit[^\n]*--encoder.slim 1[^\n]*\Z"):
        imagenet_encoder(encoder, weights)


def test_files_that_hold_no_weights_are_refused_and_nothing_is_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harm",)

    (tmp_path / "text").write_text("no weights")
    (tmp_path / "empty").write_bytes(b"")
    torch.save({"conv1.weight": Harmful()}, tmp_path / "harmful")
    torch.save([1, 2], tmp_path / "list")
    for name in ("text", "empty", "harmful", "list", "absent"):
        with pytest.raises(InputError, match=rf"\A[^\n]*{name}[^\n]*\Z"):
            imagenet_encoder(Encoder(), tmp_path / name)
    assert not (tmp_path / "harm").exists()


def test_weights_are_never_downloaded_unasked(tmp_path, monkeypatch, weights):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *words, **options: pytest.fail("downloaded"))
    with pytest.raises(InputError, match=r"resnet18-f37072fd.pth.*--download.*--imagenet-weights"):
        weights_file(Encoder(), None, download=False)
    assert weights_file(Encoder(), weights, download=True) == weights
    with pytest.raises(InputError, match="no such file"):
        weights_file(Encoder(), tmp_path / "nowhere", download=True)
    with pytest.raises(InputError, match="torchvision has no ImageNet weights for resnet26"):
        weights_file(Encoder(name="resnet26"), None, download=True)


def test_a_download_that_fails_is_told_and_one_that_works_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*words, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(InputError, match=r"download of https.*resnet18-f37072fd.pth failed \(no route to host\)"):
        weights_file(Encoder(), None, download=True)
    fetched = []

    def fetch(url, path, prefix, progress):
        fetched.append((url.rsplit("/", 1)[-1], prefix))
        Path(path).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    path = weights_file(Encoder(), None, download=True)
    assert path.read_bytes() == b"weights"
    assert weights_file(Encoder(), None, download=False) == path
    assert fetched == [("resnet18-f37072fd.pth", "f37072fd")]


def test_a_state_dictionary_has_names(tmp_path):
    torch.save({0: torch.zeros(1)}, tmp_path / "numbered")
    with pytest.raises(InputError, match="not a state dictionary of named weights"):
        imagenet_encoder(Encoder(), tmp_path / "numbered")


def test_a_digest_tells_contents_apart(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (file_digest(tmp_path / name) for name in "abc")
    assert a == b != c


def test_an_imagenet_cell_is_probed_and_not_trained(recipe, bank, weights):
    full = replace(recipe, encoder=Encoder(output_stride=8))
    cell = Cell(objective="imagenet")
    found = run_cell(cell, CellJob(recipe=full, source=bank, imagenet=weights), CPU, report=silent)
    assert "pretrain_loss" not in found
    random = run_cell(Cell(objective="random"), CellJob(recipe=full, source=bank), CPU, report=silent)
    assert found["test_f1_macro"] != random["test_f1_macro"]


# --- supervised


def test_supervised_sees_the_downstream_images_with_their_labels(recipe, data):
    with seeded(0, "test"):
        encoder = make_encoder(recipe.encoder)
    objective = cell_objective(encoder, data, SUPERVISED, recipe)
    batch = Batches(objective, data, SUPERVISED, recipe)(0)
    views = batch.views()
    assert not batch.noisy.any()
    images, labels = data.downstream("train", torch.arange(data.count("train")))
    turned = [dihedral(images, torch.full((len(images),), turn)) for turn in range(8)]
    turned_labels = [dihedral(labels, torch.full((len(images),), turn)) for turn in range(8)]
    for view, its_labels in zip(views.first, views.first_labels, strict=True):
        found = [(turn, n) for turn in range(8) for n in range(len(images)) if torch.equal(turned[turn][n], view)]
        assert found
        assert any(torch.equal(turned_labels[turn][n], its_labels) for turn, n in found)


def test_supervised_training_lowers_its_loss_and_changes_the_encoder(recipe, data):
    longer = replace(recipe, pretrain=replace(recipe.pretrain, steps=40))
    with seeded(0, "test"):
        encoder = make_encoder(recipe.encoder)
    before = [weight.clone() for weight in encoder.parameters()]
    points = []
    state = without_checkpoints(lambda stage, step, values: points.append(values))
    done = pretrain(encoder, data, SUPERVISED, longer, state)
    assert any((old != new).any() for old, new in zip(before, encoder.parameters(), strict=True))
    assert points[-1]["train_loss"] < points[0]["train_loss"]
    assert "plateau" not in points[0]
    assert done.val_loss == min(point["val_loss"] for point in points)
    assert done.noisy_pairs == 0


def test_a_supervised_cell_gives_the_same_bits_again(recipe, bank):
    first, second = (
        {
            name: value
            for name, value in run_cell(SUPERVISED, CellJob(recipe=recipe, source=bank), CPU, report=silent).items()
            if name.startswith(("test", "val", "pretrain_loss"))
        }
        for _ in range(2)
    )
    assert first == second
    assert first["pretrain_loss"] > 0


def test_scores_lie_where_the_labels_lie():
    features = torch.rand(4, 64, 3, 3)
    for task, labels, shape in (
        ("segmentation", torch.zeros(4, 24, 24, dtype=torch.uint8), (4, 5, 24, 24)),
        ("classification", torch.zeros(4, dtype=torch.uint8), (4, 5)),
    ):
        assert scores(downstream_head(task, 64, 5).eval(), features, labels).shape == shape


def test_torchvision_is_asked_only_for_its_own_names(monkeypatch):
    asked = []

    def get_model_weights(name):
        asked.append(name)
        raise ValueError("unknown")

    monkeypatch.setitem(
        sys.modules, "torchvision", SimpleNamespace(models=SimpleNamespace(get_model_weights=get_model_weights))
    )
    with pytest.raises(InputError, match="--imagenet-weights"):
        imagenet.weights_file(Encoder(name="resnet26"), None, download=True)
    assert asked == ["resnet26"]
