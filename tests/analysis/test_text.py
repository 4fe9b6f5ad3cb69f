"""No text that we show or write holds the user, the password or the keys of an address."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import RecordsError
from analysis.records.remote import normalized_address
from analysis.text import describe_error, without_secrets

words = st.text("abz019:/?#[]@!$&'()*+,;=\"%<>{}|\\^`~-._é", max_size=12)


@given(user=words, password=words, scheme=st.sampled_from(["http", "https", "postgresql+psycopg", "s3"]))
def test_user_and_password_are_gone_whatever_they_hold(user: str, password: str, scheme: str) -> None:
    for write in (str, quote):  # also where special characters are not escaped
        address = f"{scheme}://{write(user)}U5er:{write(password)}hunter2@host"
        shown = without_secrets(f"cannot reach '{address}/db' (no answer), see {address}")
        assert "hunter2" not in shown
        assert "U5er" not in shown
        assert shown.startswith("cannot reach '")
        assert shown.endswith(f"(no answer), see {scheme}://host")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "https://b.s3.amazonaws.com/k?X-Amz-Signature=hunter2&X-Amz-Date=1 is gone",
            "https://b.s3.amazonaws.com/k is gone",
        ),
        (
            "HTTPConnectionPool(host='b'): url: /k?sig=hunter2 (refused)",
            "HTTPConnectionPool(host='b'): url: /k (refused)",
        ),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dhunter2", "mssql+pyodbc:///"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("http://127.0.0.1:5000/#/experiments/1", "http://127.0.0.1:5000/#/experiments/1"),
        ("who? me@home.org: a=b", "who? me@home.org: a=b"),
    ],
)
def test_queries_are_gone_and_everything_else_stays(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert describe_error(ValueError(text)) == shown


@pytest.mark.parametrize(
    "address", ["s3://me:hunter2@b/n", "s3:me:hunter2@b/n", "postgresql://me:hunter2@h/x", "gs://b/n?token=hunter2"]
)
def test_an_address_of_a_sweep_that_is_refused_is_not_repeated_with_its_keys(address: str) -> None:
    with pytest.raises(RecordsError, match="into the environment") as found:
        normalized_address(address)
    assert "hunter2" not in str(found.value)
