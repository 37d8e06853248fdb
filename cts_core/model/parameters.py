"""The parameters of a job, from which each container's command line and environment are made."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import partial
from typing import Annotated, Self

from pydantic import AfterValidator, StringConstraints, model_validator

from cts_core.model.base import Closed, MountPoint, no_control_characters

ARGUMENT_PATTERN = r"^[\w\./][\w\./-]*$"
FLAG_PATTERN = r"^--?[a-zA-Z0-9][\w\.-]*=?$"
ENVIRONMENT_KEY_PATTERN = r"^[A-Z_][A-Z0-9_]*$"

ArgumentText = Annotated[
    str, StringConstraints(min_length=1, max_length=1024, pattern=ARGUMENT_PATTERN)
]
FlagText = Annotated[str, StringConstraints(min_length=2, max_length=256, pattern=FLAG_PATTERN)]
EnvironmentKey = Annotated[
    str, StringConstraints(min_length=1, max_length=256, pattern=ENVIRONMENT_KEY_PATTERN)
]


class ParameterType(StrEnum):
    """The kind of value that a parameter stands for."""

    INPUT_FILES = "input_files"
    MANIFEST_FILE = "manifest_file"
    CONTAINER_NUMBER = "container_number"


class InputFilesFormat(StrEnum):
    """The form of a container's input files on its command line."""

    COMMA_SEPARATED_LIST = "comma_separated_list"
    SPACE_SEPARATED_LIST = "space_separated_list"
    REPEAT_PARAMETER = "repeat_parameter"


class ManifestFileFormat(StrEnum):
    """The content of the lines of a manifest."""

    FILES = "files"
    DATA_IDS = "data_ids"


ManifestHeader = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1000),
    AfterValidator(partial(no_control_characters, allowed="\t")),
]


class Parameter(Closed):
    """A value that differs by container: its files, a manifest of them, or its number."""

    type: ParameterType
    input_files_format: InputFilesFormat | None = None
    manifest_file_format: ManifestFileFormat | None = None
    manifest_file_header: ManifestHeader | None = None
    container_num_prefix: ArgumentText | None = None
    container_num_suffix: ArgumentText | None = None

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        self._check_format()
        return self

    def _check_format(self) -> None:
        required = {
            ParameterType.INPUT_FILES: "input_files_format",
            ParameterType.MANIFEST_FILE: "manifest_file_format",
        }.get(self.type)
        if required and getattr(self, required) is None:
            raise ValueError(f"{required} is required for parameter type {self.type.value}")

    @property
    def is_file_parameter(self) -> bool:
        """Return whether it stands for the container's files, by path or by manifest."""
        return self.type is not ParameterType.CONTAINER_NUMBER


class ParameterWithFlag(Parameter):
    """A parameter of the command line, whose value a flag may precede."""

    flag: FlagText | None = None

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        self._check_format()
        if self.input_files_format is InputFilesFormat.REPEAT_PARAMETER and not self.flag:
            raise ValueError(
                f"A flag is required for input_files_format {InputFilesFormat.REPEAT_PARAMETER.value}"
            )
        return self


class Parameters(Closed):
    """The command line, environment and mount points of containers."""

    input_mount_point: MountPoint = "/input_files"
    output_mount_point: MountPoint = "/output_files"
    refdata_mount_point: MountPoint | None = None
    declobber: bool = False
    """Put the outputs of container n below ``n/``, so that equal names do not overwrite each other."""
    args: list[ArgumentText | FlagText | ParameterWithFlag] | None = None
    environment: dict[EnvironmentKey, ArgumentText | Parameter] | None = None

    @model_validator(mode="after")
    def _check_parameters(self) -> Self:
        for key, value in (self.environment or {}).items():
            if isinstance(value, Parameter) and value.input_files_format in (
                InputFilesFormat.SPACE_SEPARATED_LIST,
                InputFilesFormat.REPEAT_PARAMETER,
            ):
                # The deployed service's message has two spaces here.
                raise ValueError(
                    f"Environmental parameter at key {key} may not have "
                    f"{value.input_files_format.value}  set as a {value.type.value} type"
                )
        if sum(p.is_file_parameter for p in self.parameters()) > 1:
            raise ValueError(
                "At most one input_files or manifest_file parameter may be specified in args and "
                "environment together"
            )
        return self

    def parameters(self) -> Iterator[Parameter]:
        """Return every value of arguments and environment that differs by container."""
        values = [*(self.args or []), *(self.environment or {}).values()]
        return (value for value in values if isinstance(value, Parameter))

    @property
    def manifest(self) -> Parameter | None:
        """The manifest parameter, of which there is at most one."""
        return next((p for p in self.parameters() if p.type is ParameterType.MANIFEST_FILE), None)
