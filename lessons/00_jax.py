# %% [markdown]
# # Lesson 0: JAX in 40 minutes
#
# **Time** 40 minutes, of which the computer needs a few seconds.
#
# **Know first** Python and numpy: arrays, shapes, broadcasting. What a derivative is. No JAX, no neural network.
#
# **You will be able to**
# - say what a pure function is, and why JAX needs one;
# - compile a function with `jit`, and say when it is compiled again;
# - read and write an `einsum`;
# - differentiate with `grad`, with respect to a whole dictionary of arrays;
# - write a function for one example and run it on a batch with `vmap`;
# - draw random numbers with keys, and see where the other lessons keep their parameters.

# %%
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib import pyplot as plt

from tlqa_jax.lessons import SMOKE, jax_basics as check, show
from tlqa_jax.models.functional import as_function

jax.config.update("jax_default_matmul_precision", "float32")  # a TPU would multiply in bfloat16: too coarse to compare

# %% [markdown]
# ## numpy, nearly
#
# `jax.numpy` has the functions of numpy under the same names, and runs them on a CPU, a GPU or a TPU. Two things are
# different. Numbers are float32 unless you ask for something else. And **an array never changes**. To "change" an entry
# is to make a new array:

# %%
x = jnp.arange(5.0)
print(x.dtype, jnp.sum(x), "on", x.devices())
try:
    x[0] = 7.0
except TypeError as error:
    print("TypeError:", str(error)[:60], "...")
y = x.at[0].set(7.0)
print("old", x, " new", y)
assert x[0] == 0 and y[0] == 7

# %% [markdown]
# ## Pure functions
#
# Everything that JAX can do for you, it does to *functions*: compile them, differentiate them, run them on a batch. For
# that it has to know a function completely. A function is **pure** if its result depends on its arguments and on
# nothing else, and if it does nothing but return its result. How does JAX get to know a function? It calls it once with
# **tracers** instead of numbers, which have a shape and a type but no value, and writes down what happens to them. This
# is called *tracing*.
#
# **The wrong version first**: a function that counts its calls and reads a global variable.

# %%
calls, scale = [], 2.0


@jax.jit
def impure(x):
    calls.append("called")  # a side effect: it happens while JAX traces, and never again
    return scale * x  # `scale` is read while JAX traces: its value at that moment is kept


first = impure(jnp.ones(3))
scale = 100.0
second = impure(jnp.ones(3))
print("first", first, " second", second, " calls", len(calls))
assert len(calls) == 1 and (first == second).all()  # one call was counted, and the new scale has no effect

# %% [markdown]
# No error, and two wrong results. The rule is simple: **what a function needs comes in as an argument, what it makes
# goes out as its result**. In this course the parameters of a model, the state of an optimizer and the random key are
# all arguments.
#
# ## `jit`: compile once, run often
#
# Without `jit` JAX carries out one operation after the other. `jax.jit(function)` compiles all of them into one program
# when it is called first, and keeps it. What it keeps is good for arguments of the same **shapes and types**. For other
# shapes it traces and compiles again:

# %%
traced = []


@jax.jit
def normalize(x):
    traced.append(x.shape)  # an impure line on purpose: it shows when JAX traces
    x = x - x.mean()
    return x / jnp.sqrt((x**2).mean() + 1e-6)


for shape in [(100,), (100,), (200,), (100,)]:
    normalize(jnp.ones(shape))
print("traced for", traced)
assert traced == [(100,), (200,)]

# %% [markdown]
# This is why the texts of a batch are padded to one length in all the other lessons: another length is another
# compilation. And because the *values* are not known while JAX traces, a Python `if` cannot look at them. **The wrong
# version first**:

# %%
@jax.jit
def relu_with_if(x):
    return x if x > 0 else 0.0


try:
    relu_with_if(jnp.float32(3.0))
except jax.errors.TracerBoolConversionError as error:
    print("TracerBoolConversionError:", str(error).splitlines()[0][:90])

relu = jax.jit(lambda x: jnp.where(x > 0, x, 0.0))  # both values are computed, and one of them is taken
print(relu(jnp.array([-1.0, 3.0])))
assert (relu(jnp.array([-1.0, 3.0])) == jnp.array([0.0, 3.0])).all()

# %% [markdown]
# One more surprise when you measure: JAX does not wait. A call returns at once, and the device works on.
# `block_until_ready()` waits for the result.

# %%
def slow(x):
    for _ in range(20):
        x = jnp.tanh(x @ x.T @ x / 1000)
    return x


matrix = jnp.ones((50, 50)) if SMOKE else jnp.ones((300, 300))
fast = jax.jit(slow)
for name, function in [("without jit", slow), ("jit, first call", fast), ("jit, second call", fast)]:
    begin = time.perf_counter()
    function(matrix).block_until_ready()
    print(f"{name:18} {1000 * (time.perf_counter() - begin):7.1f} ms")

# %% [markdown]
# ## `einsum`: products that say what they do
#
# A matrix product multiplies and adds. In a transformer there are products with four axes: batch, head, position, size.
# With `reshape` and `transpose` nobody can read them. **Einsum** (Einstein's summation) gives each axis a letter:
#
# | | |
# |---|---|
# | `einsum("ij,jk->ik", a, b)` | matrix product: j is in both and not in the result, so it is **summed over** |
# | `einsum("ij->ji", a)` | transpose: the letters in another order |
# | `einsum("i,i->", a, b)` | dot product: nothing is left after the arrow |
# | `einsum("i,j->ij", a, b)` | outer product: nothing is summed over |
# | `einsum("bij,bjk->bik", a, b)` | a matrix product for each b: b is in both **and** in the result |
#
# The rule: multiply what has the same letters, and sum over each letter that is not behind the arrow. In loops:

# %%
a, b = np.random.default_rng(0).standard_normal((2, 3, 3))
by_loops = np.zeros((3, 3))
for i in range(3):
    for k in range(3):
        for j in range(3):  # the letter that is not behind the arrow
            by_loops[i, k] += a[i, j] * b[j, k]
assert np.allclose(by_loops, np.einsum("ij,jk->ik", a, b))
assert np.allclose(by_loops, a @ b)

# %% [markdown]
# ## Exercise 1: a projection for each head
#
# `x` [B L D] are the vectors of B texts with L tokens. `weights` [D H K] turn a vector of D numbers into H vectors of K
# numbers, one for each head. The result is [B H L K]: text, head, token, number. (This is the first line of attention
# in lesson 3.)

# %%
def project(x: jax.Array, weights: jax.Array) -> jax.Array:
    # Hint: one einsum. Which letter is in both, and not in the result?
    # Hint: `x` is "bld", `weights` are "dhk". After the arrow stand the axes of the result, in their order:
    # `jnp.einsum("bld,dhk->...", x, weights)`.
    # BLANK
    return jnp.einsum("bld,dhk->bhlk", x, weights)
    # END BLANK


check.project(project)

# %% [markdown]
# ## `grad`: the derivative is a function
#
# `jax.grad(function)` is a new function: it returns the derivative of the first with respect to its first argument. The
# result of the first function must be one number, such as a loss.

# %%
square = lambda x: x**2
slope = jax.grad(square)
print("x² at 3:", square(3.0), "  its slope:", slope(3.0), "  the slope of the slope:", jax.grad(slope)(3.0))
assert slope(3.0) == 6.0

# %% [markdown]
# Parameters of a model are not one array but many. JAX calls anything made of dictionaries, lists, tuples and arrays a
# **pytree**: a tree whose leaves are arrays. `grad` takes a pytree and returns one of the same form, and `jax.tree.map`
# applies a function leaf by leaf, to one tree or to several of the same form:

# %%
params = {"layer": {"weights": jnp.array([1.0, 2.0]), "bias": jnp.array(0.5)}, "scale": jnp.array(3.0)}


def loss(params):
    layer = params["layer"]
    return params["scale"] * (layer["weights"] ** 2).sum() + layer["bias"]


value, gradient = jax.value_and_grad(loss)(params)  # both at once
print("loss", value, "\ngradient", gradient)
print("shapes", jax.tree.map(jnp.shape, params), " leaves", len(jax.tree.leaves(params)))
assert gradient["layer"]["weights"].tolist() == [6.0, 12.0]  # 2 * scale * weights

# %% [markdown]
# ## Exercise 2: a step of gradient descent
#
# Return new parameters: each leaf minus `rate` times its gradient. `loss(params)` is one number.

# %%
def descend(loss, params: dict, rate: float) -> dict:
    # Hint: the gradient is a tree of the same form as `params`, so both can be walked through together, leaf by leaf.
    # Hint: `gradient = jax.grad(loss)(params)`, then `jax.tree.map(lambda p, g: ..., params, gradient)`.
    # BLANK
    gradient = jax.grad(loss)(params)
    return jax.tree.map(lambda p, g: p - rate * g, params, gradient)
    # END BLANK


check.descend(descend)

# %% [markdown]
# That is training. Let us fit a line to points, and compare with the exact solution:

# %%
rng = np.random.default_rng(1)
inputs = rng.uniform(-2, 2, 40).astype(np.float32)
targets = (1.5 * inputs - 0.7 + 0.4 * rng.standard_normal(40)).astype(np.float32)


def squared_error(params):
    return ((params["slope"] * inputs + params["intercept"] - targets) ** 2).mean()


line = {"slope": jnp.array(0.0), "intercept": jnp.array(0.0)}
step = jax.jit(lambda params: descend(squared_error, params, 0.1))
losses, lines = [], []
for _ in range(60):
    losses.append(float(squared_error(line)))
    lines.append({name: float(value) for name, value in line.items()})
    line = step(line)
exact = np.polyfit(inputs, targets, 1)
print("found ", {name: round(float(value), 3) for name, value in line.items()}, " exact", exact.round(3))
assert np.allclose([line["slope"], line["intercept"]], exact, atol=1e-2)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
left.plot(losses)
left.set(xlabel="step", ylabel="mean squared error", title="The loss falls", ylim=(0, None))
right.plot(inputs, targets, ".", color="tab:gray")
ends = np.array([-2.0, 2.0])
for number in (0, 2, 5, 59):
    right.plot(ends, lines[number]["slope"] * ends + lines[number]["intercept"], label=f"after {number} steps")
right.set(xlabel="input", ylabel="target", title="The line that is found")
right.legend(fontsize=8)
show(figure, "00_descent")

# %% [markdown]
# ## `vmap`: write it for one, run it on many
#
# It is easy to write a function for *one* example, and error-prone to write it for a batch: every axis moves.
# `jax.vmap(function)` makes the second of the first. It takes arrays with one axis more, runs the function on every
# slice at once, and puts the results side by side. `in_axes` says which axis is the new one, for each argument; `None`
# means that this argument is the same for all.

# %%
def distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Two vectors [D] -> one number."""
    return jnp.sqrt(((a - b) ** 2).sum())


points = jnp.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
print("to the point behind:", jax.vmap(distance)(points[:-1], points[1:]))
print("to the first point: ", jax.vmap(distance, in_axes=(0, None))(points, points[0]))
assert jax.vmap(distance, in_axes=(0, None))(points, points[0]).tolist() == [0.0, 5.0, 10.0]

# %% [markdown]
# (`jax.pmap` in lesson 5 is the same idea with devices: each slice is computed on a device of its own.)
#
# ## Exercise 3: all pairs
#
# `function` takes two vectors [D] and returns one number. Return the table [N M] of `function(a[i], b[j])`.

# %%
def all_pairs(function, a: jax.Array, b: jax.Array) -> jax.Array:
    # Hint: vmap twice. Over b alone: for one row of a, the M numbers of a row of the table. Then vmap that over a.
    # Hint: `one_row = jax.vmap(function, in_axes=(None, 0))`. Which `in_axes` does the vmap of `one_row` need?
    # BLANK
    one_row = jax.vmap(function, in_axes=(None, 0))
    return jax.vmap(one_row, in_axes=(0, None))(a, b)
    # END BLANK


check.all_pairs(all_pairs)

# %%
table = all_pairs(distance, points, points)
print(table)
assert (table == table.T).all() and (jnp.diag(table) == 0).all()

# %% [markdown]
# ## Keys: random numbers without memory
#
# numpy's generator remembers where it is, and each call changes it. That is a side effect, so in JAX it cannot be. A
# JAX function that needs random numbers gets a **key**, and the same key always gives the same numbers:

# %%
key = jax.random.key(0)
print(jax.random.normal(key, (3,)), jax.random.normal(key, (3,)), "are the same numbers")
one, other = jax.random.split(key)  # two new keys from one
print(jax.random.normal(one, (3,)), jax.random.normal(other, (3,)), "are not")
print(jax.random.normal(jax.random.fold_in(key, 7), (3,)), "a key from a key and a number")
assert (jax.random.normal(key, (3,)) == jax.random.normal(key, (3,))).all()

# %% [markdown]
# So **use a key once**. If you need several random arrays, make several keys from it first, with `split` or `fold_in`.
# If you use one key twice, the two "random" arrays are equal, and no error tells you.
#
# ## Exercise 4: several random arrays
#
# `shapes` is a dictionary {name: shape}. Return {name: array} with numbers from the standard normal distribution,
# independent of each other.

# %%
def random_arrays(key: jax.Array, shapes: dict) -> dict:
    # Hint: one key for each array, and all of them made from `key` before anything is drawn.
    # Hint: `jax.random.split(key, len(shapes))` are the keys, `zip(keys, shapes.items())` puts them together, and
    # `jax.random.normal(its_key, shape)` draws.
    # BLANK
    keys = jax.random.split(key, len(shapes))
    return {name: jax.random.normal(its, shape) for its, (name, shape) in zip(keys, shapes.items())}
    # END BLANK


check.random_arrays(random_arrays)

# %% [markdown]
# ## Where the parameters live: `nnx`
#
# A model has hundreds of arrays. **Flax** is a library that makes and names them. Its `nnx.Module` is a Python object
# with arrays as attributes. In this course a module holds parameters *and nothing else*: no random generator, no cache.
# So it can be taken apart into a pure function and a dictionary, and from there on all is plain JAX:

# %%
class Line(nnx.Module):
    """The line from above, as a module."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.slope = nnx.Param(jax.random.normal(rngs.params(), ()))
        self.intercept = nnx.Param(jnp.zeros(()))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.slope[...] * x + self.intercept[...]  # [...] is the array itself


apply, fresh = as_function(Line(rngs=nnx.Rngs(0)))  # Rngs(0): a key for each parameter, made from the number 0
print("parameters:", fresh)
trained = fresh
for _ in range(60):
    trained = descend(lambda params: ((apply(params, inputs) - targets) ** 2).mean(), trained, 0.1)
print("trained:   ", trained)
assert np.allclose([trained["slope"], trained["intercept"]], exact, atol=1e-2)

# %% [markdown]
# This is the whole pattern of the course: a model, `as_function`, a loss, `jax.grad`, a step. A T5 has a larger
# dictionary, and the optimizer is Adam instead of your `descend`. Nothing else is different.
#
# ## What you know now
#
# - A pure function gets all that it needs as arguments. Side effects happen while JAX traces, and not again.
# - `jit` compiles once for each set of shapes; values are not known then, so `jnp.where` takes the place of `if`.
# - In an einsum, each axis has a letter, and letters that are not behind the arrow are summed over.
# - `grad` gives the derivative with respect to a pytree, in the form of that pytree.
# - `vmap` turns a function of one example into a function of a batch.
# - A key is used once. New keys come from `split` and `fold_in`.
# - A module holds parameters; `as_function` makes a pure function and a dictionary of it.
#
# *Read on:* JAX's documentation, "Key concepts", "Just-in-time compilation" and "The Sharp Bits"
# (https://docs.jax.dev/); Flax, "NNX basics" (https://flax.readthedocs.io/).

# %% [markdown]
# ## Bonus: momentum
#
# Write `descend_with_momentum(loss, params, velocity, rate, momentum)`. It returns new parameters and a new velocity.
# The velocity is `momentum` times the old one, plus the gradient; the parameters move by minus `rate` times the new
# velocity. Fit the line with it, at the same rate and a momentum of 0.5, and draw its loss beside the one above. With a
# momentum of 0 every step must be exactly that of `descend`.
#
# > The velocity is a tree like `params`. It begins as `jax.tree.map(jnp.zeros_like, params)`.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** A function under `jit` has the line `print(x)`. You call it a hundred times, always with an array of the same
# shape. How often does it print, and does it print numbers?
#
# > Once, and no numbers. It prints while JAX traces, and then `x` is a tracer with a shape and a type.
# > (`jax.debug.print` prints in each call.)
#
# **2.** Your texts have 900 different lengths, and the step of your training is under `jit`. Why is the first epoch so
# slow, and what would you change?
#
# > Each new shape is traced and compiled again: 900 compilations. Pad the texts to one length, or to a few.
#
# **3.** What would change in the result if you wrote `einsum("bij,bjk->ik", a, b)` instead of `einsum("bij,bjk->bik",
# a, b)`?
#
# > b is not behind the arrow any more, so it is summed over. The result is one matrix: the sum of the products of all
# > b.
#
# **4.** `params` is a dictionary with three arrays of 10, 20 and 30 numbers. What does `jax.grad(loss)(params)` return?
# And what happens if `loss` returns five numbers?
#
# > A dictionary with the same three names, and arrays of 10, 20 and 30 numbers. With five numbers there is an error:
# > `grad` needs a function with one number as its result.
#
# **5.** Somebody draws the noise of every training step from the same key. Which error message do they get, and what is
# wrong?
#
# > None. The noise is the same in every step, so it does not average out: it is a constant, and the model can get used
# > to it.
