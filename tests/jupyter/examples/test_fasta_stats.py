"""The example tool."""

from __future__ import annotations

import csv
import gzip

import pytest

from cts_jupyter.examples.fasta_stats import NOT_FASTA, main, n50
from tests.harness.paths import ROOT

DATA = ROOT / "notebooks" / "data"


@pytest.mark.parametrize(
    ("lengths", "result"),
    [([1], 1), ([2, 2, 2, 3, 3, 4, 8, 8], 8), ([5, 5, 10], 10), ([4, 3, 3], 3), ([], 0)],
)
def test_n50(lengths, result):
    assert n50(lengths) == result


def test_statistics(tmp_path, capsys):
    plain, packed = tmp_path / "a.fna", tmp_path / "b.fna.gz"
    plain.write_text(">one\nACGT\nacgt\n\n>two\nGGNN\n")
    packed.write_bytes(gzip.compress(b">x\nAT\n"))
    assert main([str(tmp_path / "out.tsv"), str(plain), str(packed)]) == 0
    written = (tmp_path / "out.tsv").read_text().splitlines()
    rows = list(csv.DictReader(written, delimiter="\t"))
    assert rows == [
        {
            "genome": "a.fna",
            "contigs": "2",
            "total_length": "12",
            "longest": "8",
            "n50": "8",
            "gc_percent": "60.0",
        },
        {
            "genome": "b.fna.gz",
            "contigs": "1",
            "total_length": "2",
            "longest": "2",
            "n50": "2",
            "gc_percent": "0.0",
        },
    ]
    assert "out.tsv: 2" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "ACGT\n", ">only a name\n", ">x\nNNN\n"])
def test_file_that_is_not_fasta_is_refused(tmp_path, capsys, content):
    (tmp_path / "bad.fna").write_text(content)
    assert main([str(tmp_path / "out.tsv"), str(tmp_path / "bad.fna")]) == NOT_FASTA
    assert "bad.fna" in capsys.readouterr().err
    assert not (tmp_path / "out.tsv").exists()


def test_the_sample_genomes_are_measured(tmp_path):
    genomes = sorted(DATA.glob("*.fna"))
    assert len(genomes) == 6
    assert main([str(tmp_path / "out.tsv"), *map(str, genomes)]) == 0
