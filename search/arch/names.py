"""Names that are checked before torch is loaded."""

PROXIES = ("synflow", "naswot", "jacob_cov", "grad_norm", "snip", "params", "flops")
"""The zero-cost proxies of ``proxies``."""

STAGES = ("supernet", "inherited", "alone")
"""The stages of weight sharing (``stages``)."""
