"""Scenes, textures, tiles, pairs, augmentation."""

from datasets import namesake as namesake  # checks that the folder is ours alone
