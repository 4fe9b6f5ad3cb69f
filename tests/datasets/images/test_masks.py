"""Masks: polygons fill the pixels whose centres they contain, and label files are taken at their word or refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shapely import MultiPolygon, Polygon, box

from datasets.errors import InputError
from datasets.images import polygons
from datasets.images.masks import Mask, read_mask
from datasets.types import IGNORED
from tests.helpers.real import real

HEIGHT, WIDTH = 24, 31


def label_file(path: Path, *features: tuple[str, str | None], **metadata: object) -> Path:
    xy = [
        {"properties": {"feature_type": "building", "uid": "?"} | ({"subtype": subtype} if subtype else {}), "wkt": wkt}
        for wkt, subtype in features
    ]
    path.write_text(json.dumps({"features": {"lng_lat": [], "xy": xy}, "metadata": metadata}))
    return path


def read(path: Path, unclassified: str = "no-damage") -> Mask:
    return read_mask(path, HEIGHT, WIDTH, unclassified=unclassified)


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read(path)
    message = str(error.value)
    assert "\n" not in message
    return message


def square(left: float, top: float, side: float = 4) -> str:
    return box(left, top, left + side, top + side).wkt


# --- drawing


def slowly_drawn(shapes: list[shapely.Geometry], values: list[int]) -> np.ndarray:
    """The definition, pixel by pixel."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for shape, value in zip(shapes, values, strict=True):
        for r in range(HEIGHT):
            for c in range(WIDTH):
                if shapely.contains_xy(shape, c + 0.5, r + 0.5):
                    mask[r, c] = value
    return mask


def random_shape(generator: np.random.Generator) -> shapely.Geometry:
    """Bent, with holes, of several parts, and often beyond the image's edge; no vertex lies on a pixel's centre."""
    parts = []
    for _ in range(generator.integers(1, 4)):
        angles = np.sort(generator.uniform(0, 2 * np.pi, generator.integers(3, 12)))
        radii = generator.uniform(0.5, 12, len(angles))
        centre = generator.uniform(-5, 35, 2)
        star = Polygon(centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1))
        hole = shapely.Point(*centre).buffer(generator.uniform(0.5, 6), quad_segs=3)
        parts.append(star.buffer(0).difference(hole) if generator.random() < 0.6 else star.buffer(0))
    return shapely.union_all(parts)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_drawing_is_what_a_look_at_each_pixel_gives(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shapes = [random_shape(generator) for _ in range(4)]
    shapes = [shape for shape in shapes if isinstance(shape, Polygon | MultiPolygon)]
    values = list(range(1, 1 + len(shapes)))
    drawn = polygons.rasterize(np.array(shapes, object), np.array(values, np.uint8), HEIGHT, WIDTH)
    np.testing.assert_array_equal(drawn, slowly_drawn(shapes, values))


def test_polygons_with_a_common_edge_share_no_pixel_and_leave_none_out() -> None:
    # Vertices in the very centres of pixels and edges through them: each pixel must still have one owner.
    generator = np.random.default_rng(0)
    points = generator.integers(-3, 40, (60, 2)) + 0.5
    corners = [(-50.0, -50.0), (90.0, -50.0), (90.0, 90.0), (-50.0, 90.0)]
    triangles = shapely.get_parts(shapely.delaunay_triangles(shapely.MultiPoint([*points, *corners])))
    owners = sum(
        (polygons.rasterize(np.array([triangle]), np.array([1], np.uint8), HEIGHT, WIDTH) for triangle in triangles),
        np.zeros((HEIGHT, WIDTH), int),
    )
    np.testing.assert_array_equal(owners, 1)


def test_a_square_of_whole_pixels_is_those_pixels() -> None:
    drawn = polygons.rasterize(np.array([box(3, 5, 7, 6)]), np.array([9], np.uint8), HEIGHT, WIDTH)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[5:6, 3:7] = 9
    np.testing.assert_array_equal(drawn, expected)


def test_a_centre_on_the_left_or_upper_edge_is_inside() -> None:
    drawn = polygons.rasterize(np.array([box(2.5, 3.5, 4.5, 6.5)]), np.array([1], np.uint8), HEIGHT, WIDTH)
    assert np.argwhere(drawn).tolist() == [[r, c] for r in (3, 4, 5) for c in (2, 3)]


def test_many_polygons_are_drawn_as_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    shapes = np.array([shapely.Point(*generator.uniform(0, 30, 2)).buffer(4) for _ in range(40)])
    values = np.arange(1, 41).astype(np.uint8)
    at_once = polygons.rasterize(shapes, values, HEIGHT, WIDTH)
    monkeypatch.setattr(polygons, "MAX_PIXELS", HEIGHT * WIDTH)  # one at a time
    np.testing.assert_array_equal(polygons.rasterize(shapes, values, HEIGHT, WIDTH), at_once)


# --- xBD's label files


def test_damages_are_classes_and_are_counted(tmp_path: Path) -> None:
    names = ("no-damage", "minor-damage", "major-damage", "destroyed", "un-classified", "destroyed")
    path = label_file(tmp_path / "a.json", *[(square(5 * k, 2), name) for k, name in enumerate(names)])
    mask = read(path)
    assert [mask.labels[3, 5 * k + 1] for k in range(6)] == [1, 2, 3, 4, 1, 4]
    assert (mask.labels > 0).sum() == 6 * 16
    assert mask.buildings == {
        "no-damage": 1,
        "minor-damage": 1,
        "major-damage": 1,
        "destroyed": 2,
        "un-classified": 1,
    }
    ignoring = read(path, "ignore")
    assert ignoring.labels[3, 21] == IGNORED
    np.testing.assert_array_equal(np.where(ignoring.labels == IGNORED, 1, ignoring.labels), mask.labels)


def test_buildings_before_a_disaster_are_class_1(tmp_path: Path) -> None:
    mask = read(label_file(tmp_path / "a.json", (square(0, 0), None), (square(9, 9), None)))
    assert np.bincount(mask.labels.ravel()).tolist() == [HEIGHT * WIDTH - 32, 32]
    assert mask.buildings == {"building": 2}


def test_no_buildings_give_zeros(tmp_path: Path) -> None:
    mask = read(label_file(tmp_path / "a.json"))
    assert mask.labels.shape == (HEIGHT, WIDTH)
    assert not mask.labels.any()
    assert mask.buildings == {}


def test_a_later_polygon_hides_an_earlier_one_except_through_its_hole(tmp_path: Path) -> None:
    ring = box(2, 2, 14, 14).difference(box(6, 6, 10, 10)).wkt
    path = label_file(tmp_path / "a.json", (square(0, 0, 20), "minor-damage"), (ring, "destroyed"))
    labels = read(path).labels
    assert [labels[0, 0], labels[3, 3], labels[8, 8], labels[15, 15]] == [2, 4, 2, 2]
    assert (labels == 4).sum() == 12 * 12 - 4 * 4


def test_several_parts_beyond_the_edge_and_nothing_at_all_are_drawn(tmp_path: Path) -> None:
    parts = MultiPolygon([box(-5, -5, 2, 2), box(WIDTH - 1, HEIGHT - 1, 99, 99)]).wkt
    flat = "POLYGON ((1 8, 9 8, 20 8, 1 8))"
    labels = read(
        label_file(
            tmp_path / "a.json",
            (parts, "destroyed"),
            (flat, "minor-damage"),
            ("POLYGON EMPTY", "minor-damage"),
            (square(1000, 1000), "minor-damage"),
        )
    ).labels
    assert (labels == 4).sum() == 5
    assert labels.sum() == 20


@pytest.mark.parametrize(
    ("wkt", "subtype", "expected"),
    [
        (
            square(0, 0),
            "flooded",
            "polygon 1 of features.xy has the unknown subtype 'flooded'; valid are no-damage, minor",
        ),
        (square(0, 0), None, "polygon 1 of features.xy has no subtype"),
        ("POLYGON ((0 0, 1 1", "destroyed", "polygon 1 of features.xy is not a polygon"),
        ("POLYGON ((0 0, 1 1))", "destroyed", "polygon 1 of features.xy is not a polygon"),
        ("POINT (3 4)", "destroyed", "polygon 1 of features.xy is not a polygon in px, written as WKT: 'POINT (3 4)'"),
        ("POLYGON ((0 0, 1e200 0, 0 1e200, 0 0))", "destroyed", "polygon 1 of features.xy is not a polygon"),
        ("POLYGON ((0 0, nan 0, 0 7, 0 0))", "destroyed", "polygon 1 of features.xy is not a polygon"),
        ("", "destroyed", "polygon 1 of features.xy is not a polygon"),
        (7, "destroyed", "polygon 1 of features.xy has a wkt that is not text"),
    ],
)
def test_a_polygon_that_means_nothing_is_refused(tmp_path: Path, wkt: str, subtype: str | None, expected: str) -> None:
    path = label_file(tmp_path / "a.json", (square(9, 9), "no-damage"), (wkt, subtype))
    assert expected in refused(path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        '{"features": []}',
        '{"features": {"xy": [7]}}',
        '{"features": {"xy": [{"wkt": "?"}]}}',
    ],
)
def test_what_is_no_label_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    assert "is cut off or damaged" in refused(path) or "is not an xBD label file" in refused(path)


def test_a_label_file_of_another_size_is_refused(tmp_path: Path) -> None:
    path = label_file(tmp_path / "a.json", width=WIDTH, height=HEIGHT)
    assert not read(path).labels.any()
    label_file(path, width=WIDTH, height=HEIGHT + 1)
    assert f"height of {HEIGHT + 1} px, but its image has {HEIGHT}" in refused(path)


# --- images


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_an_image_of_class_numbers_is_the_mask(tmp_path: Path, suffix: str) -> None:
    numbers = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    Image.fromarray(numbers).save(tmp_path / f"mask.{suffix}")
    mask = read(tmp_path / f"mask.{suffix}")
    np.testing.assert_array_equal(mask.labels, numbers)
    assert mask.buildings == {}


def test_an_image_of_another_size_or_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.new("L", (WIDTH, HEIGHT + 1)).save(path)
    assert f"is {WIDTH} x {HEIGHT + 1} px, but its image {WIDTH} x {HEIGHT}" in refused(path)
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    assert "has 3 bands" in refused(path)
    assert "No such file" in refused(tmp_path / "absent.png")
    assert "No such file" in refused(tmp_path / "absent.json")


# --- real labels


@pytest.mark.realdata
def test_real_labels_cover_what_their_polygons_cover() -> None:
    files = sorted(real("xbd").glob("*/labels/*.json"))
    for path in files:
        mask = read_mask(path, 1024, 1024, unclassified="no-damage")
        features = json.loads(path.read_text())["features"]["xy"]
        assert sum(mask.buildings.values()) == len(features)
        area = shapely.union_all(shapely.from_wkt([feature["wkt"] for feature in features])).area
        assert (mask.labels > 0).sum() == pytest.approx(area, rel=0.01)
    assert files


# --- before and after, told by the name


def test_buildings_before_a_disaster_are_buildings_whatever_their_subtype(tmp_path: Path) -> None:
    mask = read(label_file(tmp_path / "fire_00000001_pre_disaster.json", (square(0, 0), "destroyed")))
    assert set(np.unique(mask.labels)) == {0, 1}
    assert mask.buildings == {"building": 1}


def test_buildings_after_a_disaster_need_a_subtype(tmp_path: Path) -> None:
    path = label_file(tmp_path / "fire_00000001_post_disaster.json", (square(0, 0), None))
    assert "polygon 0 of features.xy has no subtype; valid are no-damage" in refused(path)
    assert not read(label_file(tmp_path / "fire_00000002_post_disaster.json")).labels.any()
