"""Arguments of the contract as tests write them, and hypothesis strategies for them."""

from __future__ import annotations

from hypothesis import strategies as st

FILES = {"type": "input_files"}
SPACE = FILES | {"input_files_format": "space_separated_list"}
COMMA = FILES | {"input_files_format": "comma_separated_list"}
REPEAT = FILES | {"input_files_format": "repeat_parameter"}
MANIFEST = {"type": "manifest_file", "manifest_file_format": "files"}
DATA_IDS = MANIFEST | {"manifest_file_format": "data_ids"}
NUMBER = {"type": "container_number"}

text = st.from_regex(r"\A[a-zA-Z0-9_./][a-zA-Z0-9_./-]{0,8}\Z")
flag = st.from_regex(r"\A--?[a-zA-Z0-9][a-zA-Z0-9_.-]{0,8}=?\Z")
header = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)


def _flagged(parameter):
    return st.builds(
        lambda body, flag: body if flag is None else body | {"flag": flag},
        parameter,
        st.none() | flag,
    )


def _number(prefix, suffix):
    named = {"container_num_prefix": prefix, "container_num_suffix": suffix}
    return NUMBER | {key: value for key, value in named.items() if value is not None}


file_parameter = st.one_of(
    _flagged(st.sampled_from([SPACE, COMMA, MANIFEST, DATA_IDS])),
    st.builds(lambda flag: REPEAT | {"flag": flag}, flag),
    _flagged(
        st.builds(
            lambda body, text: body | {"manifest_file_header": text},
            st.sampled_from([MANIFEST, DATA_IDS]),
            header,
        )
    ),
)
number_parameter = _flagged(st.builds(_number, st.none() | text, st.none() | text))


@st.composite
def argument_lists(draw):
    """Draw lists of arguments, of which at most one stands for the input files."""
    args = draw(st.lists(text | flag | number_parameter, max_size=6))
    if draw(st.booleans()):
        args.insert(draw(st.integers(0, len(args))), draw(file_parameter))
    return args
