"""Models of all kinds: maps of the stated stride, one step of pretraining, and refusals in one line."""

from dataclasses import replace

import pytest
import timm
import torch

from datasets.errors import InputError
from datasets.seeding import seeded, stream
from tests.helpers import tiny_models
from trainables.engine import PLAIN
from trainables.models.encoders import make_encoder
from trainables.models.feature_maps import feature_maps
from trainables.models.weights import check_encoder
from trainables.objectives.base import make_objective
from trainables.pretrain import Training
from trainables.recipe import Encoder
from trainables.views import Views

SWIN, DINO = tiny_models.tiny_swin.__name__, tiny_models.tiny_dinov3.__name__
VIT = "test_vit"
FAMILIES = [
    Encoder(name="test_resnet", output_stride=8),
    Encoder(name="test_convnext", output_stride=16),
    Encoder(name="test_convnext", stages=2, output_stride=8),
    Encoder(name="test_efficientnet"),
    Encoder(name=VIT, output_stride=16),
    Encoder(name=VIT, output_stride=8),
    Encoder(name=SWIN),
    Encoder(name=SWIN, stages=2, output_stride=8),
    Encoder(name=DINO, output_stride=16),
]
NAMES = [f"{one.name}-{one.output_stride}" for one in FAMILIES]


def stepped(recipe, encoder, objective, engine=PLAIN, steps=2, state=0):
    """The losses and all weights after some steps, whatever the state of torch's global random numbers."""
    draws = stream(0, "views")
    with seeded(0, "encoder"):
        training = Training(
            make_objective(objective, make_encoder(encoder, engine), recipe, draws),
            replace(recipe.pretrain, steps=steps),
            torch.device("cpu"),
        )
    images = torch.rand(2, 4, 3, 32, 32, generator=draws)
    labels = torch.randint(2, (2, 4, 32, 32), dtype=torch.uint8, generator=draws)
    views = Views(first=images[0], second=images[1], first_labels=labels[0], second_labels=labels[1])
    torch.manual_seed(state)
    losses = torch.stack([training.step(views, draws) for _ in range(steps)])
    return losses, training.objective.encoder.state_dict()


@pytest.mark.parametrize("encoder", FAMILIES, ids=NAMES)
@pytest.mark.parametrize("objective", ["moco", "cross_image"])
def test_a_step_of_pretraining_changes_the_encoder_and_needs_no_global_random_numbers(recipe, encoder, objective):
    with seeded(0, "encoder"):
        before = make_encoder(encoder).state_dict()
    losses, after = stepped(recipe, encoder, objective)
    assert losses.isfinite().all()
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    other, again = stepped(recipe, encoder, objective, state=1)
    assert torch.equal(losses, other)
    assert all(torch.equal(value, again[name]) for name, value in after.items())


@pytest.mark.parametrize("encoder", FAMILIES, ids=NAMES)
@torch.no_grad()
def test_maps_have_the_stated_stride_for_images_of_every_size(encoder):
    check_encoder(encoder, size=96)
    made = make_encoder(encoder).eval()
    for size in (32, 64, 96):
        side = size // encoder.output_stride
        assert made(torch.rand(2, 3, size, size)).shape == (2, made.channels, side, side)


@pytest.mark.parametrize("name", [VIT, DINO, SWIN])
@torch.no_grad()
def test_the_map_of_a_transformer_is_that_of_timm_with_its_last_norm(name):
    encoder = make_encoder(Encoder(name=name, output_stride=32 if name == SWIN else 16)).eval()
    theirs = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
    theirs.load_state_dict(encoder.network.model.state_dict())
    images = torch.rand(2, 3, 64, 64)
    found, features = encoder(images), theirs.forward_features((images - 0.5) / 0.25)
    if name == SWIN:  # channels last
        features = features.flatten(1, 2)
    tokens = features[:, -found[0, 0].numel() :]  # after those of the class and of the registers
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), tokens)


@pytest.mark.parametrize("encoder", [FAMILIES[1], FAMILIES[4], FAMILIES[6], FAMILIES[7], FAMILIES[8]])
def test_features_that_are_computed_again_change_no_bit(recipe, encoder):
    kept, again = (stepped(recipe, encoder, "moco", engine) for engine in (PLAIN, replace(PLAIN, recompute=True)))
    assert torch.equal(kept[0], again[0])
    assert all(torch.equal(value, again[1][name]) for name, value in kept[1].items())


def test_only_transformers_need_timms_intermediate_features():
    kinds = {one.name: feature_maps(one.name).has_maps for one in FAMILIES}
    assert kinds == {one.name: one.name not in (VIT, SWIN, DINO) for one in FAMILIES}


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Encoder(name="resnet99"), "--encoder.name resnet99: timm has no such model; similar names: .*resnet"),
        (Encoder(name=VIT, slim=0.5), "--encoder.slim 0.5: test_vit is no ResNet; use --encoder.slim 1"),
        (Encoder(name=VIT, stages=3, output_stride=16), "--encoder.name test_vit cannot be cut .*--encoder.stages 4"),
        (Encoder(name=SWIN, output_stride=16), "--encoder.output-stride 16: .* use --encoder.output-stride 32, or"),
        (Encoder(name=VIT, output_stride=8, small_stem=True), "--encoder.small-stem: test_vit has no stem"),
        (Encoder(name=VIT, output_stride=8, stem_pool=False), "--encoder.no-stem-pool: test_vit has no max-pool"),
        (Encoder(name="mixer_s32_224"), "--encoder.name mixer_s32_224 cannot encode 32-px images .*; use resnet18, "),
    ],
)
def test_what_a_model_cannot_be_is_refused_in_one_line(encoder, message):
    with pytest.raises(InputError, match=rf"\A{message}[^\n]*\Z"):
        check_encoder(encoder, size=32)


def test_images_that_are_no_whole_number_of_patches_are_refused_in_one_line():
    check_encoder(Encoder(name="test_resnet"), size=40)
    with pytest.raises(InputError, match=r"\A--encoder.name test_vit cannot encode 40-px images [^\n]*16[^\n]*\Z"):
        check_encoder(Encoder(name=VIT, output_stride=16), size=40)


def test_networks_with_batch_norm_other_than_resnets_are_not_computed_again():
    with pytest.raises(InputError, match=r"\A--engine.recompute: works only for ResNets[^\n]*\Z"):
        check_encoder(Encoder(name="test_efficientnet"), engine=replace(PLAIN, recompute=True))
