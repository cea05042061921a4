# SPDX-License-Identifier: Apache-2.0
"""URLs of object stores, taken apart."""

from __future__ import annotations

import pytest

from lmcache.errors import InvalidArgumentError
from lmcache.remote.object_url import parse_object_url

MINIO = "s3://kv/llama/prod?endpoint=http://minio:9000&allow_http=true&region=eu-west-1"


def test_everything_of_a_url():
    url = parse_object_url(MINIO + "&path_style=no&unsigned_payload=yes", "key", "hush-hush")
    assert (url.scheme, url.bucket, url.prefix) == ("s3", "kv", "llama/prod")
    assert url.config == {
        "endpoint": "http://minio:9000",
        "region": "eu-west-1",
        "virtual_hosted_style_request": True,
        "unsigned_payload": True,
    }
    assert url.client == {"allow_http": True}
    assert url.access == {"access_key_id": "key", "secret_access_key": "hush-hush"}


def test_nothing_said_is_left_to_the_environment():
    url = parse_object_url("gs://kv", None, None)
    assert (url.prefix, url.config, url.client, url.access) == ("", {}, {}, {})


def test_a_login_in_the_url_goes_before_the_settings():
    url = parse_object_url("az://acc:a%2Fb%3D@kv/", "other", "key")
    assert url.access == {"account_name": "acc", "account_key": "a/b="}
    assert str(url) == "az://kv"


def test_secrets_are_neither_in_str_nor_in_repr():
    url = parse_object_url("s3://AKIAKEY:hush-hush@kv/p", None, None)
    assert url.access["secret_access_key"] == "hush-hush"
    for text in (str(url), repr(url), f"{url}"):
        assert "hush-hush" not in text
        assert "AKIAKEY" not in text


def test_a_certificate_of_a_private_authority(tmp_path):
    file = tmp_path / "ca.pem"
    file.write_text("-----BEGIN CERTIFICATE-----")
    url = parse_object_url(f"s3://kv?ca={file}&verify=false", None, None)
    assert url.client == {
        "root_certificate": "-----BEGIN CERTIFICATE-----",
        "allow_invalid_certificates": True,
    }


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://", "name of a bucket"),
        ("ftp://kv", "not ftp://"),
        ("s3://kv?regoin=x", "does not know regoin; it knows allow_http, bulk_delete, ca"),
        ("az://kv?region=x", "does not know region"),
        ("gs://kv?account=x", "does not know account"),
        ("s3://kv?region=a&region=b", "twice"),
        ("s3://kv?region=", "region is empty"),
        ("s3://kv?allow_http=maybe", "true or false"),
        ("s3://kv?endpoint=http://h:1", "allow_http=true"),
        ("s3://kv?endpoint=h:1", "endpoint is http"),
        ("s3://kv?endpoint=https://u:p@h", "no user"),
        ("s3://kv/../x", "a prefix holds"),
        ("s3://kv/a//b", "a prefix holds"),
        ("s3://kv/a%00b", "a prefix holds"),
        ("s3://kv#x", "no '#'"),
        ("s3://kv?ca=/nowhere.pem", "nowhere"),
        ("s3://only-a-key@kv", "needs both"),
        ("gs://user:secret@kv", "service_account"),
    ],
)
def test_what_is_wrong_is_named(url, told):
    with pytest.raises(InvalidArgumentError, match=told) as caught:
        parse_object_url(url, None, None)
    assert ":secret" not in str(caught.value)
