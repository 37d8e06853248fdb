"""Loads the YAML of a ``%%cts submit`` cell. Its keys are the REST names."""

from __future__ import annotations

from typing import Any

import yaml

from cts_jupyter.notebook.magics.errors import MagicError
from cts_jupyter.notebook.magics.expansion import Namespace, expand_scalars


class _UniqueKeys(yaml.SafeLoader):
    """Refuses duplicate keys, as YAML's specification does and the library does not."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
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
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_cell(text: str, namespace: Namespace) -> dict[str, Any]:
    """Return a cell as a mapping, with variables expanded. Raises MagicError, which names the wrong line."""
    try:
        tree = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        # Line 1 of the cell is the magic.
        where = f"line {mark.line + 2} of the cell" if mark else "the cell"
        raise MagicError(f"The YAML cannot be read: {e.problem or e.context} in {where}") from None
    except (yaml.YAMLError, ValueError) as e:
        # The library raises ValueError for an invalid date.
        raise MagicError(f"The YAML cannot be read: {e}") from None
    except RecursionError:
        raise MagicError("The YAML cannot be read: it is nested too deep") from None
    if not isinstance(tree, dict):
        raise MagicError(
            "The cell must hold YAML of the form 'key: value'; %cts help submit shows one"
        )
    return {key: expand_scalars(value, namespace) for key, value in tree.items()}
