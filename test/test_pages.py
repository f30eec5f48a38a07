# SPDX-License-Identifier: Apache-2.0
"""README and docs/: their commands run as they stand, and their links lead somewhere."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]

# Lines of `sh` blocks, and whole `python` blocks, that are not run here: a pattern, and why.
EXCEPTED = {
    r"^make \w+": "takes minutes; the workflow runs setup, test and lint",
    r"^sudo |^rosdep ": "changes the system, and needs apt",
    r"/opt/ros/|/install/setup\.bash": "needs ROS 2 from apt",
    r"\bros2 |^colcon |^from launch": "not on PyPI; test_launch.py starts the launch files",
    r"^python3 -m venv |venv/bin/activate": "takes seconds, for an environment that stays empty",
    r"^git clone |^pip install ": "needs a network",
    r"^docker |^ssh ": "needs Docker, or another machine",
    r"^trtexec |^hailo ": "needs another vendor's tools",
    r"ssd_ros\.(detect photos/ --draw out/|doctor)$": "downloads weights, or judges this machine",
    r"training\.train ": "takes minutes; test/training/test_train.py trains",
    r"training\.slim |runs/slim": "takes minutes; test/training/test_slim.py prunes and tunes",
    r"training\.compose ": "composes 4,500 images",
    r"demo\.dataset |--data (BCCD|set)\b": "needs a dataset of thousands of images",
}
STRICT = """set -eEo pipefail; trap 'echo "failed: $BASH_COMMAND" >&2' ERR"""
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^ *```.*?^ *```$|`[^`]*`", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A logical line of an `sh` block, or a `python` block.

    Attributes:
        language: sh or python.
        text: without the indentation of a list, and without the comment at its end.
    """

    language: str
    text: str

    @property
    def reason(self) -> str:
        """Why it is not run here; empty if it is."""
        found = [why for pattern, why in EXCEPTED.items() if re.search(pattern, self.text)]
        return found[0] if found else ""


def blocks(page: Path) -> Iterator[list[Command]]:
    """The commands of every block in `sh` or `python`."""
    for match in BLOCK.finditer(page.read_text()):
        text = textwrap.dedent(match[3])
        if match[2] == "python":
            yield [Command("python", text)]
        elif match[2] == "sh":
            lines = text.replace("\\\n", " ").splitlines()
            bare = [re.sub(r"(^|\s+)#\s.*", "", line).strip() for line in lines]
            yield [Command("sh", line) for line in bare if line]


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives to the headings of a page, and those that it sets itself."""
    text = page.read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return {*plain, *re.findall(r'<a id="([^"]+)"', text)}


def own_names() -> set[str]:
    """Files and folders of the repository's own folder, without those that a user has put there."""
    command = ["git", "-C", str(ROOT), "ls-files"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return {line.split("/")[0] for line in listed.splitlines()} or set(os.listdir(ROOT))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A checkpoint of torchvision's SSD300 with three classes."""
    torch = pytest.importorskip("torch", reason="needs requirements-training.txt")
    from made_weights import torchvision_state_dict

    file = tmp_path_factory.mktemp("weights") / "theirs.pth"
    torch.save(torchvision_state_dict(4), file)
    return file


@pytest.fixture
def clone(tmp_path, theirs):
    """A clean copy of the repository with the files that the pages speak of."""
    own, caches = own_names(), shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")

    def ignored(folder, names):
        others = set(names) - own if Path(folder) == ROOT else set()
        return others | caches(folder, names)

    folder = tmp_path / "ssd_ros"
    shutil.copytree(ROOT, folder, ignore=ignored, symlinks=True)
    setup = folder / ".venv" / "setup.sh"
    setup.parent.mkdir()
    setup.write_text("")  # `make setup` writes it; the environment of the tests is active already
    old = ROOT / "test" / "data" / "old_run"
    for name in ("EXPORT", "my_objects", "voc"):
        shutil.copytree(old / "voc", folder / name)
    shutil.copytree(old / "run", folder / "runs" / "mine")
    shutil.copytree(old / "voc" / "JPEGImages", folder / "photos")
    for name in ("theirs.pth", "old.pth"):
        os.link(theirs, folder / name)
    return folder


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    paths = (str(folder), os.environ.get("PYTHONPATH"))
    environment = os.environ | {
        "HOME": str(folder.parent),
        "OMP_NUM_THREADS": "1",  # in small networks threads only wait for each other
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def to_run() -> dict[Path, list[list[Command]]]:
    """The blocks of each page without what is excepted; a command of several pages runs once."""
    seen: set[str] = set()
    chosen: dict[Path, list[list[Command]]] = {}
    for page in PAGES:
        for block in blocks(page):
            new = [c for c in block if not c.reason and c.text not in seen]
            seen |= {c.text for c in new if c.text.startswith("python -m ")}
            if new:
                chosen.setdefault(page, []).append(new)
    return chosen


@pytest.mark.training
@pytest.mark.parametrize(("page", "chosen"), to_run().items(), ids=lambda p: getattr(p, "name", ""))
def test_the_commands_of_a_page_run_as_they_stand(page, chosen, clone):
    if "voc import EXPORT my_objects" in page.read_text():
        shutil.rmtree(clone / "my_objects")
    for block in chosen:
        texts = [command.text for command in block]
        if block[0].language == "python":
            ended = run([sys.executable, "-c", *texts], clone)
        else:
            ended = run(["bash", "-c", "\n".join([STRICT, *texts])], clone)
        assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]


def test_every_exception_is_needed():
    texts = [command.text for page in PAGES for block in blocks(page) for command in block]
    needless = [
        pattern for pattern in EXCEPTED if not any(re.search(pattern, text) for text in texts)
    ]
    assert not needless


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_links_of_a_page_lead_to_files_and_headings(page):
    broken = []
    for link in LINK.findall(CODE.sub("", page.read_text())):
        path, _, fragment = link.partition("#")
        if ":" in path:  # on the web
            continue
        target = page.parent / path if path else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    assert not broken


def test_the_readme_can_be_read_in_one_go():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
