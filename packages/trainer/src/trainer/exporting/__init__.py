"""From a run to a checkpoint folder that everybody opens: weights in shards, tokenizer, template, where texts end."""
