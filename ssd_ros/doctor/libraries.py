# SPDX-License-Identifier: Apache-2.0
"""NumPy, OpenCV, and what converts rare encodings: whether they load and fit each other."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata

from ssd_ros.doctor.finding import FAIL, OK, WARN, Finding
from ssd_ros.doctor.importing import try_import

REQUIRED = ("numpy", "cv2", "PIL")  # without these nothing works
# Each as a module that fails to load where it does not fit NumPy.
CONVERTERS = {"rosbags-image": "rosbags.image", "cv_bridge": "cv_bridge.boost.cv_bridge_boost"}
_PACKAGES = {"cv2": "opencv-python-headless", "PIL": "pillow"}
_OPENCV = (
    *("opencv-python", "opencv-python-headless"),
    *("opencv-contrib-python", "opencv-contrib-python-headless"),
)


@dataclass(frozen=True)
class LibraryFacts:
    """Libraries by name.

    Attributes:
        versions: of the required modules that load.
        errors: why the others do not.
        opencv: the packages of PyPI that bring an OpenCV.
        converters: why each of CONVERTERS does not load; empty for one that does, None for one that
            is not installed.
    """

    versions: Mapping[str, str]
    errors: Mapping[str, str]
    opencv: Sequence[str]
    converters: Mapping[str, str | None]


def probe() -> LibraryFacts:
    """Imports each library in a process of its own: one of another NumPy can crash."""
    modules = [*REQUIRED, *filter(_has_module, CONVERTERS.values())]
    with ThreadPoolExecutor() as pool:
        tried = dict(zip(modules, pool.map(try_import, modules), strict=True))
    results = {name: tried[name] for name in REQUIRED}
    return LibraryFacts(
        {name: text for name, (loaded, text) in results.items() if loaded},
        {name: text for name, (loaded, text) in results.items() if not loaded},
        [package for package in _OPENCV if _is_installed(package)],
        {
            name: _error(*tried[module]) if module in tried else None
            for name, module in CONVERTERS.items()
        },
    )


def judge(facts: LibraryFacts) -> list[Finding]:
    """Findings about libraries."""
    findings = [Finding(OK, f"{name} {version}") for name, version in facts.versions.items()]
    for name, error in facts.errors.items():
        package = _PACKAGES.get(name, name)
        fix = f"pip install {package}"
        if "numpy" in error.lower() and name != "numpy":
            fix = f"it was built for another NumPy: pip install --upgrade {package}"
        findings.append(Finding(FAIL, f"{name} does not load: {error}", fix))
    if len(facts.opencv) > 1:
        findings.append(
            Finding(
                WARN,
                f"{' and '.join(facts.opencv)} are installed: they overwrite each other's files",
                f"pip uninstall {' '.join(facts.opencv)}; pip install {facts.opencv[-1]}",
            )
        )
    return [*findings, _judge_converters(facts)]


def _judge_converters(facts: LibraryFacts) -> Finding:
    working = [name for name, error in facts.converters.items() if error == ""]
    rare = "16-bit colour, Bayer and packed YUV images"
    broken = "; ".join(f"{name}: {error}" for name, error in facts.converters.items() if error)
    unused = f" ({broken}: it is not needed)" if broken else ""
    if working:
        return Finding(OK, f"{rare} are converted by {working[0]}{unused}")
    reason = broken or "neither rosbags-image nor cv_bridge is installed"
    return Finding(WARN, f"{rare} cannot be converted: {reason}", "pip install rosbags-image")


def _error(loaded: bool, text: str) -> str:
    return "" if loaded else text


def _has_module(module: str) -> bool:
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None and (
            module.startswith("cv_bridge") or importlib.util.find_spec(module) is not None
        )
    except (ImportError, ValueError):
        return False


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
