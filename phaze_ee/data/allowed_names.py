"""The names that expressions of a data configuration may use in addition to the names of columns.

They compute numbers from numbers. None of them reads or writes a file, or runs code that it is given. Those that make
an array much larger than their arguments get the size as an argument, which :mod:`phaze_ee.data.expressions` bounds.
None makes an array of Python objects from numbers, and only ``len`` gives a Python integer.
"""

from collections.abc import Mapping
from difflib import get_close_matches


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODULES = {"np": "np", "numpy": "np", "ak": "ak", "awkward": "ak", "math": "math"}
CONSTANTS: Mapping[str, frozenset[str]] = {
    "np": _names("e inf nan pi"),
    "ak": frozenset(),
    "math": _names("e inf nan pi tau"),
}
# types of numbers, as np.float32 or as text, in conversions only: among numbers they would make arrays of objects
TYPES = _names(
    """
    bool bool_ float16 float32 float64 int16 int32 int64 int8 uint16 uint32 uint64 uint8
    """
)
FUNCTIONS: Mapping[str, frozenset[str]] = {
    "np": _names(
        """
        abs absolute add all amax amin any arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax
        argmin argsort array asarray average bitwise_and bitwise_count bitwise_not bitwise_or bitwise_xor cbrt
        ceil clip column_stack concatenate copysign cos cosh count_nonzero cross cumprod cumsum deg2rad degrees
        diff digitize divide equal exp exp2 expand_dims expm1 fabs fix flatnonzero flip float32 float64
        float_power floor floor_divide fmax fmin fmod full full_like gradient greater greater_equal heaviside
        hstack hypot int32 int64 interp invert isclose isfinite isin isinf isnan left_shift less less_equal
        linspace log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor max maximum mean
        median min minimum mod multiply nan_to_num nanmax nanmean nanmedian nanmin nanstd nansum negative
        not_equal ones ones_like percentile positive power prod ptp quantile rad2deg radians ravel reciprocal
        remainder repeat right_shift rint roll round searchsorted select sign signbit sin sinh sort sqrt square
        squeeze stack std subtract sum take take_along_axis tan tanh true_divide trunc unwrap var vstack where
        zeros zeros_like
        """
    ),
    "ak": _names(
        """
        all any argcartesian argcombinations argmax argmin argsort broadcast_arrays cartesian combinations
        concatenate corr count count_nonzero covar drop_none fill_none firsts flatten from_numpy from_regular
        full_like is_none isclose local_index mask max mean min moment nan_to_none nan_to_num nanargmax nanargmin
        nanmax nanmean nanmin nanprod nanstd nansum nanvar num ones_like pad_none prod ptp ravel round run_lengths
        singletons softmax sort std sum to_numpy to_packed to_regular unflatten unzip values_astype var where
        zeros_like zip
        """
    ),
    "math": _names(
        """
        acos acosh asin asinh atan atan2 atanh cbrt copysign cos cosh degrees dist erf erfc exp exp2 expm1 fabs fmod
        fsum gamma hypot isclose isfinite isinf isnan lgamma log log10 log1p log2 pow radians remainder sin sinh
        sqrt tan tanh
        """
    ),
}
# weaver.utils.data.tools, without what serves weaver's own padding of whole tables
HELPERS = _names(
    """
    _batch_argsort _batch_gather _batch_knn _batch_permute_and_drop_indices _batch_permute_indices _clip _concat
    _hash _knn _p4_from_ptetaphie _p4_from_ptetaphim _p4_from_pxpypze _pad _repeat_pad _stack len
    """
)
# of four-vectors in the package vector, and of records
ATTRIBUTES = _names(
    """
    beta costheta E e energy Et et eta gamma M m m2 mag mag2 mass mass2 Mt mt mt2 p p2 phi pt pt2 px py pz
    rapidity rho rho2 t t2 tau tau2 theta transverse_energy transverse_mass x y z
    """
)
# of arrays and of four-vectors
METHODS = _names(
    """
    all any astype boost_beta3 boost_p4 boostCM_of clip cross deltaangle deltaeta deltaphi deltaR deltaR2
    deltaRapidityPhi dot is_lightlike is_spacelike is_timelike max mean min prod rotateX rotateY rotateZ round
    std sum to_beta3 unit var
    """
)
# of all these functions
KEYWORDS = _names(
    """
    a_max a_min allow_missing append ascending atol axis clip counts ddof decimals depth_limit drop_rate_max
    drop_rate_min dtype endpoint energy equal_nan eta fields fill_value initial k keepdims left mask_identity mass
    max maxlen maxlen_q maxlen_s min min_elements n nan neginf nested num phi posinf prepend pt px py pz q
    random_permute repeats replacement right rtol shape side stable start step stop target valid_when value weight x
    """
)
# what to write for names that are often tried
_INSTEAD = {
    "abs": "np.abs",
    "all": "ak.all",
    "any": "ak.any",
    "bool": "ak.values_astype(…, 'bool')",
    "float": "ak.values_astype(…, 'float32')",
    "int": "ak.values_astype(…, 'int64')",
    "max": "np.maximum or ak.max",
    "min": "np.minimum or ak.min",
    "round": "np.round",
    "sum": "ak.sum",
    "math.floor": "np.floor",
    "math.ceil": "np.ceil",
}
# of awkward 0 and uproot_methods, for which the oldest configurations are written: classes and methods
_OLD = {
    "argmax": "ak.argmax(x, axis=1, keepdims=True)",
    "argmin": "ak.argmin(x, axis=1, keepdims=True)",
    "content": "ak.flatten(x)",
    "counts": "ak.num(x)",
    "cross": "ak.cartesian([x, y])",
    "fillna": "ak.fill_none(x, 0)",
    "flatten": "ak.flatten(x)",
    "from_ptetaphi": "_p4_from_ptetaphie(pt, eta, phi, energy)",
    "from_ptetaphie": "_p4_from_ptetaphie(pt, eta, phi, energy)",
    "from_ptetaphim": "_p4_from_ptetaphim(pt, eta, phi, mass)",
    "from_p3": "_p4_from_pxpypze(px, py, pz, energy)",
    "from_cartesian": "_p4_from_pxpypze(px, py, pz, energy)",
    "fromcounts": "ak.unflatten(x, counts)",
    "fromiter": "np.array",
    "fromoffsets": "ak.unflatten(x, counts)",
    "ones_like": "ak.ones_like(x)",
    "pad": "ak.pad_none(x, length, clip=True)",
    "regular": "ak.to_numpy(ak.pad_none(x, length, clip=True))",
    "zeros_like": "ak.zeros_like(x)",
    "zip": "ak.zip({'x': x, 'y': y})",
}


def instead_of(name: str) -> str | None:
    """Return the name to write in place of one that is not listed, as far as it can be guessed.

    Args:
        name: as it is written: ``abs``, ``np.lgo`` or ``x.layout``.
    """
    first, _, last = name.rpartition(".")
    if f"{name}.".split(".")[1] == "random" or first.startswith("random"):
        return "a function of columns, as event % 10 (random numbers would differ from run to run)"
    if first.endswith("JaggedArray") and last in FUNCTIONS["ak"] and last not in _OLD:
        return f"ak.{last}"
    if first.endswith("JaggedArray") or first.startswith("uproot_methods") or (last in _OLD and first not in MODULES):
        return _OLD.get(last)
    if name in _INSTEAD or first not in MODULES:
        return _INSTEAD.get(name)
    known = FUNCTIONS[MODULES[first]] | CONSTANTS[MODULES[first]]
    near = get_close_matches(last, sorted(known), n=1, cutoff=0.65)
    return f"{first}.{near[0]}" if near else None
