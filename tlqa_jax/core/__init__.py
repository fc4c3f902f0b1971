"""Core: functions of arrays that models and training programs share.

In reading order:

    masks.py               attention masks: padding, causal, segments
    relative_positions.py  T5's relative position buckets
    dropout.py             dropout with cheap random bits
    losses.py              cross-entropy as (sum, weight)
    precision.py           sums in float32 at least
    devices.py             AXIS, replicate, unreplicate, compute_dtype: state on all devices
"""
