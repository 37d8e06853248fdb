"""Folders of this checkout that tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
VECTORS = ROOT / "tests" / "vectors"
"""What the deployed service answers and stores."""
