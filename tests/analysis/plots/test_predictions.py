"""The sheet of predictions shows the predictions of each cell for some test images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.plots import predictions
from analysis.plots.inputs import Inputs
from analysis.records.predictions import Prediction, write_predictions
from tests.analysis.plots.test_plots import drawn, words


@pytest.fixture
def shown() -> Callable[..., Prediction]:
    def make(key: str, number: int = 0, predicted: int = 1, shade: int = 9) -> Prediction:
        truth = np.array([[0, 1], [2, 255]], np.uint8)
        image = np.full((2, 2, 3), shade, np.uint8)
        return Prediction(
            key=key, number=number, image=image, truth=truth, predicted=np.full((2, 2), predicted, np.uint8)
        )

    return make


def test_a_sheet_of_pairs_shows_the_first_image_too(shown: Callable) -> None:
    pair = replace(shown("a"), before=np.full((2, 2, 3), 5, np.uint8))
    figure = predictions.draw_sheet([pair], titles={"a": "a"}, classes=["x"], heading="made up")
    pictures = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    assert [picture.mean() for picture in pictures[:2]] == [5, 9]
    assert len(pictures) == 4
    assert "before" in words(figure)


def test_the_sheet_shows_image_truth_and_each_cells_prediction(
    study: Callable, rows: list, shown: Callable, tmp_path: Path
) -> None:
    one = study(rows)
    keys = predictions.representative_cells(one)
    chosen = one.records.set_index("key").loc[keys]
    assert len(keys) == 9
    assert set(chosen["seed"]) == {0}
    assert set(zip(chosen["rho"], chosen["nu"], chosen["pairing"], strict=True)) == {
        (0, 0, "none"),
        (1, 1, "noisy"),
        (1, 1, "exposure"),
    }
    for key in keys[:2]:
        write_predictions(tmp_path, key, [shown(key, number, predicted=2) for number in (0, 1)])
    figure = drawn(predictions.predictions(one, Inputs(folders=[tmp_path])))
    pictures = [axes.images[0].get_array() for axes in figure.axes]
    assert len(pictures) == 4 * 2
    assert (np.asarray(pictures[0]) == 9).all()
    assert np.allclose(pictures[2], predictions.coloured(shown("").truth))
    assert np.allclose(pictures[4], predictions.coloured(np.full((2, 2), 2, np.uint8)))
    text = words(figure)
    assert "no predictions of" in text
    assert "ignored" in text
    assert all(name in text for name in ("stratified", "veined", "noise"))
    asked = drawn(predictions.predictions(one, Inputs(folders=[tmp_path], cells=[keys[1]])))
    assert len(asked.axes) == 3 * 2
    assert isinstance(predictions.predictions(one, Inputs(folders=[tmp_path], cells=[keys[5]])), str)


def test_cells_of_other_seeds_have_other_images(shown: Callable) -> None:
    found = [shown("a", shade=1), shown("b", shade=2)]
    figure = predictions.draw_sheet(found, titles={"a": "a", "b": "b"}, classes=["x"], heading="made up")
    # Rows image, truth, a, b; columns the two images.
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 1, 1, 0, 0, 1]


def test_classes_have_colours_of_their_own() -> None:
    palette = predictions.coloured(np.arange(20, dtype=np.uint8)[None])[0]
    assert len({tuple(colour) for colour in palette}) == 20
    assert (predictions.coloured(np.array([[255]], np.uint8)) == 1).all()


def test_the_legend_names_the_classes_that_are_shown_by_their_numbers(
    shown: Callable, study: Callable, rows: list, tmp_path: Path
) -> None:
    one = study(rows)
    key = predictions.representative_cells(one)[0]
    names = ("ground", "water", "road", "house")
    write_predictions(tmp_path, key, [replace(shown(key, predicted=3), classes=names)])
    figure = drawn(predictions.predictions(one, Inputs(folders=[tmp_path], cells=[key])))
    (legend,) = figure.legends
    colours = {
        text.get_text(): patch.get_facecolor()[:3]
        for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    palette = predictions.coloured(np.arange(4, dtype=np.uint8)[None])[0]
    assert {name: colours[name] for name in names} == {
        name: tuple(palette[number]) for number, name in enumerate(names)
    }
    write_predictions(
        tmp_path, key, [replace(shown(key, predicted=3), classes=names, truth=np.full((2, 2), 3, np.uint8))]
    )
    assert [
        text.get_text()
        for text in drawn(predictions.predictions(one, Inputs(folders=[tmp_path], cells=[key]))).legends[0].get_texts()
    ] == ["house"]
