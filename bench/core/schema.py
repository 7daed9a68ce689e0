"""What all validated models share: strict fields, one canonical text, its hash, reading, a validation error as one line."""

from __future__ import annotations

import hashlib
import math
import re
import reprlib
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, TypeVar, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    Tag,
    TypeAdapter,
    ValidationError,
    model_serializer,
)
from pydantic_core import PydanticSerializationError

from .errors import RunError, UsageError, short, unknown
from .sealed import KEY, LONGEST, MARK, check_texts, load_json, unsealed
from .sealed import canonical as canonical

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
"""What may become part of a file's name: no separator, no way up."""
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
"""What :func:`hash_of` gives."""
OTHER_VERSION = "other_version"
"""Type of a pydantic error that says that a file is whole, but of another version of the code."""


WHOLE: Final = {"whole": True}
"""Context of a serialization from which exactly the same model can be made again."""


class Model(BaseModel):
    """Unknown keys, wrong types, NaN and infinity are refused; instances do not change.

    Fields named in ``LATER`` came after records had been made. They are left out of the text, and so of the hash, where
    they have their default: what was named by a hash before keeps its name. Fields named in ``PLACES`` say where files lie; that is
    no part of what is described, so they are in the text for another process of ours alone (context :data:`WHOLE`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    LATER: ClassVar[tuple[str, ...]] = ()
    PLACES: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        text: dict[str, Any] = handler(self)
        if info.context == WHOLE:
            return text
        fields = type(self).model_fields
        unused = {name for name in self.LATER if getattr(self, name) == fields[name].default}
        return {key: value for key, value in text.items() if key not in unused and key not in self.PLACES}


M = TypeVar("M", bound=Model)


def whole_text(value: Any) -> str:
    """A model, or a dataclass with models in it, as JSON from which exactly the same can be made again by its ``TypeAdapter``.

    Raises:
        UsageError: a name in it is no text, see :func:`check_names`.
    """
    try:
        return TypeAdapter(type(value)).dump_json(value, context=WHOLE, by_alias=True).decode()
    except PydanticSerializationError as error:
        raise UsageError(f"A file's name is no text: {short(error)}; rename the file, or set PYTHONUTF8=1") from None


def check_names(paths: Iterable[object]) -> None:
    """Refuse, before work starts, names of files that are bytes beyond the system's encoding: safetensors opens none, and
    :func:`whole_text` cannot hand them to a child process.

    Raises:
        UsageError: names the first.
    """
    for path in map(str, paths):
        try:
            path.encode()
        except UnicodeEncodeError:
            encoding = sys.getfilesystemencoding()
            raise UsageError(
                f"{path} is no text in {encoding}; rename the file or folder, or set PYTHONUTF8=1"
            ) from None


def read_json(path: Path, kind: type[M], noun: str, remedy: str) -> M:
    """Read and validate a JSON file; a checksum in it is checked.

    Args:
        noun: names it in errors, ``Record``.
        remedy: what to do about a damaged one.

    Raises:
        RunError: missing, truncated, or something else (with the field's path).
    """
    try:
        text = path.read_text(encoding="utf-8")
        if KEY in text or MARK in text:
            text = canonical(unsealed(load_json(text)))
        return kind.model_validate_json(text)
    except OSError as error:
        raise RunError(f"Cannot read {noun.lower()} {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RunError(f"{noun} {path} is damaged: not text; {remedy}") from None
    except ValidationError as error:
        for problem in error.errors():
            if problem["type"] == OTHER_VERSION:
                raise RunError(f"{noun} {path} {short(problem['msg'])}") from None
        raise RunError(f"{noun} {path} is damaged: {one_line(error)}; {remedy}") from None
    except ValueError as error:
        raise RunError(f"{noun} {path} is damaged: {short(error)}; {remedy}") from None


class _PlainLoader(yaml.SafeLoader):
    """YAML as people mean it: ``on``, ``off``, ``yes`` and ``no`` are text, as in YAML 1.2. A key that is there twice is an
    error, not the last one; so are an alias, by which a short file becomes gigabytes, and a number of more than 63 bits."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as yaml declares it
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            name = str(self.construct_object(key, deep=True))
            if name in keys:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: '{name}' is there twice")
            keys.add(name)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> int:
        value: int = super().construct_yaml_int(node)
        if abs(value) >= LONGEST:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: a whole number of {len(node.value)} digits")
        return value


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_yaml_int)
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load_yaml(text: str) -> Any:
    """The content of a YAML text.

    Raises:
        yaml.YAMLError: not YAML, a key twice, an alias, or a value that cannot be.
    """
    try:
        content = yaml.load(text, _PlainLoader)  # a SafeLoader
        check_texts(content)
        return content
    except RecursionError:
        raise yaml.YAMLError("it is nested too deep: recursion has an end") from None
    except (
        ValueError,
        LookupError,
        OverflowError,
        TypeError,
        AttributeError,
    ) as error:  # a 13th month, a list as a key
        raise yaml.YAMLError(short(error)) from None


def read_yaml(path: Path, model: type[M], kind: str) -> M:
    """A validated model from a YAML file.

    Raises:
        UsageError: not YAML, or not valid (with the field's path).
    """
    return from_yaml(path.read_text(encoding="utf-8", errors="replace"), model, f"{kind} {path.name}")


def from_yaml(text: str, model: type[M], name: str) -> M:
    """A validated model from a YAML text.

    Raises:
        UsageError: not YAML, or not valid (with the field's path).
    """
    try:
        content = load_yaml(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is not YAML: {short(error)}") from None
    return validated(model, content, name)


def validated(model: type[M], content: Any, name: str) -> M:
    """A model from what was read or asked for.

    Raises:
        UsageError: not valid (with the field's path).
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{name}: {one_line(error, model=model)}") from None


def hash_of(value: Any) -> str:
    """First 12 hex digits of SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


def one_line(error: ValidationError, tags: Collection[str] = (), model: type[Model] | None = None) -> str:
    """The first problem of a validation as ``path: what`` and how many more there are.

    Args:
        tags: of unions, which pydantic puts into the path although no one wrote them there.
        model: what a person wrote; of a key that it has not, the nearest and all that it has are named.
    """
    problems = error.errors()
    first = problems[0]
    if (
        model is not None and first["type"] == "missing"
    ):  # it may be there under a name that is misspelt, which is told last
        first = next((p for p in problems if p["type"] == EXTRA and p["loc"][:-1] == first["loc"][:-1]), first)
    places = [str(part) for part in first["loc"] if part not in tags]
    path = short(".".join(places), 200) if places else ""
    message = short(str(first["msg"]).removeprefix("Value error, "), 1000)
    if not path or first["msg"].startswith("Value error, "):  # a rule over several fields, which names them itself
        return f"{path}{'.' if re.match(r'[a-z_.]+: ', message) else ': '}{message}" if path else message
    rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if model is not None and first["type"] == EXTRA:
        message = str(unknown("key", short(first["loc"][-1], 80), _keys(model, first["loc"][:-1])))
    value = "" if first["type"] in (EXTRA, "missing") else f", got {shown(first['input']):.60}"
    return f"{path}: {message}{value}{rest}"


EXTRA = "extra_forbidden"
"""Type of the pydantic error that says that a model has no such key."""


def _keys(model: type[Model], place: Iterable[object]) -> set[str]:
    """What may be written at a place of a model: the fields' names, or their aliases."""
    found: list[tuple[type[BaseModel], str | None]] = [(model, None)]
    for part in place:
        fields = [
            field for owner, _ in found for name, field in owner.model_fields.items() if part in (name, field.alias)
        ]
        if below := [entry for field in fields for entry in _models(field.annotation)]:
            found = below
        else:  # the number in a list, a key of a dictionary, or which one of a union it is
            found = [(owner, tag) for owner, tag in found if part == tag or part in _literals(owner)] or found
    return {field.alias or name for owner, _ in found for name, field in owner.model_fields.items()}


def _models(annotation: Any, tag: str | None = None) -> list[tuple[type[BaseModel], str | None]]:
    """Models in a field's type, each with its tag in a union."""
    if get_origin(annotation) is None:
        is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        return [(annotation, tag)] if is_model else []
    parts = get_args(annotation)
    tag = next((part.tag for part in parts if isinstance(part, Tag)), tag)
    return [entry for part in parts for entry in _models(part, tag)]


def _literals(model: type[BaseModel]) -> set[object]:
    """Values by which a union tells a model from others."""
    return {
        value for field in model.model_fields.values() for value in get_args(field.annotation) if isinstance(value, str)
    }


_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = 60


def shown(value: Any) -> str:
    """A value as Python writes it, of bounded length whatever is in it: the whole text of a large one is never made."""
    return _brief.repr(value)


def finite(value: float) -> float | None:
    """JSON has no NaN; it becomes null."""
    return None if math.isnan(value) else value
