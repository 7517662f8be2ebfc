"""What evaluates the expressions of a data configuration: weaver where it is installed, else our few lines.

With weaver, functions that a user has registered with it work too.
"""

from importlib.util import find_spec

if find_spec("weaver") is not None:
    from weaver.utils.data.eval_utils import _eval_expr as value_of
    from weaver.utils.data.eval_utils import _get_data_var_names as names_in
    from weaver.utils.data.preprocess import _build_new_variables as with_variables
else:
    from phaze_ee.data.plain_evaluation import names_in, value_of, with_variables

__all__ = ["names_in", "value_of", "with_variables"]
