"""What values of several requests have in common: their bounds."""

from typing import Annotated

from pydantic import Field

Limit = Annotated[int, Field(ge=1, le=1_000)]
Offset = Annotated[int, Field(ge=0, le=10_000_000)]
Place = Annotated[str, Field(min_length=1, max_length=8_000)]
Text = Annotated[str, Field(max_length=1_000)]
Selector = Annotated[str, Field(max_length=4_000)]
Name = Annotated[str, Field(min_length=1, max_length=255)]
SeriesId = Annotated[int, Field(ge=1, le=2**53)]
