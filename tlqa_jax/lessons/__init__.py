"""What the notebooks of `lessons/` import besides the library itself: `show`, `SMOKE`, and the checks of the exercises.

It lives in the package, and not beside the lessons, because a notebook opened alone in Colab has nothing but what pip
installed. One module per lesson, named as the lesson is: `from tlqa_jax.lessons import attention as check`.
"""

from tlqa_jax.lessons.checks import NotYet, compare, filled, right
from tlqa_jax.lessons.figures import SMOKE, show

__all__ = ["SMOKE", "NotYet", "compare", "filled", "right", "show"]
