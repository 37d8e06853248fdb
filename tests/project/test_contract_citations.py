"""Each section of the contract that code or tests cite exists."""

import re

import pytest

from tests.harness.paths import DOCS, ROOT

CITATION = re.compile(r"docs/reference/(contract(?:-jaws)?\.md) ((?:(?: and |, )?§\d+)+)")
FOLDERS = ("cts_core", "cts_jupyter", "tests", "benchmarks", "deploy")
FILES = [
    file
    for folder in FOLDERS
    for file in (ROOT / folder).rglob("*")
    if file.suffix in {".py", ".sh", ".toml", ".yml", ".js"}
]
CITATIONS = [
    pytest.param(page, number, id=f"{file.relative_to(ROOT)} {number}")
    for file in FILES
    for page, numbers in CITATION.findall(file.read_text())
    for number in re.findall(r"§(\d+)", numbers)
]


@pytest.mark.parametrize(("page", "number"), CITATIONS)
def test_a_cited_section_of_the_contract_is_a_heading_with_a_label(page, number):
    label = "jaws" if "jaws" in page else "facts"
    assert f"\n({label}-{number})=\n## {number}. " in (DOCS / "reference" / page).read_text()


def test_no_citation_names_facts_without_their_page():
    lost = [file for file in FILES if re.search(r"(facts|contract),? §\d", file.read_text())]
    assert lost == []
    assert CITATIONS
