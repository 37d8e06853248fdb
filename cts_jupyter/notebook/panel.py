"""The form for a new job as a widget: what it holds is the notebook's data, and what the notebook sets moves the form."""

from __future__ import annotations

import ast
import binascii
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from pydantic import ByteSize, TypeAdapter, ValidationError
from traitlets.utils.bunch import Bunch

from cts_jupyter import formatting
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.transport import CTSClientError
from cts_jupyter.notebook import serialize
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.magics.expansion import Namespace
from cts_jupyter.notebook.magics.submission import submission_from_yaml
from cts_jupyter.notebook.magics.yaml_cell import load_cell
from cts_jupyter.notebook.relay import Relay
from cts_jupyter.notebook.session import Session, current_session
from cts_jupyter.notebook.typed_paths import with_object_paths
from cts_jupyter.times import parse_duration

Entry = str | dict[str, str]
"""An input: its path, or an object with the path, a data id and a checksum."""

_STATIC = Path(__file__).parents[1] / "widgets" / "static"
_NO_FILES = "0:00000000"
_MAGIC = "%%cts submit"
_SIZE = TypeAdapter(ByteSize)


class PanelError(Exception):
    """The panel cannot be shown, or what was set cannot be read; the message says what to do."""


def _read(name: str) -> str:
    try:
        return (_STATIC / name).read_text("utf-8")
    except FileNotFoundError:
        raise PanelError(
            "This installation has no panel, since it was made from source without Node: install a released wheel, "
            "or run 'make labextension'"
        ) from None


def key_of(entry: Entry) -> str:
    """Return the text of an input; the page makes the same one."""
    if isinstance(entry, str):
        return f"{entry}\t\t"
    return "\t".join(entry.get(name) or "" for name in ("file", "data_id", "crc64nvme"))


def digest_of(entries: Sequence[Entry]) -> str:
    """Return a short text that tells two lists of inputs apart; the page makes the same one."""
    text = "\n".join(map(key_of, entries)).encode()
    return f"{len(entries)}:{binascii.crc32(text):08x}"


def _path(entry: Entry) -> str:
    return entry if isinstance(entry, str) else entry["file"]


def parse_yaml(text: str) -> dict[str, Any]:
    """Return the submission of a ``%%cts submit`` cell, with or without its first line. Raises MagicError."""
    first, _, rest = text.partition("\n")
    cell = rest if first.strip() == _MAGIC else text
    return submission_from_yaml(load_cell(cell, Namespace({}))).body


def parse_code(text: str) -> dict[str, Any]:
    """Return the fields of the one call of ``submit`` in a piece of Python. Nothing is run. Raises PanelError."""
    try:
        calls = [
            node
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call)
            and getattr(node.func, "id", getattr(node.func, "attr", None)) == "submit"
        ]
        (call,) = calls
        return {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (ValueError, SyntaxError) as e:
        raise PanelError(
            f"The code must have one call of submit(), with values and no names: {e}"
        ) from None


class _Text(traitlets.TraitType[str, str]):
    """The submission as a text, which is made when somebody reads it; setting it sets the submission."""

    def __init__(
        self, form: Callable[[Mapping[str, Any]], str], parse: Callable[[str], dict[str, Any]]
    ) -> None:
        super().__init__()
        self.form = form
        self.parse = parse

    def get(self, obj: traitlets.HasTraits, cls: object = None) -> str:  # noqa: ARG002 - traitlets'
        return self.form(obj.spec)  # type: ignore[attr-defined]  # a panel

    def set(self, obj: traitlets.HasTraits, value: str) -> None:
        obj.spec = self.parse(value)  # type: ignore[attr-defined]  # the same


class Panel(anywidget.AnyWidget):
    """The form for a new job. Its traits can be observed and set; an assignment that cannot be read changes nothing."""

    files: traitlets.List[str] = traitlets.List()
    """The paths of the chosen files. Of files with data ids or checksums, ``spec["input_files"]`` has these, too."""
    spec = traitlets.Dict()
    """The submission, as the fields of ``POST /jobs`` that :func:`cts_jupyter.submit` takes."""
    yaml = _Text(serialize.as_yaml, parse_yaml)
    """The ``%%cts submit`` cell that submits the same."""
    code = _Text(serialize.as_python, parse_code)
    """The Python code that submits the same."""
    job = traitlets.Any(None, allow_none=True)
    """The job that was submitted, a :class:`cts_jupyter.Job`; None before."""
    checked = traitlets.Bool(None, allow_none=True).tag(sync=True)
    """Whether the service finds nothing wrong with it; None before it was asked. Setting None has it asked anew."""

    _esm = traitlets.Unicode().tag(sync=True)
    _spec = traitlets.Dict().tag(sync=True)
    """The submission without its files, of which only a digest is synchronized: there may be 10,000."""
    _digest = traitlets.Unicode(_NO_FILES).tag(sync=True)
    _job_id = traitlets.Unicode("").tag(sync=True)
    _sent_key = traitlets.Unicode("").tag(sync=True)
    """The idempotency key of a submission without an answer, by which a page that is loaded again asks for the same job."""
    _seed = traitlets.Unicode("").tag(sync=True)
    """What all pages make idempotency keys of until there is a job: two that submit the same make one."""
    _instance = traitlets.Unicode("").tag(sync=True)
    """The identity of the service, by which a page tells whether it reaches the same one."""
    _service = traitlets.Unicode("").tag(sync=True)
    _by_kernel = traitlets.Bool(default_value=False).tag(sync=True)

    def __init__(self, session: Session, body: Mapping[str, Any], *, by_kernel: bool) -> None:
        """``body`` has the fields that are filled in; with ``by_kernel`` the page asks nothing but the kernel."""
        self._session = session
        self._entries: list[Entry] = []
        self._is_telling = False
        self._relay = Relay(self._client, self._reply)
        super().__init__(
            _esm=_read("loader.js"),
            _instance=_instance_of(session),
            _service=session.where,
            _by_kernel=by_kernel,
            _seed=uuid.uuid4().hex,
        )
        self.on_msg(self._on_message)
        self._tell()
        if body:
            self.spec = dict(body)

    def __repr__(self) -> str:
        # All that is shown of it without a kernel, cut after 110 characters.
        image = str(self._spec.get("image") or "")[:40]
        return f"The form for a new job{image and f' of {image}'}: run this cell in a notebook to show it"

    def close(self) -> None:
        """Remove it, and end what it asks for."""
        self._relay.close()
        super().close()

    def _client(self) -> CTSClient:
        return self._session.client

    @traitlets.validate("files")
    def _check_files(self, proposal: Bunch) -> list[str]:
        return [_path(entry) for entry in _entries(proposal["value"])]

    @traitlets.validate("spec")
    def _check_spec(self, proposal: Bunch) -> dict[str, Any]:
        return _normal(proposal["value"])

    @traitlets.observe("files")
    def _on_files(self, change: Bunch) -> None:
        if not self._is_telling:
            known = {_path(entry): entry for entry in self._entries}
            self._set_entries([known.get(path, path) for path in change["new"]])
            self._tell()

    @traitlets.observe("spec")
    def _on_spec(self, change: Bunch) -> None:
        if not self._is_telling:
            rest = dict(change["new"])
            self._set_entries(rest.pop("input_files", []))
            self._spec = rest
            self._tell()

    @traitlets.observe("_spec")
    def _on_page_spec(self, _: Bunch) -> None:
        self._tell()

    @traitlets.observe("_job_id")
    def _on_job_id(self, change: Bunch) -> None:
        job_id = change["new"]
        if job_id != getattr(self.job, "id", ""):
            self.job = Job.accepted(self._session, job_id) if job_id else None

    @traitlets.observe("job")
    def _on_job(self, change: Bunch) -> None:
        self._job_id = getattr(change["new"], "id", "")
        self._seed = uuid.uuid4().hex

    def _set_entries(self, entries: list[Entry]) -> None:
        self._entries = entries
        self._digest = digest_of(entries)

    def _tell(self) -> None:
        """Bring the traits that Python reads to what the form holds."""
        if self._is_telling:
            return
        self._is_telling = True
        try:
            with self.hold_trait_notifications():
                self.files = [_path(entry) for entry in self._entries]
                before = self.spec
                self.spec = {**self._spec, "input_files": list(self._entries)}
        finally:
            self._is_telling = False
        if self.spec == before:
            return
        for name in ("yaml", "code"):
            # They are made for whoever wants to know alone.
            if self._trait_notifiers.get(name):
                text = {"name": name, "old": None, "new": getattr(self, name), "owner": self}
                self.notify_change(Bunch(type="change", **text))

    def _on_message(self, _: object, message: Mapping[str, Any], __: object) -> None:
        match message.get("cts"):
            case "module?":
                self.send({"cts": "module"}, [_read("panel.js").encode()])
            case "ask":
                self._relay.ask(message)
            case "stop":
                self._relay.stop(message)
            case "files?":
                self.send({"cts": "files", "files": self._entries})
            case "files":
                self._take_files(message)

    def _take_files(self, message: Mapping[str, Any]) -> None:
        """Take what the page has changed of the files; ask for all of them where that does not fit to what is known."""
        wanted = str(message.get("digest"))
        if digest_of(self._entries) == wanted:
            return
        base = [] if message.get("base") == _NO_FILES else self._entries
        removed = set(message.get("removed") or ())
        entries = [entry for entry in base if key_of(entry) not in removed]
        entries += _entries(message.get("added") or ())
        if message.get("base") == digest_of(base) and digest_of(entries) == wanted:
            self._set_entries(entries)
            self._tell()
        else:
            self.send({"cts": "files?"})

    def _reply(self, content: Mapping[str, Any], buffers: list[bytes] | None) -> None:
        if self.comm is not None:
            self.send(dict(content), buffers)


def panel(*, by_kernel: bool = False, **fields: Any) -> Panel:  # noqa: ANN401 - JSON, which the service checks
    """Return the form for a new job, as ``%cts panel`` does.

    Args:
        by_kernel: Have the page ask the service through the kernel, also where it could ask it itself.
        **fields: The fields that are filled in, as :func:`cts_jupyter.submit` takes them. ``files`` is short for
            ``input_files``.

    Raises:
        NoConnectionError: No service can be found.
        PanelError: This installation has no panel.
    """
    if "files" in fields:
        fields["input_files"] = fields.pop("files")
    return Panel(current_session(), fields, by_kernel=by_kernel)


def _instance_of(session: Session) -> str:
    try:
        return session.instance or ""
    except CTSClientError:
        # The form says so itself, when it asks.
        return ""


def _entries(files: object) -> list[Entry]:
    if isinstance(files, str):
        files = [files]
    if not isinstance(files, Sequence):
        raise PanelError("The files must be a list of paths")
    entries: list[Entry] = []
    for file in with_object_paths({"input_files": list(files)})["input_files"]:
        if isinstance(file, str):
            entries.append(file)
        elif isinstance(file, Mapping) and isinstance(file.get("file"), str):
            entries.append({k: v for k, v in file.items() if v is not None})
        else:
            raise PanelError(f"{file!r} is no path of a file")
    return entries


def _normal(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a submission as JSON, with numbers for sizes and ISO 8601 for durations."""
    made = with_object_paths(body)
    made["input_files"] = _entries(made.get("input_files", []))
    made.setdefault("params", {})
    try:
        if isinstance(made.get("memory"), str):
            made["memory"] = int(_SIZE.validate_python(made["memory"]))
        runtime = made.get("runtime")
        if isinstance(runtime, (int, float)):
            runtime = timedelta(seconds=runtime)
        elif isinstance(runtime, str):
            runtime = parse_duration(runtime)
        if runtime is not None:
            made["runtime"] = formatting.format_iso_duration(runtime)
    except ValidationError:
        raise PanelError(
            f"{made['memory']!r} is no size of memory: write bytes, or text such as '40GB'"
        ) from None
    except ValueError as e:
        raise PanelError(str(e)) from None
    return made
