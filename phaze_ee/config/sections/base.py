"""What all sections of a configuration share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, lt=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of all sections: no unknown names, no silent conversion of types, and immutable once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
