"""What a conversation becomes for the model: token ids, and for each of them why it is there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The label of a position that is not learnt, as PyTorch's cross entropy ignores it.
IGNORED = -100


class Reason(IntEnum):
    """Why a token is in an example."""

    BOS = 0
    #: ``<|user|>\n``, ``<|assistant|>\n`` and whatever else a template writes around contents.
    MARKER = 1
    SYSTEM = 2
    USER = 3
    ASSISTANT = 4
    EOS = 5
    #: The newline that a template writes behind a message.
    NEWLINE = 6
    PAD = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One example as the model reads it; all arrays have the shape (tokens,)."""

    ids: NDArray[np.int32]
    #: A Reason for each token.
    reasons: NDArray[np.uint8]
    #: Whether the token is learnt.
    supervised: NDArray[np.bool_]
    #: Tokens that the length limit cut off, and how many of them would have been learnt.
    truncated: int = 0
    truncated_supervised: int = 0
    #: Whether the ids differ from those of the whole text encoded at once, because a token would have reached
    #: across the edge of what is learnt.
    split: bool = False

    @property
    def labels(self) -> NDArray[np.int32]:
        """The ids where they are learnt, IGNORED elsewhere."""
        import numpy as np

        return np.where(self.supervised, self.ids, np.int32(IGNORED)).astype(np.int32)
