"""Whether a product is fused with a sum, so that it is not rounded: said at each launch, as Triton's default changes.

Products of matrices are fused in either case.
"""

FUSED = {"enable_fp_fusion": True}
# For small differences of large numbers, such as masses and distances, which torch computes without fusing.
AS_TORCH = {"enable_fp_fusion": False}
