"""What a proof comes to: a sentence, the number that was found, and the largest that it may be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Something that holds or does not, on the model and data that it was tried on."""

    #: ``ZeRO 1 and 2 give the same weights``.
    text: str
    #: The difference that was found, and the bound that it may reach; a bound of 0 means to the last bit.
    found: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the difference is within its bound; one that is no number is not."""
        return self.found <= self.bound

    def __str__(self) -> str:
        wanted = "no difference" if self.bound == 0 else f"at most {self.bound:.0e}"
        return f"{'holds' if self.holds else 'FAILS'}  {self.text}: {self.found:.1e} ({wanted})"
