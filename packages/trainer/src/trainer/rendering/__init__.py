"""From a conversation to token ids and to what of them is learnt; and the proofs and pictures of it."""
