"""What ``%cts`` refuses: a sentence in plain words, and the line that it leads to, which works."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from cts_jupyter.client.api import files
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.models import WhoAmI

ASKED = "--memory 50MB --runtime 1m"
CELL = "image: host/tool\ninput_files: [{inputs}a.txt]\noutput_dir: {place}o/\nmemory: 50MB\n"


@dataclass(frozen=True)
class Refusal:
    """A line that is refused, what the sentence has in it, and a line that works."""

    line: str
    said: str
    remedy: str


CHECK = "%cts check host/tool -i {inputs} --output-dir {place}o/ {asked}"
REFUSALS = [
    # Words that are almost the right ones.
    Refusal("%cts fils {place}", "no command 'fils': did you mean files", "%cts files {place}"),
    Refusal("%cts help chekc", "no command 'chekc': did you mean check", "%cts help check"),
    Refusal("%cts help zzz", "no command 'zzz': there are submit, check,", "%cts help submit"),
    # Words of other tools.
    Refusal("%cts rerun -", "no command 'rerun': did you mean resubmit?", "%cts help resubmit"),
    Refusal("%cts retry -", "no command 'retry': did you mean resubmit?", "%cts help resubmit"),
    Refusal("%cts jobs", "no command 'jobs': did you mean ls?", "%cts ls"),
    Refusal("%cts download -", "no command 'download': did you mean get?", "%cts help get"),
    Refusal("%cts explain -", "no command 'explain': did you mean why?", "%cts help why"),
    Refusal("%cts help explain", "no command 'explain': did you mean why?", "%cts help why"),
    Refusal("%cts ls --failed", "%cts ls has no option --failed: did you mean --state failed?", "%cts ls --state failed"),
    Refusal("%cts ls --live", "did you mean --state live?", "%cts ls --state live"),
    Refusal("%cts ls --sicne 7d", "%cts ls has no option --sicne: did you mean --since", "%cts ls --since 7d"),
    Refusal("%cts ls a b", "%cts ls has no use for b: see %cts help ls", "%cts help ls"),
    Refusal("%cts ls --state faild", "no state 'faild': did you mean failed?", "%cts ls --state failed"),
    Refusal("%cts ls --state zzz", "no state 'zzz': there are done, failed, cancelled, ended, live, created,", "%cts ls --state created"),
    Refusal("%cts ls --state done,finished", "no state 'finished': there are done, failed,", "%cts ls --state done,live"),
    Refusal("%cts ls --sort craeted", "no choice 'craeted': did you mean created?", "%cts ls --sort created"),
    Refusal("{check} --cluster locla", "There is no --cluster 'locla': did you mean local?", "{check} --cluster local"),
    Refusal("{check} -- <flies>", "no placeholder '<flies>': did you mean <files>", "{check} -- <files>"),
    Refusal(
        "%%cts check\n{cell}runtme: 1m", "There is no key 'runtme': did you mean runtime?",
        "%%cts check\n{cell}runtime: 1m",
    ),
    Refusal(
        "%%cts check\n{cell}runtime: 1m\nlables: {{}}", "There is no field lables: did you mean labels?",
        "%%cts check\n{cell}runtime: 1m\nlabels: {{}}",
    ),
    Refusal(
        "%%cts check\n{cell}runtime: 1m\nzork: 1", "There is no field zork", "%%cts check\n{cell}runtime: 1m",
    ),
    Refusal(
        "%cts check host/tool --tsv ids.tsv --output-dir {place}o/ {asked}",
        "ids.tsv: There is no column 'dataid': did you mean data_id?",
        "%cts check host/tool --tsv good.tsv --output-dir {place}o/ {asked}",
    ),
    # Numbers.
    Refusal("{check} --memory 40", "--memory: 40 is given, and it may be at least 1 MB", "{check} --memory 40MB"),
    Refusal("{check} --memory 40", "write 40GB or 40MB", "{check} --memory 41MB"),
    Refusal("{check} --memory 40 MB", "write 40MB, without the space", "{check} --memory 40MB"),
    Refusal("{check} --memory 40XB", "as in 500MB, 40GB or 1.5GiB", "{check} --memory 1.5GiB"),
    Refusal("{check} -n 2000", "-n: 2000 is given, and it may be at most 1,000", "{check} -n 3"),
    Refusal("{check} -n 9", "-n must be less than or equal to the number of input files", "{check} -n 3"),
    Refusal("{check} -c 5000", "-c: 5000 is given, and it may be at most 256", "{check} -c 1"),
    Refusal(
        "%%cts check\n{cell}runtime: 1m\ncpus: 5000", "cpus: 5000 is given, and it may be at most 256",
        "%%cts check\n{cell}runtime: 1m\ncpus: 1",
    ),
    Refusal("{check} --runtime 1", "--runtime: 1 has no unit: write 1h, 1m or 1s", "{check} --runtime 1m"),
    Refusal("%%cts check\n{cell}runtime: 60", "runtime: 60 has no unit: write 60h, 60m or 60s", "%%cts check\n{cell}runtime: 60s"),
    Refusal("%cts ls --since tomorrow", "is no time: write 90s, 2d, '3 weeks', today, yesterday", "%cts ls --since yesterday"),
    Refusal("%cts ls --since 20.11.2026", "is no time: write 90s", "%cts ls --since 1w --until 2026-11-20"),
    Refusal("%cts ls --since 90", "is no time", "%cts ls --since 90s"),
    Refusal("%cts ls --since 2026-11-31", "is no time: day is out of range", "%cts ls --since 2026-11-20T14:30"),
    # Arguments.
    Refusal("{check} ok o.txt <files>", "the program's own arguments go after --. Write: {check} -- ok o.txt <files>", "{check} -- ok o.txt <files>"),
    Refusal("{check} --threads 4", "arguments go after --. Write: {check} -- --threads 4", "{check} -- --threads 4"),
    # Paths in the place of -i and -g.
    Refusal(
        "%cts check host/tool {inputs}*.txt -n 2 --output-dir {place}o/ {asked} -- /output_files/s_<n>.tsv <files>",
        "no use for {inputs}*.txt: input files go after -i, patterns after -g. Write: %cts check host/tool -n 2 --output-dir {place}o/ {asked} "
        "-g '{inputs}*.txt' -- /output_files/s_<n>.tsv <files>",
        "%cts check host/tool -n 2 --output-dir {place}o/ {asked} -g '{inputs}*.txt' -- /output_files/s_<n>.tsv <files>",
    ),
    Refusal(
        "%cts check host/tool {inputs}b.txt {inputs}a.txt --output-dir {place}o/ {asked} -- ok",
        "Write: %cts check host/tool --output-dir {place}o/ {asked} -i {inputs}b.txt {inputs}a.txt -- ok",
        "%cts check host/tool --output-dir {place}o/ {asked} -i {inputs}b.txt {inputs}a.txt -- ok",
    ),
    Refusal("{check} {inputs} -- ok", "the program's own arguments go after --. Write: {check} -- {inputs} ok", "{check} -- {inputs} ok"),
    Refusal("%cts check host/tool -i {inputs} ok --output-dir {place}o/ {asked}", "-i: 'ok' is no path such as", "{check} -- ok"),
    # Tables.
    Refusal(
        "%cts check host/tool --tsv header.tsv --output-dir {place}o/ {asked}",
        "Line 1 of header.tsv has no path such as bucket/folder/a.fna in its column file, but 'genome'. The first line of a --tsv",
        "%cts check host/tool --tsv good.tsv --output-dir {place}o/ {asked}",
    ),
    # What is on this machine, and not in the object store.
    Refusal(
        "%cts check host/tool -i a.txt --output-dir {place}o/ {asked}",
        "a.txt is on this machine, and not in the object store", "%cts put a.txt {place}local/",
    ),
    Refusal(
        "%cts check host/tool -i {here}/ --output-dir {place}o/ {asked}",
        "To store it there: %cts put {here}/ BUCKET/FOLDER/", "%cts put {here}/ {place}local/",
    ),
    Refusal(
        "%cts check host/tool -g *.txt --output-dir {place}o/ {asked} -i local/folder/",
        "it is on this machine: %cts put local/folder/ BUCKET/FOLDER/ stores it", "%cts put local/folder/ {place}local/",
    ),
    Refusal(
        "%cts check host/tool -g local/folder/*.txt --output-dir {place}o/ {asked}",
        "To store it there: %cts put 'local/folder/*.txt' BUCKET/FOLDER/", "%cts put 'local/folder/*.txt' {place}local/",
    ),
    Refusal(
        "%cts check host/tool -i local/folder/x.txt --output-dir {place}o/ {asked}",
        "it is on this machine: %cts put local/folder/x.txt BUCKET/FOLDER/ stores it", "%cts put local/folder/x.txt {place}local/",
    ),
    # Patterns in the place of paths.
    Refusal(
        "%cts check host/tool -i {inputs}*.txt --output-dir {place}o/ {asked}",
        "patterns go with -g: -g '{inputs}*.txt' for the inputs of a job, else", "%cts check host/tool -g '{inputs}*.txt' --output-dir {place}o/ {asked}",
    ),
    Refusal(
        "%cts check host/tool -i {inputs}*.txt -n 20 --output-dir {place}o/ {asked}",
        "-i: there is no file {inputs}*.txt; patterns go with -g: -g '{inputs}*.txt' for", "%cts check host/tool -g '{inputs}*.txt' --output-dir {place}o/ {asked}",
    ),
    Refusal(
        "%cts check host/tool -i {inputs}*.fna -n 20 --output-dir {place}o/ {asked}",
        "patterns go with -g: -g '{inputs}*.fna'", "%cts check host/tool -g '{inputs}*.txt' --output-dir {place}o/ {asked}",
    ),
    Refusal(
        "%cts check host/tool -i local/folder/*.txt -n 20 --output-dir {place}o/ {asked}",
        "it is on this machine: %cts put 'local/folder/*.txt' BUCKET/FOLDER/ stores it", "%cts put 'local/folder/*.txt' {place}local/",
    ),
    Refusal("%cts get {inputs}*.txt got/", "%cts files {inputs} -g '*.txt' -o found, and then $found", "%cts files {inputs} -g '*.txt' -o found"),
    Refusal("%cts checksum {place}*/a.txt", "%cts files {place} -g '{place}*/a.txt' -o found", "%cts files {place} -g '{place}*/a.txt'"),
    Refusal("%cts verify {inputs}[ab].txt", "There is no file {inputs}[ab].txt: patterns go with -g", "%cts files {inputs} -g '[ab].txt'"),
    # Names of variables.
    Refusal("%cts why hj", "hj is a variable of this notebook: write $hj for its value", "%cts ls"),
    Refusal("%cts check host/tool -i hj --output-dir {place}o/ {asked}", "-i: hj is a variable", "{check}"),
    # Paths of the object store.
    Refusal("%cts get {bare} got/", "there is a folder of this name: {inputs} stands for", "%cts get {inputs} got/"),
    Refusal("%cts verify {bare}", "there is a folder of this name: {inputs} stands for", "%cts verify {inputs}"),
    Refusal("%cts checksum {bare}", "there is a folder of this name: {inputs} stands for", "%cts checksum {inputs}"),
    Refusal(
        "%cts check host/tool -i {bare} --output-dir {place}o/ {asked}",
        "there is a folder of this name: {inputs} stands for", "{check}",
    ),
    Refusal("%cts get {inputs}none got/", "%cts files FOLDER/ lists what is there", "%cts files {inputs}"),
    Refusal("%cts files data", "a folder or bucket ends in '/'", "%cts files data/"),
    Refusal("{check} -g *.{{txt,fa}}", "write {{{{txt,fa}}}} where the braces", "{check} -g *.{{{{txt,fa}}}}"),
    # Paths of this machine.
    Refusal("%cts put none.txt {place}", "no local file none.txt: looked for {here}/none.txt", "%cts put {here}/a.txt {place}"),
    Refusal("%cts put ~nobodyy/x {place}", "~nobodyy, the home of a user that", "%cts put {here}/a.txt {place}"),
    Refusal("%cts get {inputs} ~nobodyy/x", "write the folder's whole path", "%cts get {inputs} {here}/got/"),
    Refusal("%cts put f**.txt {place}", "no local file f**.txt: looked for {here}/f**.txt", "%cts put **.txt {place}"),
    Refusal("%cts put *.{{txt,fa}} {place}", "as in the pattern *.{{{{fna,fa}}}}", "%cts put *.{{{{txt,fa}}}} {place}"),
    Refusal("%cts put a\0 {place}", "'a\\x00' has a NUL character in it", "%cts put a.txt {place}"),
    Refusal("%cts get {inputs} a\0/", "which no file's name can have", "%cts get {inputs} got/"),
    Refusal(
        "%cts check host/tool --tsv none.tsv --output-dir {place}o/ {asked}", "looked for {here}/none.tsv",
        "%cts check host/tool --tsv {here}/good.tsv --output-dir {place}o/ {asked}",
    ),
    # Images.
    Refusal(
        "%cts check tool -i {inputs} --output-dir {place}o/ {asked}", "Did you mean host/tool", "{check}",
    ),
    # Names that are nearly those of what is stored.
    Refusal("%cts get {typo}in/a.txt got/", "did you mean {inputs}a.txt?", "%cts get {inputs}a.txt got/"),
    Refusal("%cts files dat/x/", "did you mean data/x/?", "%cts files data/"),
    Refusal("%cts get {inputs}a.tx got/", "did you mean {inputs}a.txt?", "%cts get {inputs}a.txt got/"),
    Refusal(
        "%cts check host/tool -i {typo}in/ --output-dir {place}o/ {asked}", "did you mean {inputs}?", "{check}",
    ),
    # The output folder.
    Refusal("%cts check host/tool -i {inputs} {asked}", "as in --output-dir demo/results/", "{check}"),
    # What is on this machine alone.
    Refusal("%cts checksum a.txt", "it is on this machine: %cts put a.txt BUCKET/FOLDER/", "%cts put a.txt {place}"),
    Refusal("%cts put a.txt S3_Bucket/x/", "argument DIR: Bucket name may only", "%cts put a.txt {place}"),
    Refusal("{check} --output-dir /results/", "a path begins with a bucket's name: %cts files", "%cts files"),
    Refusal("%cts verify a.txt", "a.txt is on this machine, and verify reads what is stored", "%cts get {inputs} ."),
    Refusal("%cts verify {inputs}none", "there is no such file", "%cts verify {inputs}"),
    Refusal(
        "%cts check host/zzz -i {inputs} --output-dir {place}o/ {asked}",
        "To register this one: %cts images --register host/zzz --executable PATH",
        "%cts images --register host/zzz --executable /bin/true",
    ),
    Refusal(
        "%cts images --register host/gc --module gc.py",
        "gc.py is the name of a file, which is registered as it is: %cts images --register host/gc gc.py",
        "%cts images --register host/gc gc.py",
    ),
    Refusal(
        "%cts images --register host/gc2 --module {here}/gc.py",
        "{here}/gc.py is the name of a file, which is registered as it is: %cts images --register host/gc2 {here}/gc.py",
        "%cts images --register host/gc2 {here}/gc.py",
    ),
]  # fmt: skip


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.line)
def test_refusal_says_what_to_do_and_that_works(shell, inputs, place, tmp_path, refusal):
    (tmp_path / "ids.tsv").write_text(f"file\tdataid\n{inputs}a.txt\t1\n")
    (tmp_path / "header.tsv").write_text(f"genome\tsample\n{inputs}a.txt\t1\n")
    (tmp_path / "local" / "folder").mkdir(parents=True)
    (tmp_path / "local" / "folder" / "x.txt").write_text("x")
    (tmp_path / "gc.py").write_text("print()")
    shell.names["hj"] = "a job"
    (tmp_path / "good.tsv").write_text(f"file\tdata_id\n{inputs}a.txt\t1\n")
    names = {"inputs": inputs, "bare": inputs.rstrip("/"), "place": place, "typo": place.replace("refusal", "refusla"), "asked": ASKED, "here": tmp_path}  # fmt: skip
    names |= {"check": CHECK.format(**names), "cell": CELL.format(**names)}
    line, said, remedy = (
        text.format(**names) for text in (refusal.line, refusal.said, refusal.remedy)
    )
    sentence = shell.refusal(line)
    assert said in sentence
    assert "\n" not in sentence
    shell(remedy)


@pytest.mark.parametrize(
    "line",
    [
        "files s3://{inputs}", "put a.txt s3://{place}more/", "get s3://{inputs}a.txt S3://{inputs}b.txt got/",
        "verify s3://{inputs}", "checksum s3a://{inputs}a.txt", "refdata --register s3://{inputs}a.txt",
        "check host/tool -i s3://{inputs} --output-dir s3://{place}o/ --input-root s3://{place} {asked}",
        "check host/tool -g s3://{inputs}*.txt --output-dir s3://{place}o/ {asked}",
        "check host/tool --tsv s3.tsv --output-dir s3://{place}o/ {asked}",
    ],
)  # fmt: skip
def test_paths_may_begin_with_s3(shell, inputs, place, tmp_path, line):
    (tmp_path / "s3.tsv").write_text(f"s3://{inputs}a.txt\n")
    assert shell(f"%cts {line.format(inputs=inputs, place=place, asked=ASKED)}") is not None


def test_paths_of_a_cell_and_of_python_may_begin_with_s3(shell, inputs, place):
    report = shell(
        f"%%cts check\nimage: host/tool\ninput_files: [{{file: s3://{inputs}a.txt}}, {{file: s3://{inputs}b.txt}}]\n"
        f"output_dir: s3://{place}o/\ninput_roots: [s3://{place}]\nmemory: 50MB\nruntime: 1m"
    )
    assert [file.file for file in report.containers[0].files] == [
        f"{inputs}a.txt",
        f"{inputs}b.txt",
    ]
    shell.names["inputs"] = f"s3://{inputs}a.txt"
    report = shell(
        "import cts_jupyter\ncts_jupyter.check(cluster='local', image='host/tool', input_files=[inputs], "
        f"output_dir='s3://{place}o/', memory='50MB', runtime=60, params={{}})"
    )
    assert [file.file for file in report.containers[0].files] == [f"{inputs}a.txt"]


def test_file_whose_name_is_a_pattern_is_an_input(shell, place, tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "a[1].txt").write_text("x")
    shell(f"%cts put odd {place}")
    report = shell(f"%cts check host/tool -i {place}odd/a[1].txt --output-dir {place}o/ {ASKED}")
    assert [file.file for file in report.containers[0].files] == [f"{place}odd/a[1].txt"]


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_file_that_changes_while_it_is_put_is_named(shell, place, tmp_path, monkeypatch, kept):
    path = tmp_path / "growing.txt"
    path.write_text("before")
    really = files.checksum_of

    def checksum_of(file):
        checksum = really(file)
        path.write_text("others"[:kept])
        return checksum

    with monkeypatch.context() as patch:
        patch.setattr(files, "checksum_of", checksum_of)
        said = shell.refusal(f"%cts put growing.txt {place}")
    assert "growing.txt (growing.txt changes while it is read" in said
    shell(f"%cts put growing.txt {place}")


def test_file_that_only_grows_is_put_as_it_was(shell, place, tmp_path, monkeypatch):
    path = tmp_path / "growing.txt"
    path.write_text("before")
    really = files.checksum_of

    def checksum_of(file):
        checksum = really(file)
        path.write_text("before and after")
        return checksum

    monkeypatch.setattr(files, "checksum_of", checksum_of)
    (stored,) = shell(f"%cts put growing.txt {place}")
    assert stored.size == len("before")


def test_person_who_is_no_admin_is_told_whom_to_ask(shell, place, inputs, monkeypatch):
    monkeypatch.setattr(CTSClient, "whoami", lambda _: WhoAmI(user="ben"))
    said = shell.refusal(f"%cts check host/zzy -i {inputs} --output-dir {place}o/ {ASKED}")
    assert "send whoever runs the service this: Please register the image host/zzy" in said


def test_argument_that_the_contract_refuses_leads_to_a_program_of_ones_own(
    shell, inputs, place, tmp_path
):
    said = shell.refusal(
        f"%cts check host/tool -i {inputs} --output-dir {place}o/ {ASKED} -- -outfmt '6 qseqid'"
    )
    assert "'6 qseqid' cannot be an argument of a container: it has a space in it" in said
    remedy = said[said.index("%cts images --register host/NAME FILE") :]
    (tmp_path / "blast.py").write_text("import subprocess\n")
    shell(remedy.replace("NAME", "blast").replace("FILE", "blast.py"))
