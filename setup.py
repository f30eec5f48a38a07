# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from setuptools import find_packages, setup

NAME = "ssd_ros"
version: dict[str, str] = {}
exec(Path(NAME, "__init__.py").read_text(), version)
share = f"share/{NAME}"

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
        (f"{share}/launch", [str(path) for path in Path("launch").glob("*.py")]),
        (f"{share}/config", [str(path) for path in Path("config").iterdir()]),
    ],
    install_requires=["setuptools"],  # torch and the rest: requirements.txt, by README's commands
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "detector = ssd_ros.ros.commands:detector",
            "image_source = ssd_ros.ros.commands:image_source",
        ]
    },
)
