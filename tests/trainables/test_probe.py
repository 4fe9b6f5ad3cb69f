"""The probe: frozen encoder, FCN head, and the same task in every cell."""

import copy
import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn

from datasets.errors import InputError
from datasets.seeding import stream
from trainables.cell import Cell
from trainables.cell_job import SharedFeatures
from trainables.cell_state import without_checkpoints
from trainables.models.encoders import make_encoder
from trainables.models.heads import NearestPositions, downstream_head, map_labels
from trainables.probe import Features, cached_features, encode, probe, training_batches
from trainables.recipe import Probe
from trainables.views import check_share, class_weights, dihedral, labelled_images, turned

CELL = Cell(objective="random")


@pytest.fixture
def encoder(recipe):
    torch.manual_seed(0)
    return make_encoder(recipe.encoder)


def silent(stage, step, values):
    pass


def replace(recipe, **probe):
    from dataclasses import asdict
    from dataclasses import replace as change

    return change(recipe, probe=Probe(**{**asdict(recipe.probe), **probe}))


@pytest.mark.parametrize("views", [0, 2])
def test_the_encoder_is_bit_identical_before_and_after(encoder, data, recipe, views):
    before = copy.deepcopy(encoder.train().state_dict())
    probed = probe(encoder, data, CELL, replace(recipe, cached_views=views), without_checkpoints(silent))
    after = encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)  # BatchNorm's buffers too
    assert not encoder.training
    assert set(probed.test) == {
        "test_f1_macro",
        *(f"test_f1_{name}" for name in data.classes),
        "test_miou",
        "test_accuracy",
    }


def test_test_images_are_rendered_once_after_training(encoder, data, recipe):
    calls = []
    original = data.downstream

    def counted(split, index):
        calls.append((split, index.tolist()))
        return original(split, index)

    data.downstream = counted
    probe(encoder, data, CELL, recipe, without_checkpoints(silent))
    where = [n for n, (split, _) in enumerate(calls) if split == "test"]
    assert sorted(i for n in where for i in calls[n][1]) == list(range(10))
    assert where == list(range(len(calls) - len(where), len(calls)))


def test_the_head_is_torchvisions_fcn():
    head = downstream_head("segmentation", 512, 3)
    assert [type(layer) for layer in head] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout, nn.Conv2d]
    assert head[0].out_channels == 128
    assert head[0].bias is None
    assert head[3].p == 0.1


def test_the_eight_views_are_the_flips_and_rotations():
    image = torch.arange(9.0).view(1, 1, 3, 3)
    found = dihedral(image.expand(8, 1, 3, 3), torch.arange(8))
    turned = [torch.rot90(side, k, (-2, -1)) for k in range(4) for side in (image, image.flip(-1))]
    assert {tuple(view.flatten().tolist()) for view in found} == {tuple(t.flatten().tolist()) for t in turned}
    assert torch.equal(found[:1], image)


def test_one_view_for_all_images_is_that_view_of_each():
    images = torch.rand(3, 3, 5, 5)
    for view in range(8):
        assert torch.equal(turned(images, view), dihedral(images, torch.full((3,), view)))


def test_labels_turn_with_their_image():
    labels = torch.arange(9).view(1, 3, 3).expand(8, 3, 3)
    images = labels[:, None].expand(8, 3, 3, 3)
    which = torch.arange(8)
    assert torch.equal(dihedral(images, which)[:, 0], dihedral(labels, which))


def test_cached_features_are_those_of_the_views(encoder, data, recipe):
    encoder.eval()
    features, labels = cached_features(Features(encoder=encoder, data=data, recipe=recipe), 2)
    images, truth = data.downstream("train", torch.arange(24))
    flipped = encoder.network.forward_features((images.flip(-1) - 0.5) * 4)
    assert torch.allclose(features[24:], flipped, atol=1e-4)
    assert torch.equal(labels[:24], truth)
    assert torch.equal(labels[24:], truth.flip(-1))


def test_fresh_batches_show_all_views(encoder, data, recipe):
    encoder.eval()
    load = training_batches(Features(encoder=encoder, data=data, recipe=replace(recipe, cached_views=0)))
    index = torch.zeros(200, dtype=torch.long)
    labels = load(index, stream(0))[1]
    assert len({tuple(view.flatten().tolist()) for view in labels}) == 8


def test_class_weights_are_inverse_frequencies(data, recipe):
    labels = data.downstream("train", torch.arange(24))[1]
    for number, weight in enumerate(class_weights(data).tolist()):
        assert weight == pytest.approx(1 / float((labels == number).double().mean()), rel=1e-5)


def test_weights_change_the_probe(encoder, data, recipe):
    plain = probe(copy.deepcopy(encoder), data, CELL, recipe, without_checkpoints(silent))
    weighted = probe(
        copy.deepcopy(encoder), data, CELL, replace(recipe, class_weights=True), without_checkpoints(silent)
    )
    assert not torch.equal(plain.head[4].weight, weighted.head[4].weight)


def test_a_class_that_is_not_there_to_be_learnt_has_no_weight(data, monkeypatch):
    monkeypatch.setattr(data, "class_counts", lambda: torch.tensor([30, 10, 0]))
    assert class_weights(data).tolist() == pytest.approx([40 / 30, 4.0, 0.0])


def test_images_that_are_classified_are_kept_as_the_mean_of_their_map(encoder):
    images = torch.rand(2, 3, 32, 32)
    whole, mean = (encode(encoder.eval(), images, task) for task in ("segmentation", "classification"))
    assert mean.shape == (*whole.shape[:2], 1, 1)
    head = downstream_head("classification", whole.shape[1], 4)
    torch.testing.assert_close(head(whole), head(mean))


def test_the_vote_of_the_nearest_positions_is_that_of_a_slow_search():
    generator = torch.Generator().manual_seed(0)
    bank, labels = torch.randn(50, 6, generator=generator), torch.randint(4, (50,), generator=generator)
    maps = torch.randn(2, 6, 3, 5, generator=generator)
    found = NearestPositions(bank, labels, 4, 7, whole=False)(maps)
    assert found.shape == (2, 4, 3, 5)
    for image, row, column in itertools.product(range(2), range(3), range(5)):
        query = maps[image, :, row, column]
        near = sorted(((float(torch.cosine_similarity(query, one, dim=0)), n) for n, one in enumerate(bank)))[-7:]
        votes = [sum(math.exp(s / 0.07) for s, n in near if labels[n] == name) for name in range(4)]
        expected = [vote / sum(votes) for vote in votes]
        assert found[image, :, row, column].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_neighbour_search_finds_each_training_position_itself(encoder, data, recipe):
    probed = probe(encoder, data, CELL, replace(recipe, head="knn", neighbours=1), without_checkpoints(silent))
    images, labels = data.downstream("train", torch.arange(24))
    maps = encode(encoder, images, "segmentation")
    assert torch.equal(probed.head(maps).argmax(dim=1).flatten(1), map_labels(labels, *maps.shape[2:]))
    assert len(probed.head.bank) == maps[:, 0].numel()
    few = probe(encoder, data, CELL, replace(recipe, head="knn", positions=9), without_checkpoints(silent))
    assert (few.head.bank.shape[0], few.head.k) == (9, 9)


@pytest.mark.parametrize("views", [0, 2])
def test_views_in_memory_or_not_make_no_difference_to_neighbours(encoder, data, recipe, views):
    some = [
        probe(encoder, data, CELL, replace(recipe, head="knn", cached_views=count), without_checkpoints(silent)).test
        for count in (0, views)
    ]
    assert some[0] == some[1]


def test_labelled_images_are_nested_shares_drawn_from_the_seed(data):
    shares = [set(labelled_images(data, share, 0).tolist()) for share in (0.1, 0.25, 0.5, 1)]
    assert [len(share) for share in shares] == [2, 6, 12, 24]
    assert shares[0] < shares[1] < shares[2] < shares[3]
    assert shares[1] != set(labelled_images(data, 0.25, 1).tolist())


def test_the_probe_sees_no_label_outside_its_share(encoder, data, recipe):
    seen, original = set(), data.downstream

    def watched(split, index):
        seen.update(index.tolist() if split == "train" else ())
        return original(split, index)

    data.downstream = watched
    for head in ("fcn", "knn"):
        settings = replace(recipe, head=head, labels=0.25, cached_views=0, class_weights=True)
        probe(encoder, data, CELL, settings, without_checkpoints(silent))
    assert seen == set(labelled_images(data, 0.25, CELL.seed).tolist())


def test_a_share_without_a_class_is_refused_but_not_one_that_no_image_shows(data, monkeypatch):
    labels = torch.zeros(24, 4, 4, dtype=torch.uint8)
    labels[labelled_images(data, 0.5, 0)[-1]] = 1
    monkeypatch.setattr(data, "downstream", lambda split, index: (None, labels[index]))
    check_share(data, 0.5, 0)
    lost = next(share for share in (0.4, 0.3, 0.2, 0.1) if not labels[labelled_images(data, share, 0)].any())
    with pytest.raises(InputError, match=f"probe.labels {lost}: the .* of 24 training images of seed 0 show no pixel"):
        check_share(data, lost, 0)
    with pytest.raises(InputError, match="1 of 24 training images"):
        check_share(data, 0.04, 0)


def test_fine_tuning_changes_a_copy_of_the_encoder(encoder, data, recipe):
    before = copy.deepcopy(encoder.state_dict())
    probed = probe(encoder, data, CELL, replace(recipe, finetune=True), without_checkpoints(silent))
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    weights = dict(probed.encoder.named_parameters())
    assert all(not torch.equal(before[name], weight) for name, weight in weights.items() if weight.ndim == 4)
    slow = probe(encoder, data, CELL, replace(recipe, finetune=True, encoder_lr=1e-9), without_checkpoints(silent))
    assert all(torch.allclose(before[name], weight, atol=1e-6) for name, weight in slow.encoder.named_parameters())


@pytest.mark.parametrize(
    ("heads", "encodes"),
    [
        (("fcn", "linear", "knn"), (True, False, False)),
        (("knn", "knn", "linear", "fcn"), (True, False, True, False)),  # a search needs the plain view alone
    ],
)
def test_cells_that_probe_one_encoder_encode_its_images_once(encoder, data, recipe, heads, encodes):
    splits, original = [], data.downstream

    def counted(split, index):
        splits.append(split)
        return original(split, index)

    data.downstream = counted
    share = partial(SharedFeatures().get, "this encoder")
    for head, expected in zip(heads, encodes, strict=True):
        settings = replace(recipe, head=head, cached_views=2)
        alone = probe(encoder, data, CELL, settings, without_checkpoints(silent))
        splits.clear()
        shared = probe(encoder, data, CELL, settings, without_checkpoints(silent), share=share)
        assert ("train" in splits) == expected
        assert shared.test == alone.test
        assert all(torch.equal(one, two) for one, two in zip(shared.head.buffers(), alone.head.buffers(), strict=True))


def test_a_neighbour_search_encodes_the_plain_view_alone(encoder, data, recipe):
    seen, forward = [], encoder.forward
    encoder.forward = lambda images: seen.append(len(images)) or forward(images)
    probe(encoder, data, CELL, replace(recipe, head="knn", cached_views=8), without_checkpoints(silent))
    assert sum(seen) == data.count("train") + data.count("val") + data.count("test")


def test_features_of_another_encoder_are_held_in_place_of_the_last_ones():
    held, made = SharedFeatures(), []

    def get(identity, views):
        return held.get(identity, views, lambda: made.append((identity, views)) or len(made))

    assert [get("a", 2), get("a", 1), get("b", 1), get("b", 2), get("b", 1), get("a", 2)] == [1, 1, 2, 3, 3, 4]
    assert made == [("a", 2), ("b", 1), ("b", 2), ("a", 2)]
