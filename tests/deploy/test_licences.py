"""No package of the extras that a node installs is under the GPL, and NOTICE names those under the LGPL."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

from tests.paths import ROOT

EXTRAS = ("node", "worker-cpu")
"""What a hospital installs; torch and the tools are no part of it."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOTICE = (ROOT / "NOTICE").read_text()


def licence_of(package: Distribution) -> str:
    """Everything that a package's metadata state about its licence."""
    fields = [package.metadata.get("License-Expression"), (package.metadata.get("License") or "")[:200]]
    classifiers = package.metadata.get_all("Classifier") or []
    return "; ".join([*(field for field in fields if field), *(line for line in classifiers if "License" in line)])


def installed() -> Iterator[Distribution]:
    """Every package that the extras need, directly or through another."""
    listed = [*PROJECT["dependencies"], *(line for extra in EXTRAS for line in PROJECT["optional-dependencies"][extra])]
    open_, seen = [(Requirement(line), "") for line in listed], set[str]()
    while open_:
        requirement, extra = open_.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            package = distribution(requirement.name)
        except PackageNotFoundError:
            continue  # for another platform
        name = package.metadata["Name"]
        if name not in seen:
            seen.add(name)
            yield package
        for line in package.requires or ():
            for wanted in ("", *requirement.extras):
                nested = Requirement(line)
                if nested.name not in seen and (nested.marker is None or nested.marker.evaluate({"extra": wanted})):
                    open_.append((nested, wanted))


def test_no_package_of_a_node_is_under_the_gpl() -> None:
    """LGPL is passed on with a notice; GPL would bind whoever passes an image on."""
    packages = list(installed())
    assert len(packages) > 40
    gpl = re.compile(r"(?<!L)(?<!Lesser )(GPL|General Public License)", re.IGNORECASE)
    bound = {package.metadata["Name"]: licence_of(package) for package in packages if gpl.search(licence_of(package))}
    assert bound == {}


def test_each_package_states_its_licence() -> None:
    """One that states none could be anything."""
    assert [package.metadata["Name"] for package in installed() if not licence_of(package)] == []


def test_notice_names_what_is_under_the_lgpl() -> None:
    """Each by its name."""
    lesser = re.compile(r"LGPL|Lesser General Public", re.IGNORECASE)
    for package in installed():
        if lesser.search(licence_of(package)):
            assert package.metadata["Name"].lower() in NOTICE.lower(), package.metadata["Name"]
