from itertools import pairwise

import pytest
import torch

from datasets.errors import InputError
from datasets.pairing import choose_noisy, draw_partner, noisy_sides, swap_sides
from datasets.vts.config import noisy_regions


def draws(count=20_000):
    return torch.rand(count, generator=torch.Generator().manual_seed(0))


def test_noisy_sets_are_nested_in_rho_and_of_the_right_size():
    sets = [choose_noisy(draws(), rho) for rho in (0.0, 0.25, 0.5, 0.75, 1.0)]
    for smaller, larger in pairwise(sets):
        assert not (smaller & ~larger).any()
    shares = [float(chosen.float().mean()) for chosen in sets]
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.02)
    assert shares[0] == 0
    assert shares[-1] == 1


def test_noisy_pairs_hold_one_noisy_image_and_exposure_two():
    noisy = torch.tensor([True, False])
    first, second = noisy_sides(noisy, "noisy")
    assert first.tolist() == [False, False]
    assert second.tolist() == [True, False]
    first, second = noisy_sides(noisy, "exposure")
    assert first.tolist() == second.tolist() == [True, False]


def test_swap_exchanges_sides_of_half_the_pairs_and_changes_no_pair():
    first, second = torch.zeros(20_000, dtype=torch.bool), torch.ones(20_000, dtype=torch.bool)
    left, right = swap_sides(first, second, draws())
    assert ((left ^ right) == (first ^ second)).all()
    assert float(left.float().mean()) == pytest.approx(0.5, abs=0.02)


def test_another_image_is_never_the_same_and_all_others_are_equally_likely():
    index = torch.arange(5).repeat(4_000)
    found = draw_partner(index, draws(), 5)
    assert (found != index).all()
    for own in range(5):
        met = torch.bincount(found[index == own], minlength=5)
        assert sorted(met.tolist())[1:] == pytest.approx([1000] * 4, abs=120)  # four standard deviations
    assert (draw_partner(torch.arange(5), torch.full((5,), 1 - 2**-24), 5) != torch.arange(5)).all()


@pytest.mark.parametrize(("nu", "count"), [(0.0, 0), (0.25, 5), (0.5, 10), (0.75, 15), (1.0, 20), (0.35, 7)])
def test_nu_is_a_whole_number_of_regions(nu, count):
    assert noisy_regions(nu, 20) == count


def test_nu_between_two_regions_is_refused_with_what_is_valid():
    with pytest.raises(InputError, match=r"nu = 0\.33 is not a multiple of 1/20.*0\.05"):
        noisy_regions(0.33, 20)
