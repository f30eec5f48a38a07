# SPDX-License-Identifier: Apache-2.0
"""Which requests the web page answers: none of other sites' pages, whatever they are called."""

import json

import pytest

from ssd_ros.web.rules import allowed_names, as_json, parse_change, refusal

NAMES = allowed_names("robot.local")


class Headers(dict):
    """Headers as a server gives them, which can be there several times."""

    def getall(self, name, default):
        return self.get(name, default)


def refused(method, host="127.0.0.1:8080", origin=None, **others):
    headers = Headers({name.replace("_", "-"): [value] for name, value in others.items()})
    for name, value in (("Host", host), ("Origin", origin)):
        if value is not None:
            headers[name] = value if isinstance(value, list) else [value]
    return refusal(method, headers, NAMES)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8080", "127.0.0.1", "192.168.1.7:80", "[::1]:8080", "localhost:8080", "LocalHost"]
    + ["robot.local:8080", "Robot.Local"],
)
def test_the_page_is_answered_under_an_address_and_its_own_names(host):
    assert not refused("GET", host)
    assert not refused("POST", host, f"http://{host}")
    assert not refused("POST", host.upper(), f"http://{host.lower()}")


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "evil.example:8080", "localhost.evil.example", "localhost.", ":80"]
    + ["127.0.0.1.evil.example", "127.1", "2130706433", "0x7f.0.0.1", "::1", "[::1", "[evil]"]
    + ["a@127.0.0.1", "127.0.0.1:8080:1", "127.0.0.1:port", "127.0.0.1 ", "127.0.0.1\n", "robot"]
    + [["127.0.0.1:8080", "127.0.0.1:8080"], "127.0.0.1:8080, evil.example"],
)
def test_other_hosts_are_refused(host):
    assert "Host must be an address" in refused("GET", host)
    assert refused("POST", host, "http://127.0.0.1:8080")


@pytest.mark.parametrize(
    "origin",
    [None, "", "null", "http://evil.example", "http://127.0.0.1", "http://127.0.0.1:80801"]
    + ["http://localhost:8080", "ftp://127.0.0.1:8080", "127.0.0.1:8080", "http://127.0.0.1:8080/"]
    + [["http://127.0.0.1:8080", "http://127.0.0.1:8080"], ["http://127.0.0.1:8080", "null"]],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get"])
def test_what_changes_something_needs_the_origin_that_equals_the_host(method, origin):
    assert "Origin" in refused(method, origin=origin)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_pages_cannot_embed_the_images_but_link_to_the_page(site):
    assert refused("GET", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")
    assert refused("GET", Sec_Fetch_Site=site)
    own = "http://127.0.0.1:8080"
    assert refused("POST", origin=own, Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")
    assert not refused("GET", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")
    assert not refused("GET", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="no-cors")
    assert refused("GET", origin="http://evil.example")


def test_a_change_has_a_threshold_or_a_filter_or_both():
    assert parse_change(b'{"score_threshold": 1}') == {"score_threshold": 1.0}
    assert type(parse_change(b'{"score_threshold": 1}')["score_threshold"]) is float
    both = {"score_threshold": 0.25, "classes": ["cup", "猫"]}
    assert parse_change(json.dumps(both).encode()) == both
    assert parse_change(b'{"classes": []}') == {"classes": [""]}


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"{", b"[]", b"{}", b"null", b"0.5", b'{"weights": "x"}', b'{"": 1}']
    + [b'{"score_threshold": %b}' % v for v in (b"true", b"null", b'"1"', b"[1]", b"NaN", b"1e999")]
    + [b'{"score_threshold": 1%b}' % (b"0" * 400), b'{"score_threshold": -Infinity}']
    + [b'{"classes": %b}' % v for v in (b'"cup"', b"{}", b"[1]", b"[null]", b'[["cup"]]', b"0")]
    + [b'{"classes": ["a\\u0000b"]}', b'{"classes": ["\\ud800"]}', b'{"classes": ["a", 1]}']
    + [b'{"classes": ["%b"]}' % (b"a" * 201), b'{"classes": [%b""]}' % (b'"",' * 1000)]
    + [b'{"score_threshold": 0.5, "autostart": false}', b"[" * 60_000],
)
def test_what_is_no_change_is_refused_with_the_reason(body):
    with pytest.raises(ValueError, match=r"JSON|score_threshold|classes|unknown parameter"):
        parse_change(body)


def test_json_is_ascii_and_has_no_numbers_that_browsers_refuse():
    assert as_json({"name": "猫\ud800"}).isascii()
    with pytest.raises(ValueError, match="JSON compliant"):
        as_json({"rate": float("nan")})
