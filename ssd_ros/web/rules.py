# SPDX-License-Identifier: Apache-2.0
"""Which requests the web page answers, and what they may change.

The page has no password. What keeps other web sites' pages from using it through the browser of
somebody who may: a site whose name is made to resolve to this machine (DNS rebinding) sends its own
name as Host, and a page of another site sends its own Origin.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

MAX_NAMES = 1000  # classes in a filter
MAX_NAME = 200  # characters of one of them
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


class Headers(Protocol):
    """Headers of a request, each of which can be there several times."""

    def getall(self, name: str, default: Sequence[str], /) -> Sequence[str]: ...


def refusal(method: str, headers: Headers, names: Collection[str]) -> str:
    """Why a request is not answered; empty if it is.

    Args:
        method: GET and HEAD change nothing; all others need an Origin.
        names: host names under which the page may be opened, in lower case, beside addresses.
    """
    hosts, origins = headers.getall("Host", ()), headers.getall("Origin", ())
    if len(hosts) != 1 or not is_own_host(hosts[0], names):
        return f"Host must be an address, {' or '.join(sorted(names))}; see the parameter web_host"
    reading = method in ("GET", "HEAD")
    own = (f"http://{hosts[0]}".lower(), f"https://{hosts[0]}".lower())
    if len(origins) != 1 and not (reading and not origins):
        return "a request that changes something must have one Origin"
    if origins and origins[0].lower() not in own:
        return "Origin must be the host itself: pages of other sites are not answered"
    sites, modes = headers.getall("Sec-Fetch-Site", ()), headers.getall("Sec-Fetch-Mode", ())
    if {"cross-site", "same-site"} & set(sites) and not (reading and list(modes) == ["navigate"]):
        return "pages of other sites are not answered"
    return ""


def is_own_host(host: str, names: Collection[str]) -> bool:
    """Whether a Host is an address, which no site can take as its name, or one of the names."""
    parsed = _HOST.fullmatch(host)
    if parsed is None:
        return False
    name = parsed[1].lower()
    if name in names:
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def parse_change(body: bytes) -> dict[str, float | list[str]]:
    """The parameters in a request, of which the page changes two; their types are right.

    Whether the values are allowed is the node's to say.

    Args:
        body: JSON object with `score_threshold`, a number, and `classes`, a list of names, or one
            of them.

    Raises:
        ValueError: it is not.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the body is not JSON: {error}") from None
    if not isinstance(content, dict) or not content:
        raise ValueError("the body must be a JSON object with score_threshold, classes or both")
    return {name: _value(name, value) for name, value in content.items()}


def _value(name: str, value: Any) -> float | list[str]:
    if name == "score_threshold":
        if type(value) not in (int, float) or not abs(value) <= 1e6:  # nor NaN
            raise ValueError("score_threshold must be a number")
        return float(value)
    if name == "classes":
        if not isinstance(value, list) or len(value) > MAX_NAMES:
            raise ValueError(f"classes must be a list of at most {MAX_NAMES} names")
        if not all(isinstance(one, str) and _is_text(one) for one in value):
            raise ValueError(f"classes must be names of at most {MAX_NAME} characters")
        return value or [""]  # what ROS takes for no filter
    raise ValueError(f"unknown parameter '{name[:40]}', expected score_threshold or classes")


def _is_text(name: str) -> bool:
    """Whether a ROS string can hold a name."""
    unpaired = any("\ud800" <= letter <= "\udfff" for letter in name)
    return len(name) <= MAX_NAME and not unpaired and "\0" not in name


def allowed_names(host: str) -> frozenset[str]:
    """Host names under which a page that listens on a host may be opened."""
    return frozenset({"localhost", host.lower()})


def as_json(content: Mapping[str, Any]) -> bytes:
    """JSON in ASCII; numbers in it must be finite."""
    return json.dumps(content, allow_nan=False).encode("ascii")
