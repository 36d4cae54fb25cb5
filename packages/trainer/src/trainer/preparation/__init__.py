"""Files of conversations tokenized once, ahead of training, into a folder that is mapped into memory."""
