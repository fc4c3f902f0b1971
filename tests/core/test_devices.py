"""The type to compute in, and copies of the state on all devices."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.core.devices import compute_dtype, replicate, unreplicate
from tlqa_jax.errors import UserError


@pytest.mark.parametrize("platform, capability, dtype", [
    ("cpu", None, jnp.float32),
    ("tpu", None, jnp.bfloat16),
    ("gpu", "7.5", jnp.float32),
    ("gpu", "8.0", jnp.bfloat16),
    ("gpu", "12.0", jnp.bfloat16),
    ("gpu", "gfx803", jnp.float32),
    ("gpu", "gfx90a", jnp.bfloat16),
    ("gpu", "gfx1100", jnp.bfloat16),
    ("gpu", "", jnp.float32),
])  # fmt: skip
def test_bfloat16_where_the_hardware_has_it(platform, capability, dtype, monkeypatch):
    device = SimpleNamespace(platform=platform, **({} if capability is None else {"compute_capability": capability}))
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert compute_dtype("auto") == dtype


def test_a_dtype_that_is_asked_for():
    assert compute_dtype("bfloat16") == jnp.bfloat16 and compute_dtype("float32") == jnp.float32
    with pytest.raises(UserError, match=r'--dtype is "float16" \(T5 overflows in it\): use auto, bfloat16 or float32'):
        compute_dtype("float16")
    with pytest.raises(UserError, match='--dtype is "int8": use auto'):
        compute_dtype("int8")


def test_a_donated_replica_leaves_what_it_was_made_of():
    original = {"jax": jnp.arange(5.0), "numpy": np.arange(5.0, dtype=np.float32)}
    once = replicate(original)
    again = replicate(once)
    step = jax.pmap(lambda state, x: state, in_axes=(None, 0), out_axes=None, donate_argnums=0)
    for replica in (once, again):
        assert replica["jax"].shape == (5,) and len(replica["jax"].addressable_shards) == 8
        assert unreplicate(replica)["numpy"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
        step(replica, np.zeros(8))
        assert replica["jax"].is_deleted()
        assert original["jax"].tolist() == original["numpy"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
