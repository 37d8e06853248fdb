"""Assembly statistics of FASTA files: contigs, total length, longest contig, N50 and GC content.

Usage: ``python -m cts_jupyter.examples.fasta_stats OUTPUT.tsv GENOME.fna[.gz]...``

Writes one line per genome. Standard library only. Exits with 2 and a message on stderr when a file holds no
sequence or is not FASTA.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import sys
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

NOT_FASTA = 2


class FastaError(ValueError):
    """The file is not FASTA; the message names it."""


@dataclass(frozen=True)
class AssemblyStats:
    """The statistics of one genome. Lengths in bases."""

    genome: str
    contigs: int
    total_length: int
    longest: int
    n50: int
    gc_percent: float


@dataclass(frozen=True)
class Contig:
    """A contig: its length, and its numbers of bases that are G or C, and A, C, G or T."""

    length: int
    gc: int
    known: int


def read_contigs(path: Path) -> Iterator[Contig]:
    """Yield the contigs of a FASTA file, plain or gzipped. Raises FastaError."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        counts: list[int] | None = None
        for line in lines:
            text = line.strip().upper()
            if text.startswith(">"):
                if counts:
                    yield Contig(*counts)
                counts = [0, 0, 0]
            elif counts is not None:
                gc = text.count("G") + text.count("C")
                counts[0] += len(text)
                counts[1] += gc
                counts[2] += gc + text.count("A") + text.count("T")
            elif text:
                raise FastaError(f"{path.name} is no FASTA file: it does not begin with '>'")
        if counts:
            yield Contig(*counts)


def n50(lengths: Sequence[int]) -> int:
    """Return the N50: the largest length such that contigs at least that long hold half of all bases.

    Zero without contigs. As in Lander et al. 2001, doi:10.1038/35057062.
    """
    total, reached = sum(lengths), 0
    for length in sorted(lengths, reverse=True):
        reached += length
        if 2 * reached >= total:
            return length
    return 0


def measure(path: Path) -> AssemblyStats:
    """Return the statistics of one genome. Raises FastaError when it holds no sequence."""
    contigs = list(read_contigs(path))
    lengths = [contig.length for contig in contigs]
    known = sum(contig.known for contig in contigs)
    if not known:
        raise FastaError(f"{path.name} holds no sequence")
    return AssemblyStats(
        genome=path.name,
        contigs=len(contigs),
        total_length=sum(lengths),
        longest=max(lengths),
        n50=n50(lengths),
        gc_percent=round(100 * sum(contig.gc for contig in contigs) / known, 2),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the given genomes; return the exit code."""
    parser = argparse.ArgumentParser(prog="fasta_stats", description="Statistics of assemblies")
    parser.add_argument("output", type=Path, help="the TSV file to write")
    parser.add_argument("genomes", type=Path, nargs="+", metavar="genome")
    options = parser.parse_args(argv)
    try:
        rows = [measure(path) for path in options.genomes]
    except FastaError as e:
        sys.stderr.write(f"{e}\n")
        return NOT_FASTA
    with options.output.open("w", newline="") as out:
        writer = csv.writer(out, delimiter="\t", lineterminator="\n")
        writer.writerow([field.name for field in fields(AssemblyStats)])
        writer.writerows(astuple(row) for row in rows)
    sys.stdout.write(f"Genomes measured into {options.output.name}: {len(rows)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
