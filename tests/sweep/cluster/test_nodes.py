"""Machines of a running Ray: they have distinct names, are called at the same time, and may fail to answer."""

import os
import tempfile
import time
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from sweep.cluster.machine import NoAnswer
from sweep.cluster.nodes import call_on_each, list_machines


@pytest.fixture(scope="module")
def cluster():
    """A head that runs no cells and a machine with one core, with a folder of its own for Ray's files."""
    root = str(Path(__file__).parents[3])
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="np-", dir="/tmp") as place:
        patch.setenv("RAY_TMPDIR", place)
        patch.setenv("PYTHONPATH", os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]))
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


def where():
    return ray.get_runtime_context().get_node_id()


def twice(number):
    return 2 * number


def sleep(seconds):
    time.sleep(seconds)


def divide(number):
    return number / 0


def test_machines_are_told_apart_though_they_have_one_address(cluster):
    found = list_machines()
    assert [node.runs_cells for node in sorted(found, key=lambda node: node.cores)] == [False, True]
    assert len({node.name for node in found}) == 2
    assert all(node.gpus == 0 and node.accelerator == "" and node.memory > 0 for node in found)
    assert call_on_each(where) == {node.name: node.id for node in found}


def test_arguments_arrive_and_some_machines_can_be_chosen(cluster):
    (worker,) = (node for node in list_machines() if node.runs_cells)
    assert call_on_each(twice, 4, among=[worker]) == {worker.name: 8}
    assert call_on_each(twice, 4, among=[]) == {}


def test_a_machine_that_is_busy_answers_nevertheless(cluster):
    busy = ray.remote(num_cpus=1)(sleep).remote(600)
    assert set(call_on_each(twice, 1).values()) == {2}
    ray.cancel(busy, force=True)


def test_what_fails_or_is_late_is_said_and_does_not_raise(cluster):
    for answer in call_on_each(divide, 1).values():
        assert isinstance(answer, NoAnswer)
        assert answer.reason.startswith("ZeroDivisionError")
    late = call_on_each(sleep, 600, seconds=0.5)
    assert set(late.values()) == {NoAnswer("no answer within 0.5 s")}
