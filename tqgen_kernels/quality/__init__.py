"""What a cache does to a model's answers.

teacher     runs a given text through a model and a cache, as decode would see it
perplexity  of a text, with any cache
agreement   KL divergence, top-1 and greedy agreement against the fp16 cache
passkey     does the model still find five digits that a long text hides
contenders  the caches that are compared: fp16, mlx-lm's quantised cache, TurboQuant schemes
evaluate    all of it, one unit at a time, resumable
report      table, JSON and plot
"""
