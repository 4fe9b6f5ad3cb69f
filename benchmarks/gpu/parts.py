"""The parts of the GPU check, most valuable first. Limits are about twice the time on an H200 (estimated)."""

from collections.abc import Mapping

from benchmarks.gpu.apart import Part

MACHINE = Part(function="benchmarks.gpu.ceilings:machine", seconds=60)
"""Describes the machine; always runs first."""
PARTS: Mapping[str, Part] = {
    "tests": Part(function="benchmarks.gpu.commands:tests", seconds=60, needs_gpu=True),
    "waits": Part(function="benchmarks.gpu.waits:run", seconds=60),
    "ceilings": Part(function="benchmarks.gpu.ceilings:run", seconds=40),
    "eager": Part(function="benchmarks.gpu.steps:eager", seconds=120),
    "recorded": Part(function="benchmarks.gpu.steps:recorded", seconds=60, needs_gpu=True),
    "bits": Part(function="benchmarks.gpu.same_bits:run", seconds=80),
    "cells": Part(function="benchmarks.gpu.cells:run", seconds=100),
    "large": Part(function="benchmarks.gpu.large:run", seconds=60),
    "sharing": Part(function="benchmarks.gpu.sharing:run", seconds=80),
    "compiled": Part(function="benchmarks.gpu.steps:compiled", seconds=130, needs_gpu=True),
    "graphs": Part(function="benchmarks.gpu.steps:graphs", seconds=120, needs_gpu=True),
    "ray": Part(function="benchmarks.gpu.commands:ray", seconds=100),
    "inline": Part(function="benchmarks.gpu.commands:inline", seconds=60),
}
"""Name -> part. Compiled steps take minutes on a CPU, and nothing is recorded there, so these need a GPU."""
