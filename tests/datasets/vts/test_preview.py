"""The picture of a scene: what it shows, and how a mistake ends."""

import numpy as np
import pytest
from PIL import Image

from datasets.errors import InputError
from datasets.vts.__main__ import main, panels
from datasets.vts.config import VtsSettings
from datasets.vts.textures import make_procedural

SETTINGS = VtsSettings(size=32)


@pytest.fixture(scope="module")
def shown():
    rows = panels(SETTINGS, make_procedural(32, count=8), seed=0, scene=3, augmentation="moco")
    return {title: picture for row in rows for title, picture in row}


def test_every_texture_and_partner_is_shown(shown):
    titles = " ".join(shown)
    for word in ("texture_a", "texture_b", "texture of noise", "irrelevant noise\n(dotted)", "nu = 0.25", "nu = 1"):
        assert word in titles
    assert all(picture.shape[2] == 3 for picture in shown.values())


def test_irrelevant_noise_changes_the_pixels_that_relevant_noise_changes(shown):
    changed = {
        name: (shown[name] != shown["scene"]).any(axis=2)
        for name in ("noisy partner, nu = 0.5", "irrelevant noise, nu = 0.5")
    }
    relevant, irrelevant = changed.values()
    # A pixel of noise may happen to have the colour that was there.
    assert (relevant == irrelevant).mean() > 0.97
    assert 0.2 < relevant.mean() < 0.8


def test_a_scene_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="--scene 6000: must be from 0 to 5999"):
        panels(SETTINGS, make_procedural(32, count=8), seed=0, scene=6000, augmentation="moco")


def test_the_command_draws_a_file_and_ends_a_mistake_with_one_line_and_code_2(tmp_path, capsys):
    def preview(*words):
        return main(["--preview", str(tmp_path / "scene.png"), *words])

    assert preview("--size", "4") == 2
    refused = capsys.readouterr().err
    assert refused.count("\n") == 1
    assert "--data.size 4" in refused
    assert preview("--size", "32") == 0
    assert np.asarray(Image.open(tmp_path / "scene.png")).std() > 10
