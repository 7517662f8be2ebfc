"""The types of options whose value is the name of a part: a network, a link, a score or a loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from phaze_ee.registry import known_names, loss_strategies, unknown


@dataclass(frozen=True)
class NameOf:
    """Marks an option whose value is the name of a part, of the package or registered by the user.

    A name is looked up when the option is validated, after the configuration and its plug-ins have run.

    Attributes:
        option: the option, in the message about an unknown name.
        known: returns the names that may be chosen.
    """

    option: str
    known: Callable[[], list[str]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": self.known()}

    def check(self, name: str) -> str:
        """Return a known name; raise ValueError otherwise."""
        if name not in self.known():
            raise ValueError(unknown(self.option, name, self.known()))
        return name


ModelName = Annotated[str, NameOf("model_name", lambda: known_names("model_name"))]
LinkName = Annotated[str, NameOf("exit_link", lambda: known_names("exit_link"))]
ScoreName = Annotated[
    str, NameOf("exit_score", lambda: [name for name in known_names("exit_score") if name != "fixed"])
]
ExitLossStrategy = Annotated[str, NameOf("exit_loss_strategy", loss_strategies)]
