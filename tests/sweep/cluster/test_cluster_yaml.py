"""cluster.yaml and cluster.local.yaml: Ray accepts them, and they keep what their comments promise."""

import re
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from benchmarks.cluster.loopback import HEAD, WORKERS, on_loopback

ROOT = Path(__file__).parents[3]
BOTH = pytest.mark.parametrize("name", ["cluster.yaml", "cluster.local.yaml"])


def given(name):
    return yaml.safe_load((ROOT / name).read_text())


@pytest.fixture
def aws():
    return given("cluster.yaml")


@BOTH
def test_ray_accepts_it(name):
    config = prepare_config(given(name))
    validate_config(config)
    assert config["cluster_name"] == "noisy-pairs"


def test_ray_refuses_what_is_not_in_its_schema(aws):
    with pytest.raises(Exception, match="idle_timeout"):
        validate_config(prepare_config(aws | {"idle_timeout": 5}))


@BOTH
def test_the_head_runs_no_cells_and_shows_its_dashboard_to_itself(name):
    config = given(name)
    (start,) = (line for line in config["head_start_ray_commands"] if " ray start " in line)
    assert "--num-cpus=0" in start
    assert "--num-gpus=0" in start
    assert "--dashboard-host=127.0.0.1" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start


@BOTH
def test_the_project_travels_without_what_is_big_or_secret_and_is_installed_by_its_pins(name):
    config = given(name)
    assert config["file_mounts"] == {"~/noisy-pairs": "."}
    assert {".git", ".venv", "results"} <= set(config["rsync_exclude"])
    assert config["rsync_filter"] == [".gitignore"]
    assert any(line.startswith("make -C ~/noisy-pairs ") for line in config["setup_commands"])
    makefile = (ROOT / "Makefile").read_text()
    assert "$(call install,.[cluster])" in makefile.split("$(VENV)/.installed-cluster:")[1].split("\n\n")[0]
    assert "--constraint constraints.txt --editable '$(1)'" in makefile.split("define install\n")[1].split("\nendef")[0]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert {"ray", "boto3", "torch"} <= pins.keys()
    assert "pip install" not in (ROOT / name).read_text(), "a second place that says what is installed"


@BOTH
def test_every_ray_asks_for_the_token(name):
    config = given(name)
    assert config["cluster_synced_files"] == ["~/.ray/auth_token"]
    assert any("get-auth-token --generate" in line for line in config["head_setup_commands"])
    assert any("RAY_AUTH_MODE=token" in line and "~/.profile" in line for line in config["setup_commands"])
    for line in config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        assert line.startswith(". ~/.profile && ")


@BOTH
def test_no_key_and_no_index_is_in_the_file(name):
    text = (ROOT / name).read_text()
    assert not re.search(r"AKIA|aws_secret|aws_access|http://|https://", text)


def test_workers_are_spot_with_another_pool_and_then_on_demand(aws):
    types = aws["available_node_types"]
    assert aws["head_node_type"] == "head"
    assert types["head"]["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    workers = {name: kind for name, kind in types.items() if name != "head"}
    market = {name: kind["node_config"].get("InstanceMarketOptions") for name, kind in workers.items()}
    spot = {"MarketType": "spot"}
    assert market == {"gpu.spot": spot, "gpu.spot.other": spot, "gpu.on-demand": None}
    order = sorted(workers, key=lambda name: workers[name]["priority"], reverse=True)
    assert order == ["gpu.spot", "gpu.spot.other", "gpu.on-demand"]
    assert len({kind["node_config"]["InstanceType"] for kind in workers.values()}) == 2
    for kind in workers.values():
        assert kind["min_workers"] == 0
        assert 0 < kind["max_workers"] <= aws["max_workers"]
        assert kind["resources"]["GPU"] == 1


def test_what_costs_goes_by_itself(aws):
    assert aws["idle_timeout_minutes"] <= 15
    assert aws["provider"]["cache_stopped_nodes"] is False
    for kind in aws["available_node_types"].values():
        (disk,) = kind["node_config"]["BlockDeviceMappings"]
        assert disk["Ebs"]["DeleteOnTermination"] is True


def test_no_port_is_open_but_ssh_and_roles_stand_in_for_keys(aws):
    assert "security_group" not in aws["provider"], "Ray's own lets in SSH alone"
    for kind in aws["available_node_types"].values():
        config = kind["node_config"]
        assert not {"SecurityGroupIds", "NetworkInterfaces", "KeyName", "UserData"} & config.keys()
        assert config["IamInstanceProfile"]["Name"].startswith("noisy-pairs-")
        assert config["MetadataOptions"] == {"HttpTokens": "required"}


def test_one_image_and_one_python_for_all_machines(aws):
    images = {kind["node_config"]["ImageId"] for kind in aws["available_node_types"].values()}
    assert len(images) == 1
    assert "ubuntu-24.04" in images.pop()
    assert any("PYTHON=python3.12" in line for line in aws["setup_commands"])


def test_security_rules_that_ray_would_make_let_in_ssh_alone():
    from ray.autoscaler._private.aws.config import _create_default_ssh_inbound_rules

    (rule,) = _create_default_ssh_inbound_rules()
    assert (rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) == (22, 22, "tcp")


def test_machines_of_ones_own_are_all_kept():
    config = given("cluster.local.yaml")
    count = len(config["provider"]["worker_ips"])
    assert config["min_workers"] == config["max_workers"] == count
    kind = prepare_config(config)["available_node_types"]["local.cluster.node"]
    assert (kind["min_workers"], kind["max_workers"]) == (count, count)


def test_the_cluster_that_is_tried_here_is_the_local_one_on_other_addresses():
    config = on_loopback(given("cluster.local.yaml"), Path("/somewhere/key"))
    validate_config(prepare_config(config))
    assert config["provider"] == {"type": "local", "head_ip": HEAD, "worker_ips": list(WORKERS)}
    (worker,) = config["worker_start_ray_commands"]
    assert given("cluster.local.yaml")["worker_start_ray_commands"][-1] in worker
    assert "ray stop" not in worker, "it would stop the other nodes of this machine"
    assert config["setup_commands"][1:] == given("cluster.local.yaml")["setup_commands"][1:]
