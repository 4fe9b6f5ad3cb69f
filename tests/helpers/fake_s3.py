"""An S3 server of the tests' own, on this machine alone."""

import logging
import os
from contextlib import contextmanager
from unittest.mock import patch

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "bucket"


@contextmanager
def serving(port=0):
    """The environment in which `s3://bucket/...` is that of a server; those of one process have the same objects."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it says every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with patch.dict(os.environ, environment(f"http://{host}:{port}")):
            client().create_bucket(Bucket=BUCKET)
            yield server
    finally:
        server.stop()


def environment(endpoint):
    """What a process needs to find the server, and nothing else."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def client():
    """To look at the server past our own code."""
    return boto3.client("s3")


def names(prefix):
    """The objects below `prefix/`, without it; markers of empty folders are none."""
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
    found = [one["Key"].removeprefix(f"{prefix}/") for page in pages for one in page.get("Contents", ())]
    return sorted(name for name in found if name and not name.endswith("/"))
