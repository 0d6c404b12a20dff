"""What lies around the code says nothing that is not there."""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]


def test_every_page_is_in_the_index() -> None:
    named = set(re.findall(r"\]\(([a-z]+\.md)\)", (ROOT / "docs" / "README.md").read_text()))
    assert named == {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_the_groups_that_contributors_install_exist() -> None:
    named = re.findall(r"--group (\w+)", (ROOT / "CONTRIBUTING.md").read_text())
    assert named and set(named) <= set(GROUPS)


def test_modules_that_pages_run_exist() -> None:
    pages = [ROOT / "CONTRIBUTING.md", ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "tox.ini"]
    for module in {name for page in pages for name in re.findall(r"python -m (tests[.\w]+)", page.read_text())}:
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module


def test_a_forge_and_a_commit_call_what_is_here() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert (ROOT / re.findall(r"- run: (\S+)", workflow)[0]).stat().st_mode & 0o111
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    tools = {entry.split()[0] for entry in re.findall(r"entry: (.+)", hooks)}
    lines = " ".join(GROUPS["lint"])
    assert tools - {"python"} == {"ruff", "mypy"} and all(tool in lines for tool in tools - {"python"})


def test_what_the_container_copies_is_let_in() -> None:
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Containerfile").read_text(), re.M)
    let_in = [line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")]
    for name in " ".join(copied).split():
        assert (ROOT / name).exists() and any(Path(name).match(pattern) for pattern in let_in), name


def test_no_path_of_a_machine_and_no_host_of_a_workplace_is_named() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in files:
        if not name.startswith(("stack/", "tests/", "proto/", "interop/")) and (ROOT / name).suffix != ".svg":
            text = (ROOT / name).read_text()
            assert not re.search(r"/(root|work)/|index-url|registry\.\w+\.\w+", text), name
