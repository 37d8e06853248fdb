"""Folders and files of this checkout that tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
VECTORS = ROOT / "tests" / "vectors"
"""What the deployed service answers and stores."""
PROGRAMS = ROOT / "tests" / "harness" / "programs"
"""The programs that tests run: in containers, and as server processes of their own."""
APPEND_RUN = PROGRAMS / "append_run.py"
ASSEMBLY_STATS = PROGRAMS / "assembly_stats.sh"
COPY_INPUTS = PROGRAMS / "copy_inputs.py"
FAIL_SOME = PROGRAMS / "fail_some.sh"
RECORD_CALL = PROGRAMS / "record_call.py"
SLEEP_THEN_WRITE = PROGRAMS / "sleep_then_write.sh"
WRITE_ARGUMENTS = PROGRAMS / "write_arguments.sh"
WRITE_LINES = PROGRAMS / "write_lines.sh"
