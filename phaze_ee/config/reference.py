"""The configuration reference, ``docs/CONFIGURATION.md``, rendered from the options.

``python -m phaze_ee.config.reference > docs/CONFIGURATION.md`` writes it anew.
"""

import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from phaze_ee.config.options import SECTIONS, Section
from phaze_ee.config.template import SAMPLE_VALUES

_INTRODUCTION = """\
# Configuration reference

Written by `python -m phaze_ee.config.reference` from `phaze_ee/config/sections.py`; a test compares them.

A configuration is a Python file, `<WORKSPACE>/<PROJECT>/config/<PROJECT>_config.py`, with a function `set_config(c)`
that sets options by name:

```python
def set_config(c):
    c.train_files = ["jets/train/**/*.root"]
    c.val_files = ["jets/val/**/*.root"]
    c.exit_loss_strategy = "target_flow"
```

- Options that are not set keep their defaults. Only `train_files` must be set.
- A configuration is a program: it may import, loop and read the environment. An unknown name or a value of a wrong type
  ends the run before it starts. The message has the file, the line and, for a name, the nearest known name.
- Relative paths and patterns are looked up in the current directory, the project's folder, the folder that holds the
  package (in a checkout, it has `data_configs` and `network_configs`) and the installed package (it has `sample_jets`
  and copies of both), in this order. The first match counts.
- `beta_max` has one number per exit, or one number for all exits. At least one must be above 0, and `zero_epochs` must
  leave at least one epoch to train the exits, unless there are no exits.
- `plugins` are Python files that register parts of your own; a configuration may also register them itself. The names
  below are those of the package. [EXTENDING.md](EXTENDING.md) shows how.
"""

_SAMPLE_TITLE = """\
## What a new project sets

`new_project` writes every option into the configuration, with its meaning. The values below differ from the defaults,
so that the new project trains on the bundled sample jets in minutes; delete them for a real training.
"""


def render_reference() -> str:
    """Return the text of ``docs/CONFIGURATION.md``."""
    return "\n".join([_INTRODUCTION, *map(_section, SECTIONS), _SAMPLE_TITLE, _sample_table()])


def _section(section: type[Section]) -> str:
    properties = section.model_json_schema()["properties"]
    own = inspect.get_annotations(section)
    rows = [
        (f"`{name}`", describe_type(properties[name]), _default(section, name), section.model_fields[name].description)
        for name in own
    ]
    title, _, explanation = (inspect.getdoc(section) or section.__name__).rstrip(".").partition(": ")
    paragraph = f"{explanation[0].upper()}{explanation[1:]}.\n\n" if explanation else ""
    return f"## {title}\n\n{paragraph}" + _table(("Option", "Type", "Default", "Meaning"), rows)


def _sample_table() -> str:
    owners = {name: section for section in SECTIONS for name in inspect.get_annotations(section)}
    rows = [(f"`{name}`", _default(owners[name], name), f"`{value!r}`") for name, value in SAMPLE_VALUES.items()]
    return _table(("Option", "Default", "New project"), rows)


def _default(section: type[Section], name: str) -> str:
    field = section.model_fields[name]
    return "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)!r}`"


def describe_type(schema: Mapping[str, Any]) -> str:
    """Return a JSON schema in the words of a Python user, such as ``list of int > 0``."""
    if "anyOf" in schema:
        return " or ".join(map(describe_type, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value!r}`" for value in schema.get("enum", [schema.get("const")]))
    if "prefixItems" in schema:
        return f"({', '.join(map(describe_type, schema['prefixItems']))})"
    if schema.get("additionalProperties") is True:
        return "dict of str to any value"
    if "additionalProperties" in schema:
        return f"dict of str to {describe_type(schema['additionalProperties'])}"
    if "items" in schema:
        item = describe_type(schema["items"])
        return f"list of ({item})" if "anyOf" in schema["items"] else f"list of {item}"
    names = {"string": "str", "boolean": "bool", "null": "None", "integer": "int", "number": "float"}
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema]
    return f"{names[schema['type']]} {' and '.join(limits)}".rstrip()


def _table(titles: Iterable[str], rows: Iterable[Iterable[str | None]]) -> str:
    lines = [tuple(titles), *(tuple(map(_cell, row)) for row in rows)]
    lines.insert(1, ("---",) * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str | None) -> str:
    """Keep Markdown from reading ``*``, ``<`` and ``|`` of plain text as markup; code in backticks stays as it is."""
    parts = re.split(r"(`[^`]*`)", text or "")
    return "".join(part if part.startswith("`") else re.sub(r"([*<|])", r"\\\1", part) for part in parts)


if __name__ == "__main__":
    sys.stdout.write(render_reference())
