"""The archive of an exported program, opened only where nothing in it can run code of its own.

`torch.export.load` unpickles what a file asks it to, evaluates its size expressions as Python and
writes its names into Python source. What a file may hold is therefore listed here; torch gets an
archive made of the checked content, so that it reads nothing else. Knows no network.
"""

from __future__ import annotations

import ast
import io
import json
import keyword
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainables.contract.errors import UserError
from trainables.deploy.export.about import KEY

PROGRAM, INPUTS = "models/model.json", "data/sample_inputs/model.pt"
CONFIGS = {
    "data/weights/model_weights_config.json": re.compile(r"weight_[0-9]+"),
    "data/constants/model_constants_config.json": re.compile(r"tensor_[0-9]+"),
}
"""What says which tensors there are, and how their files are called."""
RECORDS = re.compile(
    rf"data/weights/weight_[0-9]+|data/constants/tensor_[0-9]+|{re.escape(PROGRAM)}"
    rf"|{re.escape(INPUTS)}|{'|'.join(map(re.escape, CONFIGS))}|extra/{KEY}"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
)
"""Every file that `torch.export.save` writes for a program of plain tensors."""

WORDS = re.compile(r"[A-Za-z0-9_.]*")
"""What any text of a program is: a name, which is harmless wherever torch writes it."""
FREE_TEXTS = {"nn_module_stack", "torch_fn", "torch_version"}  # kept as text, never evaluated
TREES = {"in_spec", "out_spec"}
TREE_TYPES = {None, "builtins.tuple", "builtins.list", "builtins.dict"}
OPERATORS = re.compile(
    r"torch\.ops\.aten\.(?!__|from_file\.)\w+\.[A-Za-z]\w*"
    r"|torch\.ops\.aten\.__i?(and|or|xor|lshift|rshift)__\.[A-Za-z]\w*"
    r"|torch\.ops\.higher_order\.wrap_with_(autocast|set_grad_enabled)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.[a-z0-9]+|torch\.sym_[a-z]+"
)
OTHER_CODE = {"as_custom_obj", "as_operator", "custom_obj", "token"}
FUNCTIONS = {
    *("Symbol", "Integer", "Add", "Mul", "Max", "Min", "Mod", "PythonMod", "FloorDiv", "CeilDiv"),
    *("Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not"),
}
"""Of the expressions that sizes are."""


def load_program(path: Path, torch: Any) -> tuple[Any, str]:
    """The program of the file as a module, and what the file says of itself.

    UserError where it holds anything that could run code, or is damaged.
    """
    content = io.BytesIO(path.read_bytes())  # read once: what is checked is what is opened
    records = _records(path, content)
    for name, names in CONFIGS.items():
        if name in records:
            _check_tensors(f"{path}: {name}", _parsed(records[name]), names)
    if PROGRAM in records:
        _check_program(f"{path}: {PROGRAM}", _parsed(records[PROGRAM]))
    # where this fails torch.export.load would unpickle them without the limit
    torch.load(io.BytesIO(records.get(INPUTS, b"")), weights_only=True)
    extra = {KEY: ""}
    program = torch.export.load(_archive(path.stem, records), extra_files=extra)
    return program.module(), extra[KEY]


def _records(path: Path, content: io.BytesIO) -> dict[str, bytes]:
    """Name within the archive's folder -> content."""
    records: dict[str, bytes] = {}
    with zipfile.ZipFile(content) as archive:
        for entry in archive.infolist():
            name = entry.filename.partition("/")[2]
            if not RECORDS.fullmatch(name):
                raise UserError(f"{path}: must hold a program of tensors, got {entry.filename!r}")
            if name in records:
                raise UserError(f"{path}: must hold {name} once, got it twice")
            if entry.compress_type != zipfile.ZIP_STORED:  # a small file could fill the memory
                raise UserError(f"{path}: must hold {name} as it is, got it compressed")
            records[name] = archive.read(entry)
    return records


def _archive(root: str, records: dict[str, bytes]) -> io.BytesIO:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, record in records.items():
            archive.writestr(f"{root}/{name}", record)
    content.seek(0)
    return content


def _parsed(content: bytes) -> Any:
    return json.loads(content.decode())


def _check_tensors(place: str, content: Any, names: re.Pattern[str]) -> None:
    """Plain tensors alone: nothing that is pickled, no objects of other classes."""
    for key, value in _entries(content):
        if key == "use_pickle" and value is not False:
            raise UserError(f"{place}: must name plain tensors, got use_pickle {value!r}")
        if key == "path_name" and not (isinstance(value, str) and names.fullmatch(value)):
            raise UserError(f"{place}: must name files {names.pattern}, got {value!r}")
        _check_text(place, key, value)


def _check_program(place: str, content: Any) -> None:
    """Operators of torch on tensors and sizes, under plain names."""
    for key, value in _entries(content):
        if key in OTHER_CODE:
            raise UserError(f"{place}: must hold tensors and sizes alone, got {key}")
        if key == "target" and not (isinstance(value, str) and OPERATORS.fullmatch(value)):
            raise UserError(f"{place}: must hold operators of torch alone, got {value!r}")
        if key in ("guards_code", "treespec_namedtuple_fields", "custom_obj_values") and value:
            raise UserError(f"{place}: must have no {key}, got {value!r}")
        if key == "forward_arg_names":
            for name in value or ():
                if not str(name).isidentifier() or keyword.iskeyword(name):
                    raise UserError(f"{place}: forward_arg_names must be names, got {name!r}")
        if key in TREES:
            _check_tree(place, value)
        elif key == "expr_str":
            _check_size(place, value)
        elif key not in FREE_TEXTS:
            _check_text(place, key, value)


def _entries(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested JSON under the key it stands under, and every key as a text."""
    yield key, content
    if isinstance(content, dict):
        for name, value in content.items():
            yield "", name
            yield from _entries(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from _entries(value, key)


def _check_text(place: str, key: str, value: Any) -> None:
    if isinstance(value, str) and not WORDS.fullmatch(value):
        raise UserError(f"{place}: {key or 'a key'} must be a plain name, got {value[:80]!r}")


def _check_tree(place: str, value: Any) -> None:
    """How inputs and outputs are nested: tuples, lists and dictionaries without names."""
    for key, part in _entries(json.loads(value) if isinstance(value, str) else None):
        if (key == "type" and part not in TREE_TYPES) or (
            key == "context" and part not in (None, "null", "[]")
        ):
            raise UserError(f"{place}: inputs must be nested in tuples alone, got {key} {part!r}")


def _check_size(place: str, value: Any) -> None:
    """A sum or product of whole numbers and sizes, as torch writes it."""
    if not isinstance(value, str) or not _is_size(ast.parse(value, mode="eval").body):
        raise UserError(f"{place}: a size must be an expression of sizes, got {value[:80]!r}")


def _is_size(node: ast.expr) -> bool:
    match node:
        case ast.Call(ast.Name("Symbol"), [ast.Constant(str(name))], keywords):
            return name.isidentifier() and all(
                isinstance(each.value, ast.Constant) and isinstance(each.value.value, bool)
                for each in keywords
            )
        case ast.Call(ast.Name(function), arguments, []):
            return function in FUNCTIONS and all(map(_is_size, arguments))
        case ast.UnaryOp(ast.USub(), operand):
            return _is_size(operand)
        case ast.Constant(number):
            return isinstance(number, int)
    return False
