"""Settings are plain frozen dataclasses; a mistake is one line that names the flag, in Python and in YAML."""

import pickle
from dataclasses import FrozenInstanceError, asdict, replace

import pytest
from pydantic import TypeAdapter

from datasets.augment.config import Augment
from datasets.errors import InputError
from datasets.manifest.config import ManifestSettings
from datasets.settings import first_mistake
from trainables.recipe import Moco, Pretrain, Recipe


def test_a_number_has_one_key_however_it_is_written():
    assert Moco(lr=1) == Moco(lr=1.0) == TypeAdapter(Moco).validate_python({"lr": "1"})
    assert Recipe(moco=Moco(lr=1)).fingerprint == Recipe(moco=Moco(lr=1.0)).fingerprint
    assert Recipe(pretrain=Pretrain(steps=500.0)).fingerprint == Recipe(pretrain=Pretrain(steps=500)).fingerprint
    made = ManifestSettings(mean=[1, 2, 3], std=[1, 1, 1])
    assert asdict(made) == asdict(ManifestSettings(mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 1.0)))


def test_they_are_frozen_keyword_only_dataclasses():
    moco = Moco(lr=0.5)
    assert replace(moco, lr=0.1).lr == 0.1
    assert pickle.loads(pickle.dumps(moco)) == moco
    with pytest.raises(FrozenInstanceError):
        moco.lr = 1.0
    with pytest.raises(TypeError, match="lrr"):
        Moco(lrr=1.0)
    with pytest.raises(TypeError):
        Moco(1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Moco(lr=float("nan")), "--moco.lr nan: should be a finite number"),
        (lambda: Moco(lr=float("inf")), "--moco.lr inf: should be a finite number"),
        (lambda: Pretrain(steps=1.5), "--pretrain.steps 1.5: should be a valid integer, got a number with a fraction"),
        (lambda: Pretrain(weight_decay=-1), "--pretrain.weight-decay -1: should be greater than or equal to 0"),
        (lambda: Augment(crop="a\nb"), "--augment.crop a b: should be a valid number, unable to parse"),
        (lambda: replace(Moco(), queue=0), "--moco.queue 0: should be greater than 0"),
        (lambda: Pretrain(steps=3, warmup=4), "--pretrain.warmup 4: there are only 3 --pretrain.steps"),
    ],
)
def test_a_mistake_names_the_flag_the_value_and_what_is_valid(make, message):
    with pytest.raises(InputError) as error:
        make()
    assert str(error.value).startswith(message)
    assert str(error.value).isprintable()


def test_a_mistake_in_a_mapping_names_its_path():
    with pytest.raises(ValueError, match="moco") as error:
        TypeAdapter(Recipe).validate_python({"moco": {"lr": 0}})
    assert first_mistake(error.value) == "moco.lr 0: should be greater than 0"
