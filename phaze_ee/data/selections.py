"""Which jets a purpose reads: weaver's selections, those of the configuration, and the places of jets in their files.

Where there are no validation files, the last rows of each training file validate, as in weaver.

As in weaver, training and validation read the jets that pass ``selection``. All other modes read those that pass
``test_time_selection``, which is ``selection`` where the data configuration has none.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from weaver.utils.data.config import _strcat

from phaze_ee.data.branches import columns_for
from phaze_ee.data.evaluation import names_in
from phaze_ee.data.expressions import check_expression, parse_expression
from phaze_ee.data.file_part import WHOLE, FilePart
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.stamps import known_stamp
from phaze_ee.data.table import PLACE


@dataclass(frozen=True)
class JetChoice:
    """What a configuration says of the jets of each purpose, besides the selections of the data configuration.

    Attributes:
        train: expressions that jets must pass for training.
        val: for validation.
        test: for all other modes.
        trusted: whether they may be any Python.
        validation_share: the share of the rows of each training file that validate; 0: validation has its own files.
    """

    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    trusted: bool = False
    validation_share: float = 0

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Return that of the options of a configuration; options that are missing have no effect.

        Raises:
            DataError: an expression is wrong or refused.
        """
        trusted = bool(options.get("trust_expressions"))
        given = {name: options.get(f"extra_selection{name}") for name in ("", "_train", "_val", "_test")}
        for name, expression in given.items():
            if expression:
                check = parse_expression if trusted else check_expression
                check(expression, f"c.extra_selection{name}")
        both, train, val, test = ((expression,) if expression else () for expression in given.values())
        share = 0 if options.get("val_files", True) else options.get("validation_share", 0)
        return cls(both + train, both + val, test, trusted, share)

    @property
    def training_part(self) -> FilePart:
        """The rows of the training files that train."""
        return FilePart(0, self._border)

    @property
    def validation_part(self) -> FilePart:
        """The rows of the validation files that validate; without such files, of the training files."""
        return FilePart(self._border, 1) if self.validation_share else WHOLE

    @property
    def _border(self) -> float:
        return round(1 - self.validation_share, 12)  # 1 - (1 - 0.9) is not 0.9


def for_training(schema: DataSchema, choice: JetChoice) -> DataSchema:
    """Return the schema that reads training jets: its ``selection`` is theirs."""
    own = schema.with_part(choice.training_part)
    return _with(own, {"selection": _joined(schema.weaver.selection, choice.train)}, choice)


def for_validation(schema: DataSchema, choice: JetChoice) -> DataSchema:
    """Return the schema that gives validation jets when it is used for evaluation: they pass ``selection``."""
    own, selection = schema.with_part(choice.validation_part), _joined(schema.weaver.selection, choice.val)
    if selection == schema.weaver.test_time_selection:
        return own
    return _with(own, {"selection": selection, "test_time_selection": None}, choice)


def for_testing(schema: DataSchema, choice: JetChoice) -> DataSchema:
    """Return the schema whose ``test_time_selection`` also demands the expressions for tests."""
    return _with(schema, {"test_time_selection": _joined(schema.weaver.test_time_selection, choice.test)}, choice)


def without_extra(schema: DataSchema, original: DataSchema) -> DataSchema:
    """Return a schema with the selections of the original one."""
    names = ("selection", "test_time_selection")
    others = {name: section for name, section in schema.options.items() if name not in names}
    own = {name: original.options[name] for name in names if name in original.options}
    return DataSchema.from_options({**others, **own}, schema.origin, schema.trusted, schema.bad_values)


def with_places(schema: DataSchema) -> DataSchema:
    """Return the schema with one more observer, the place of each jet in its file (``PLACE``)."""
    return schema.with_observers([*schema.weaver.z_variables, PLACE])


def rows_hash(files: Iterable[Path], schema: DataSchema) -> str:
    """Return a hash of what decides which jets an evaluation reads: files, tree, and what the selection is made from.

    Two data configurations that select the same jets by the same expressions have the same hash, whatever else they
    read of these jets.

    Raises:
        DataError: a file does not exist any more.
    """
    config = schema.weaver
    selection = config.test_time_selection
    columns, formulas = columns_for(config, names_in(selection) if selection else ())
    magic = schema.options.get("file_magic") or {}
    made_of = [selection, sorted(formulas.items()), {name: magic[name] for name in sorted(columns & magic.keys())}]
    rows = [] if schema.part == WHOLE else [str(schema.part)]
    digest = hashlib.sha256(json.dumps([config.treename, *made_of, *rows]).encode())
    for path in files:
        digest.update(f"\n{path.resolve()} {known_stamp(path)}".encode())
    return digest.hexdigest()


def _joined(selection: str | None, extra: Iterable[str]) -> str | None:
    expressions = [expression for expression in (selection, *extra) if expression]
    if len(expressions) < 2:
        return expressions[0] if expressions else None
    joined: str = _strcat(*expressions)
    return joined


def _with(schema: DataSchema, selections: Mapping[str, str | None], choice: JetChoice) -> DataSchema:
    if all(schema.options.get(name) == value for name, value in selections.items()):
        return schema
    if selections == {"test_time_selection": schema.weaver.test_time_selection}:
        return schema
    texts = {text for text in selections.values() if text} if choice.trusted else set()
    return schema.with_options(selections, texts)
