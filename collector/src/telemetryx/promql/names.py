"""What is evaluated, by name: the table that the parser checks against, and that the documentation lists."""

from typing import Final

NAME: Final = "__name__"

#: Of a range: one value a series and evaluation time.
RANGE_FUNCTIONS: Final = frozenset(
    {
        *("rate", "irate", "increase", "delta", "idelta", "deriv", "predict_linear", "changes", "resets"),
        *(f"{name}_over_time" for name in ("avg", "min", "max", "sum", "count", "last", "present", "absent")),
        *("stddev_over_time", "stdvar_over_time", "quantile_over_time"),
    }
)
#: Of each value.
ELEMENT_FUNCTIONS: Final = frozenset(
    {
        *("abs", "ceil", "floor", "exp", "ln", "log2", "log10", "sqrt", "sgn", "deg", "rad"),
        *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    }
)
#: Of a time in seconds; of the evaluation time when nothing is given.
DATE_FUNCTIONS: Final = frozenset(
    {
        *("minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"),
    }
)
OTHER_FUNCTIONS: Final = frozenset(
    {
        *("time", "pi", "timestamp", "scalar", "vector", "absent", "sort", "sort_desc", "round"),
        *("clamp", "clamp_min", "clamp_max", "label_replace", "label_join", "histogram_quantile"),
    }
)
FUNCTIONS: Final = RANGE_FUNCTIONS | ELEMENT_FUNCTIONS | DATE_FUNCTIONS | OTHER_FUNCTIONS
AGGREGATIONS: Final = frozenset(
    {
        *("sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "quantile", "topk", "bottomk"),
        "count_values",
    }
)
