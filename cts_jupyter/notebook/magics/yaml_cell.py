"""Loads the YAML of a ``%%cts submit`` cell. Its keys are the REST names, and its scalars are text as they stand there."""

from __future__ import annotations

import re
from typing import Any, NoReturn

import yaml

from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.expansion import Namespace, expand_scalars

_NULL, _MERGE, _TEXT, _LIST, _MAPPING = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "merge", "str", "seq", "map")
)


class _TextLoader(yaml.SafeLoader):
    """Loads every scalar but null as its own text.

    Only who reads a field knows whether a number is meant there. Guesses would change text: ``0012`` to 10, ``1.10`` to
    1.1, ``12:30:00`` to 45000, ``no`` to false.
    """


def _mapping(loader: _TextLoader, node: yaml.MappingNode) -> dict[str, Any]:
    # YAML's specification refuses duplicate keys, and the library does not.
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be a name", key.start_mark
            )
        if key.value in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key.value!r} stands there twice", key.start_mark
            )
        seen.add(key.value)
    loader.flatten_mapping(node)
    return {key.value: loader.construct_object(value, deep=True) for key, value in node.value}


def _refuse_tag(_: _TextLoader, node: yaml.Node) -> NoReturn:
    raise yaml.constructor.ConstructorError(
        None, None, f"the tag {node.tag} has no meaning here: leave it out", node.start_mark
    )


_TextLoader.yaml_implicit_resolvers = {}
_TextLoader.add_implicit_resolver(
    _NULL, re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]
)
_TextLoader.add_implicit_resolver(_MERGE, re.compile(r"<<\Z"), ["<"])
_TextLoader.yaml_constructors = {
    _NULL: yaml.SafeLoader.construct_yaml_null,
    _MERGE: yaml.SafeLoader.construct_yaml_str,
    _TEXT: yaml.SafeLoader.construct_yaml_str,
    _LIST: yaml.SafeLoader.construct_yaml_seq,
    _MAPPING: _mapping,
    None: _refuse_tag,
}


def load_cell(text: str, namespace: Namespace) -> dict[str, Any]:
    """Return a cell as a mapping, with variables expanded. Raises MagicError, which names the wrong line."""
    try:
        tree = yaml.load(text, Loader=_TextLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        # Line 1 of the cell is the magic.
        where = f"line {mark.line + 2} of the cell" if mark else "the cell"
        raise MagicError(f"The YAML cannot be read: {e.problem or e.context} in {where}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as e:
        # The library lets those of an escape that is no character pass.
        raise MagicError(f"The YAML cannot be read: {e}") from None
    except RecursionError:
        raise MagicError("The YAML cannot be read: it is nested too deep") from None
    if not isinstance(tree, dict):
        raise MagicError(
            "The cell must hold YAML of the form 'key: value'; %cts help submit shows one"
        )
    return {key: expand_scalars(value, namespace) for key, value in tree.items()}
