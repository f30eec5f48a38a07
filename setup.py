# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from setuptools import find_packages, setup

NAME = "ssd_ros"
version: dict[str, str] = {}
exec(Path(NAME, "__init__.py").read_text(), version)
share = f"share/{NAME}"


def files(folder: str, pattern: str) -> list[str]:
    """The files of a folder, which colcon needs as relative paths."""
    return sorted(str(path) for path in Path(folder).glob(pattern) if path.is_file())


setup(
    name=NAME,
    version=version["__version__"],
    description="SSD300 object detection for ROS 2 camera topics, and the training of its weights",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[f"{NAME}*"]),
    package_data={NAME: ["weights/*.safetensors", "web/*.html"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (share, ["package.xml"]),
        (f"{share}/launch", files("launch", "*.py")),
        (f"{share}/config", files("config", "*")),
        # What `ros2 run` and launch files start. Not as `scripts` or `entry_points`: setuptools
        # writes the Python that builds into the first line of those, with `colcon build
        # --symlink-install` in any case, and the node would miss the virtual environment.
        (f"lib/{NAME}", files("scripts", "*")),
    ],
    install_requires=["setuptools"],  # torch and the rest: requirements.txt, by README's commands
    extras_require={"test": ["pytest"]},  # by which `colcon test` knows that pytest runs the tests
    zip_safe=False,
)
