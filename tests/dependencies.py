"""Compares the direct dependencies of the workspace with the rows of docs/dependencies.md.

Reads the output of `cargo metadata --format-version 1` on standard input and prints what is wrong.
"""

import json
import re
import sys
from pathlib import Path

DOCUMENT = Path(__file__).parent.parent / "docs" / "dependencies.md"


def direct_dependencies(metadata):
    """Returns the licence of each crate that a member of the workspace names."""
    packages = {package["id"]: package for package in metadata["packages"]}
    members = set(metadata["workspace_members"])
    direct = {}
    for node in metadata["resolve"]["nodes"]:
        if node["id"] in members:
            for dependency in node["deps"]:
                package = packages[dependency["pkg"]]
                if package["id"] not in members:
                    direct[package["name"]] = package["license"]
    return direct


def rows():
    """Returns the licence of each crate in the document; every column of its row has a text."""
    found = {}
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 5 and all(cells):
            found |= dict.fromkeys(re.findall("`([^`]+)`", cells[0]), cells[1])
    return found


def main():
    direct, documented = direct_dependencies(json.load(sys.stdin)), rows()
    problems = [f"{name} has no row" for name in direct.keys() - documented.keys()]
    problems += [f"{name} is no direct dependency" for name in documented.keys() - direct.keys()]
    problems += [
        f"{name} is under {licence}, not {documented[name]}"
        for name, licence in direct.items()
        if documented.get(name, licence) != licence
    ]
    for problem in sorted(problems):
        print(f"docs/dependencies.md: {problem}")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
