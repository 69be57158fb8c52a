"""Search spaces for tests: hypothesis strategies, and a few by name."""

from __future__ import annotations

from hypothesis import strategies as st

from velodrome.search.domains import Choice, Domain, Float, Int
from velodrome.search.space import Space
from velodrome.types import ParamValue

NAMES = st.text("abcxyz_", min_size=1, max_size=6)
OPTIONS = st.one_of(
    st.booleans(), st.none(), st.integers(-5, 5), st.floats(-5, 5).filter(lambda x: x != int(x)), st.text(max_size=3))


@st.composite
def floats(draw: st.DrawFn) -> Float:
    log = draw(st.booleans())
    low = draw(st.floats(1e-9, 1e3) if log else st.floats(-1e6, 1e6))
    high = low + draw(st.floats(0, 1e6))
    step = draw(st.none() | st.sampled_from([0.1, 0.25, 1.0, 1e-3, 7.5]))
    return Float(low, high, log=log, step=step)


@st.composite
def ints(draw: st.DrawFn) -> Int:
    log = draw(st.booleans())
    low = draw(st.integers(1, 100) if log else st.integers(-(2**53), 2**53 - 1000))
    return Int(low, low + draw(st.integers(0, 1000)), log=log, step=draw(st.integers(1, 10)))


def choices(inside: st.SearchStrategy[Domain] | None = None) -> st.SearchStrategy[Choice]:
    options = st.lists(OPTIONS, min_size=1, max_size=4, unique_by=lambda o: (isinstance(o, bool), o))
    if inside is None:
        return options.map(lambda o: Choice(*o))
    children = st.dictionaries(NAMES, inside, max_size=3)
    branches = st.dictionaries(NAMES.map("b_".__add__), children, min_size=1, max_size=3)
    return st.tuples(options, branches).map(_with_branches).filter(_is_valid)


def domains() -> st.SearchStrategy[Domain]:
    return st.recursive(floats() | ints() | choices(), choices, max_leaves=6)


def spaces() -> st.SearchStrategy[Space]:
    return st.dictionaries(NAMES, domains(), max_size=4).map(Space)


def small_spaces() -> st.SearchStrategy[Space]:
    """Spaces with 1 to 300 configurations."""
    few = st.builds(lambda low, n: Int(low, low + n), st.integers(-5, 5), st.integers(0, 3))
    inside: st.SearchStrategy[Domain] = st.recursive(few | choices(), choices, max_leaves=3)
    drawn = st.dictionaries(NAMES, inside, min_size=1, max_size=3).map(Space)
    return drawn.filter(lambda s: (s.cardinality or 999) <= 300)


def _with_branches(parts: tuple[list[ParamValue], dict[str, dict[str, Domain]]]) -> Choice:
    options, branches = parts
    return Choice(*(o for o in options if o not in branches), **branches)


def _is_valid(choice: Choice) -> bool:
    """Two branches may have drawn two domains for one name."""
    names: dict[str, Domain] = {}
    return all(names.setdefault(name, d) == d for branch in choice.branches for name, d in branch)


MIXED = Space(
    lr=Float(1e-5, 1e-1, log=True), width=Int(16, 256, log=True), depth=Int(1, 8), dropout=Float(0, 0.5, step=0.1),
    act=Choice("relu", "gelu"), bias=Choice(True, False),
)
CONDITIONAL = Space(
    lr=Float(1e-5, 1e-1, log=True),
    optimizer=Choice("none", adam={"beta1": Float(0.8, 0.99), "decay": Float(0, 1)},
                     sgd={"decay": Float(0, 1), "nesterov": Choice("no", yes={"momentum": Float(0.5, 0.99)})}),
)
CONSTRAINED = Space(width=Int(16, 256), depth=Int(1, 32), constraints=["width * depth <= 1024"])
DISCRETE = Space(a=Int(0, 3), b=Choice("x", "y", z={"c": Int(0, 2)}))
